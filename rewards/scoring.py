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


def score_distinct(
    model: RewardModel, frames: Sequence[np.ndarray], goals: Sequence[str], batch: int
) -> tuple[np.ndarray, int]:
    """Scores every distinct (frame, goal) once, by a hash of the frame's bytes.

    Args:
      model: a callable.
      frames: N of `[H, W, 3]` uint8, all of one shape.
      goals: N texts.
      batch: frames of one call of the model at most.

    Returns:
      Rewards `[N]` float32, and how many pairs were distinct.
    """
    places: dict[tuple[bytes, str], int] = {}
    where = [places.setdefault(pair, len(places)) for pair in zip(frame_keys(frames), goals)]
    # Numbers of pairs grow by one with each new pair, where it stands for the first time.
    chosen: list[int] = np.unique(where, return_index=True)[1].tolist()
    found = np.empty(len(chosen), np.float32)
    for first in range(0, len(chosen), batch):
        part = chosen[first : first + batch]
        found[first : first + batch] = score(
            model, np.stack([frames[i] for i in part]), [goals[i] for i in part]
        )
    return found[np.asarray(where, int)], len(chosen)
