"""A world of pictures whose steps are numbered, and models that judge them: for programs that label."""

import time

import dm_env
import numpy as np
from dm_env import specs


HORIZON = 12


class Meadow(dm_env.Environment):
    """Action 1 makes it greener; after `needs` of them the picture is green. It pays, and ends, after `HORIZON` steps.

    The picture's first pixel shows the number of the step, of all since the start.
    """

    def __init__(self, seed: int = 0, pause_s: float = 0.0, pays: float = 1.0, needs: int = 4):
        del seed
        self._ticks, self._pause_s, self._pays, self._needs = 0, pause_s, pays, needs

    def goal(self) -> str:
        return "a green meadow"

    def success(self) -> bool:
        return self._green >= self._needs

    def reset(self):
        self._age = self._green = 0
        return dm_env.restart(self._see())

    def step(self, action):
        time.sleep(self._pause_s)
        self._ticks, self._age, self._green = self._ticks + 1, self._age + 1, self._green + int(action == 1)
        if self._age == HORIZON:
            return dm_env.truncation(self._pays * self.success(), self._see())
        return dm_env.transition(0.0, self._see())

    def observation_spec(self):
        return {"image": specs.BoundedArray((8, 8, 3), np.uint8, 0, 255)}

    def action_spec(self):
        return specs.DiscreteArray(2)

    def reward_spec(self):
        return specs.Array((), np.float64)

    def _see(self):
        image = np.zeros((8, 8, 3), np.uint8)
        image[:, : 8 * min(self._green, self._needs) // self._needs, 1] = 255
        image[0, 0, 0], image[0, 0, 2] = self._ticks % 256, self._ticks // 256 % 256
        return {"image": image}


class Bare(Meadow):
    """Says nothing of a goal."""

    goal = None


def ticks(image: np.ndarray) -> np.ndarray:
    """The numbers that pictures `[…, 8, 8, 3]` show."""
    return image[..., 0, 0, 0] + 256 * image[..., 0, 0, 2].astype(int)


class is_green:  # A factory, like any other.
    """1 where so much of a picture is green."""

    name, version = "is_green", "1"

    def __init__(self, share: float = 0.9):
        self._share = share

    def __call__(self, frames, goals):
        assert set(goals) == {"a green meadow"}
        return ((frames[..., 1] > 127).mean(axis=(1, 2)) >= self._share).astype(np.float32)
