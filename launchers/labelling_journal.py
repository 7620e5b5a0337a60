"""What a labeller must still know of an actor's streams after it was killed."""

import logging
import os
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np


_log = logging.getLogger(__name__)
_SENT = struct.Struct("<qqq")
_NONE = (-1, -1)

Place = tuple[int, int]


class LabellingJournal:
    """The journal of one actor, in a directory of its own. Every file is whole or as it was before a process died.

    A bundle is at a *place*, (incarnation, number). The labeller writes down, in this order: the scores of a bundle,
    so that a second time makes the same copies of it whatever else the model is asked with it; each copy that replay
    has confirmed; and with `commit` that it is done, with all that the next bundle needs.

    Attributes:
      place: of the bundle that was committed last.
      streams: where the labeller's streams stood then (`EpisodeLabeller.state`), or None before the first.
      rows: the splicers' rows then, one dictionary a stream.
    """

    def __init__(self, directory: pathlib.Path):
        """Opens or begins it. One that cannot be read is begun anew, with a warning: then rows are lost."""
        directory.mkdir(parents=True, exist_ok=True)
        self._state, self._scores = directory / "state.npz", directory / "scores.npz"
        self._file = os.open(directory / "sent", os.O_RDWR | os.O_CREAT, 0o644)
        self.place: Place = _NONE
        self.streams: np.ndarray | None = None
        self.rows: list[dict[str, np.ndarray]] = []
        found = _read(self._state)
        if found:
            self.place, self.streams = _place(found), found["streams"]
            self.rows = _split(found)

    def is_new(self, place: Place) -> bool:
        """Whether a bundle comes after the last one that was committed."""
        return place > self.place

    def scores(self, place: Place) -> np.ndarray | None:
        """The scores `[E, T]` that were kept for a bundle."""
        found = _read(self._scores)
        return found["scores"] if found and _place(found) == place else None

    def keep_scores(self, place: Place, scores: np.ndarray) -> None:
        """Writes the scores `[E, T]` of a bundle down."""
        _write(self._scores, {"place": np.asarray(place, np.int64), "scores": scores})

    def sent(self, place: Place) -> int:
        """Copies of a bundle that replay is known to have."""
        data = os.pread(self._file, _SENT.size, 0)
        if len(data) < _SENT.size:
            return 0
        *of, count = _SENT.unpack(data)
        return count if tuple(of) == place else 0

    def note_sent(self, place: Place, count: int) -> None:
        """Writes down how many copies of a bundle replay has confirmed."""
        os.pwrite(self._file, _SENT.pack(*place, count), 0)

    def commit(self, place: Place, streams: np.ndarray, rows: list[dict[str, np.ndarray]]) -> None:
        """A bundle is done: all of its copies are in replay.

        Args:
          place: of the bundle.
          streams: where the labeller's streams stand now.
          rows: the splicers' rows now, one dictionary a stream.
        """
        arrays = {"place": np.asarray(place, np.int64), "streams": streams}
        lengths = [len(next(iter(of.values()), ())) for of in rows]
        arrays["lengths"] = np.asarray(lengths, np.int64)
        held = [of for of, length in zip(rows, lengths) if length]
        if held:
            arrays |= {f"rows/{name}": np.concatenate([of[name] for of in held]) for name in held[0]}
        _write(self._state, arrays)
        self.place, self.streams, self.rows = place, streams, rows

    def close(self) -> None:
        os.close(self._file)


def _place(arrays: dict[str, np.ndarray]) -> Place:
    incarnation, number = arrays["place"].tolist()
    return incarnation, number


def _split(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    names = [name for name in arrays if name.startswith("rows/")]
    ends = np.cumsum(arrays["lengths"])
    return [
        {name.removeprefix("rows/"): arrays[name][end - length : end] for name in names} if length else {}
        for length, end in zip(arrays["lengths"], ends)
    ]


def _write(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Whole or not at all, for whoever is killed; a machine that goes down takes replay, and all that waits, too."""
    aside = path.with_suffix(".tmp")
    with open(aside, "wb") as file:
        np.savez(file, **arrays)
    os.replace(aside, path)


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s cannot be read and is begun anew: %s", path, error)
        return None
