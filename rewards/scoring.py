"""Frames and goals to rewards by any callable model, each distinct pair once a call."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .frame_keys import frame_keys


RewardModel = Callable[[np.ndarray, Sequence[str]], Any]


def check_model(model: Any) -> RewardModel:
    """The model, where it is a callable `model(frames, goals) -> rewards`. Raises ValueError."""
    if not callable(model):
        raise ValueError(
            f"Labelling takes a callable model(frames [N, H, W, 3] uint8, goals) -> rewards [N]; got a "
            f"{type(model).__name__}. An encoder becomes one with a head."
        )
    return model


def score(model: RewardModel, frames: np.ndarray, goals: Sequence[str]) -> np.ndarray:
    """One call of a model, its answer checked.

    Args:
      model: a callable.
      frames: `[N, H, W, 3]` uint8.
      goals: N texts.

    Returns:
      `[N]` float32.

    Raises:
      ValueError: the model's answer has another shape, or a value outside [0, 1].
    """
    rewards = np.asarray(model(frames, goals), np.float32)
    name = getattr(model, "name", type(model).__name__)
    if rewards.shape != (len(frames),):
        raise ValueError(
            f"The reward model {name} returned the shape {rewards.shape} for {len(frames)} frames; expected "
            f"({len(frames)},)."
        )
    wrong = ~((rewards >= 0) & (rewards <= 1))
    if wrong.any():
        raise ValueError(f"The reward model {name} returned {rewards[wrong][0]}; rewards lie in [0, 1].")
    return rewards


class DistinctScores:
    """Scores every distinct (frame, goal) once, by a hash of the frame's bytes, as long as it lives.

    Attributes:
      distinct: pairs that the model has seen.
    """

    def __init__(self, model: RewardModel, batch: int):
        """
        Args:
          model: a callable.
          batch: frames of one call of the model at most.
        """
        self._model, self._batch = model, batch
        self._places: dict[tuple[bytes, str], int] = {}
        self._found: list[float] = []

    @property
    def distinct(self) -> int:
        return len(self._found)

    def of(self, frames: Sequence[np.ndarray], goals: Sequence[str]) -> np.ndarray:
        """Rewards `[N]` float32.

        Args:
          frames: N of `[H, W, 3]` uint8, all of one shape.
          goals: N texts.
        """
        where, new = np.empty(len(frames), int), list[int]()
        for i, pair in enumerate(zip(frame_keys(frames), goals)):
            where[i] = self._places.setdefault(pair, len(self._places))
            if where[i] == len(self._found) + len(new):
                new.append(i)
        for first in range(0, len(new), self._batch):
            part = new[first : first + self._batch]
            found = score(self._model, np.stack([frames[i] for i in part]), [goals[i] for i in part])
            self._found += found.tolist()
        return np.asarray(self._found, np.float32)[where]
