"""The hacking watch of a job: fed by a labeller, kept in the run directory, told in log, status and a drawing."""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from ..rewards import HackingWatch, WatchConfig
from ..rewards.labelling import LabelledEpisode
from ._returns_curve import ReturnsCurve
from .runs import write_bytes


_log = logging.getLogger(__name__)

_SAVE_EVERY = 500


def watch_config(model: Any) -> WatchConfig:
    """The settings for a reward model: where it has a card that knows of its first hits, they are tested too."""
    hits = getattr(getattr(model, "card", None), "first_hits", None)
    if hits is None:
        return WatchConfig()
    return WatchConfig(first_hit_precision=(hits.low, hits.high))


def draw_watches(run_directory: pathlib.Path) -> None:
    """Draws what the watches of a job saw, when it has ended: a labeller that is to stop has no time for that."""
    for path in sorted((run_directory / "labelling").glob("watch_*.json")):
        JobWatch(path).draw()


class JobWatch:
    """A `HackingWatch` that a restart goes on with.

    An episode's truth is whether the environment calls it a success, at its real end: what pays it is hidden, and may
    be on another scale.

    Args:
      path: a JSON file; what is there is gone on with, its settings included. Beside it are `<name>.csv` and
        `<name>.png` of labelled and true returns, the latter drawn at every alarm.
      config: of a new watch.
    """

    def __init__(self, path: pathlib.Path, config: WatchConfig | None = None):
        self._path = path
        self._watch = HackingWatch.from_json(path.read_text()) if path.exists() else HackingWatch(config)
        self._curve = ReturnsCurve(path.with_suffix(".csv"))
        self._unsaved = 0

    def observe(self, episodes: Sequence[LabelledEpisode], steps: int) -> None:
        """Takes the next episodes, in the order of time.

        Args:
          episodes: that have ended.
          steps: that actors have made by then, since this watch was made.
        """
        began = len(self._watch.events)
        for episode in episodes:
            true = float(episode.true_success)
            first_hit = episode.true_success if episode.hit else None
            self._watch.observe(episode.labelled_return, true, first_hit)
            self._curve.add(episode, steps)
        news = self._watch.events[began:]
        for event in news:
            _log.warning("reward hacking, episode %d: %s", event.episode, event.message)
        self._unsaved += len(episodes)
        if self._unsaved >= _SAVE_EVERY or news:
            self.save()
        if any(event.alarm for event in news):
            self.draw()

    def save(self) -> None:
        """Keeps what it knows."""
        write_bytes(self._path, self._watch.to_json().encode())
        self._unsaved = 0

    def draw(self) -> None:
        """Draws the returns so far, where there are any."""
        self._curve.draw(self._path.with_suffix(".png"), self._watch.events)

    def facts(self) -> dict[str, Any]:
        """For the status table: nothing until an alarm has sounded."""
        if self._watch.alarm:
            return {"alarm": "reward hacking"}
        return {"alarm": "over"} if self._watch.events else {}
