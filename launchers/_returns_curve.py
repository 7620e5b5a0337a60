"""Labelled and true returns of a job over its steps: a table that grows, and a drawing of it."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from ..encoders import pages
from ..rewards.labelling import LabelledEpisode
from ..rewards.watch import Event


# Episodes of a row.
_WINDOW = 100
_COLUMNS = ("steps", "episodes", "labelled_return", "true_success", "hits", "right_hits")


class ReturnsCurve:
    """Means of windows of 100 episodes in a CSV file, which a restart goes on with: less than a window is lost.

    Args:
      path: of the file.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._rows = _read(path)
        self._steps, self._episodes = self._rows[-1][:2] if self._rows else (0, 0)
        self._window: list[LabelledEpisode] = []

    def add(self, episode: LabelledEpisode, steps: int) -> None:
        """Takes an episode that ended after so many steps of all actors, counted from when this was made."""
        self._window.append(episode)
        if len(self._window) < _WINDOW:
            return
        hits = [episode for episode in self._window if episode.hit]
        self._episodes += len(self._window)
        row = (
            self._steps + steps,
            self._episodes,
            float(np.mean([episode.labelled_return for episode in self._window])),
            float(np.mean([episode.true_success for episode in self._window])),
            len(hits),
            sum(episode.true_success for episode in hits),
        )
        self._window = []
        new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(_COLUMNS)
            writer.writerow(row)
        self._rows.append(row)

    def draw(self, path: pathlib.Path, events: Sequence[Event]) -> None:
        """Writes a PNG of the table, alarms marked, where it has two rows or more."""
        if len(self._rows) < 2:
            return
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        steps, episodes, labelled, true, hits, right = np.array(self._rows, float).T
        with rc_context(pages.STYLE):
            figure = Figure(figsize=(6.4, 5.0), layout="constrained")
            above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
            above.plot(steps, labelled, color="#1f5fd0", label="labelled return")
            above.plot(steps, true, color="#22252a", label="true success")
            with np.errstate(invalid="ignore", divide="ignore"):
                below.plot(steps, right / hits, color="#2a8c5a", label="first hits that are true")
            for event in events:
                if event.alarm:
                    at = float(np.interp(event.episode, episodes, steps))
                    for ax in (above, below):
                        ax.axvline(at, color="#c23b4b", linestyle=":", label=f"alarm: {event.kind}")
            below.set(xlabel="steps of all actors", ylim=(-0.02, 1.02))
            for ax in (above, below):
                ax.grid()
                ax.set_axisbelow(True)
                ax.legend(loc="best")
        pages.write(path, pages.png(figure))


def _read(path: pathlib.Path) -> list[tuple]:
    """The whole rows of the file; a last one that a kill left half-written is dropped from it."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        path.write_text("".join(lines))
    rows = list(csv.reader(lines))[1:]
    return [(int(a), int(b), float(c), float(d), int(e), int(f)) for a, b, c, d, e, f in rows]
