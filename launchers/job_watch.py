"""The hacking watch of a job: fed by a labeller, kept in the run directory, told in log and status."""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from ..rewards import HackingWatch
from ..rewards.labelling import LabelledEpisode
from .runs import write_bytes


_log = logging.getLogger(__name__)

_SAVE_EVERY = 500


class JobWatch:
    """A `HackingWatch` that a restart goes on with.

    An episode's truth is whether the environment calls it a success, at its real end: what pays it is hidden, and may
    be on another scale.

    Args:
      path: a JSON file; what is there is gone on with.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._watch = HackingWatch.from_json(path.read_text()) if path.exists() else HackingWatch()
        self._unsaved = 0

    def observe(self, episodes: Sequence[LabelledEpisode]) -> None:
        """Takes the next episodes, in the order of time."""
        began = len(self._watch.events)
        for episode in episodes:
            true = float(episode.true_success)
            first_hit = episode.true_success if episode.hit else None
            self._watch.observe(episode.labelled_return, true, first_hit)
        for event in self._watch.events[began:]:
            _log.warning("reward hacking, episode %d: %s", event.episode, event.message)
        self._unsaved += len(episodes)
        if self._unsaved >= _SAVE_EVERY or len(self._watch.events) > began:
            self.save()

    def save(self) -> None:
        """Keeps what it knows."""
        write_bytes(self._path, self._watch.to_json().encode())
        self._unsaved = 0

    def facts(self) -> dict[str, Any]:
        """For the status table: nothing until an alarm has sounded."""
        if self._watch.alarm:
            return {"alarm": "reward hacking"}
        return {"alarm": "over"} if self._watch.events else {}
