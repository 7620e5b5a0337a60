"""Frames that are green or not, a model that sees it, and an environment that shows them."""

from typing import Any

import dm_env
import numpy as np
from dm_env import specs


def green(frames: np.ndarray, goals: Any) -> np.ndarray:
    """1 where at least half of a frame is green."""
    del goals
    return (frames[..., 1].mean(axis=(1, 2)) >= 128).astype(np.float32)


class Counting:
    """A model that notes what it was asked."""

    def __init__(self, model: Any = green):
        self.model, self.frames, self.goals = model, [], []

    def __call__(self, frames, goals):
        self.frames += list(frames)
        self.goals += list(goals)
        return self.model(frames, goals)


def frame(number: int, is_green: bool = False) -> np.ndarray:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0], image[..., 2], image[..., 1] = number % 256, number // 256, 255 * is_green
    return image


class Corridor(dm_env.Environment):
    """Episode k shows (k, t); after some steps that k decides a frame is green; the environment ends at step 7."""

    goal = "see green"

    def __init__(self):
        self.episode = -1

    def reset(self):
        self.episode, self.t = self.episode + 1, 0
        return dm_env.restart(self._see())

    def step(self, action):
        self.t += 1
        end = dm_env.truncation if self.t == 7 else dm_env.transition
        return end(0.125, self._see())

    def success(self):
        return self.episode % 2 == 0

    def _see(self):
        hit = self.t == 2 + 3 * self.episode % 11
        return {"image": frame(16 * self.episode + self.t, hit)}

    def observation_spec(self):
        return {"image": specs.BoundedArray((2, 2, 3), np.uint8, 0, 255)}

    def action_spec(self):
        return specs.DiscreteArray(4)
