"""A world that shows how many steps it has taken, so that a history tells which rows it lacks or has twice."""

import pathlib
import time
from typing import Any, NamedTuple

import dm_env
import numpy as np
from dm_env import specs
from limbeck.agents import HistoryReader
from limbeck.launchers.job_config import JobConfig, job_config


_BASE, _DIGITS, _HORIZON = 32, 3, 20


class Ticking(dm_env.Environment):
    """Observes the number of its steps, modulo 32 ** 3, as three digits; pays for the parity of the last one.

    Every instance begins at a number of its own, and none starts again with a new episode: in the stream of one
    instance each row follows the one before by exactly one.
    """

    def __init__(self, seed: int = 0, pause_s: float = 0.0):
        """
        Args:
          seed: of the first number.
          pause_s: that a step takes at least, so that a job has a length that no machine can cut short.
        """
        self._tick = int(np.random.default_rng(seed).integers(_BASE**_DIGITS))
        self._pause_s, self._age = pause_s, 0

    def reset(self) -> dm_env.TimeStep:
        self._age = 0
        return dm_env.restart(self._observation())

    def step(self, action: Any) -> dm_env.TimeStep:
        time.sleep(self._pause_s)
        reward = float(action == self._tick % 2)
        self._tick, self._age = self._tick + 1, self._age + 1
        end = dm_env.truncation if self._age == _HORIZON else dm_env.transition
        return end(reward, self._observation())

    def observation_spec(self) -> Any:
        return specs.BoundedArray((_DIGITS,), np.int32, 0, _BASE - 1)

    def action_spec(self) -> Any:
        return specs.DiscreteArray(2)

    def _observation(self) -> np.ndarray:
        return self._tick // _BASE ** np.arange(_DIGITS, dtype=np.int32) % _BASE


def ticks(observation: np.ndarray) -> np.ndarray:
    """The numbers that observations `[..., 3]` show."""
    return observation @ _BASE ** np.arange(_DIGITS)


class Rows(NamedTuple):
    """What a store of histories of `Ticking` lacks or has too often.

    Attributes:
      whole: whether every history has its full length.
      gaps: places where rows are missing although no cut is recorded.
      doubles: places where a row repeats one before it.
      cuts: recorded ones.
      misplaced: of them, those that do not lie at the end of a chunk.
    """

    whole: bool
    gaps: int
    doubles: int
    cuts: int
    misplaced: int


def count_rows(store: pathlib.Path) -> Rows:
    """Reads a whole store, after `HistoryReader.verify`. Raises `HistoryError` where that finds something."""
    reader = HistoryReader(store)
    reader.verify()
    manifest, marks = reader.manifest, reader.watermarks
    gaps = doubles = 0
    for history in range(len(reader)):
        rows = reader.read(history)
        shown, final = ticks(rows["observation"]), ticks(rows["final_observation"])
        ended = rows["step_type"] == dm_env.StepType.LAST
        jumps = np.diff(shown)
        jumps[[time - 1 for of, time in manifest.cuts if of == history]] = 1
        # What an episode ended on must follow its last row as well.
        jumps = np.concatenate([jumps, final[ended] - shown[ended]]) % _BASE**_DIGITS
        doubled = (jumps == 0) | (jumps > _BASE**_DIGITS // 2)
        gaps += int(((jumps != 1) & ~doubled).sum())
        doubles += int(doubled.sum())
    misplaced = sum(time % manifest.steps_per_chunk > 0 for _, time in manifest.cuts)
    return Rows(bool((marks == manifest.length).all()), gaps, doubles, len(manifest.cuts), misplaced)


def ticking_job(**fields: Any) -> JobConfig:
    """A small job on `Ticking` whose actors need some ten seconds at least, and its histories half of them."""
    chosen = {
        "env_arguments": {"pause_s": 0.0005},
        "settings": {"hidden": (16,), "epochs": 1, "minibatches": 1},
        "replay": {"unroll": 32, "period": 32, "batch": 8, "max_size": 16},
        "environments": 4,
        "steps": 20_000,
        "checkpoint_every_s": 2.0,
        "history_steps": 1200,
    }
    return job_config(f"{__name__}:{Ticking.__name__}", "ppo", **{**chosen, **fields})
