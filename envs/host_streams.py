"""Host environments that step together, each as one stream that runs on through episode ends."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import numpy as np

from ._types import FIRST, LAST, MID


class Episode(NamedTuple):
    """An episode that has ended.

    Attributes:
      stream: which environment.
      episode_return: undiscounted sum of its rewards.
      length: steps.
      success: what the environment says of it (`success()`), else whether its return is above 0.
    """

    stream: int
    episode_return: float
    length: int
    success: bool


class HostStreams:
    """N environments of one kind behind the merged stream of `AutoReset`, batched.

    Attributes:
      timestep: what the agents see now, `[N, …]` NumPy: at an episode's first step its first observation
        beside the reward, discount and step_type LAST of the step before; step_type FIRST only when a stream
        begins. The arrays are new at every step: they may be kept.
      next_observation: what the last actions led to, `[N, …]`, an episode's final observation included.
      episodes: those that have ended and were not taken yet (`take_episodes`).
    """

    def __init__(self, environments: Sequence[dm_env.Environment]):
        """Resets every environment.

        Raises:
          ValueError: for no environment, or one that was given twice.
        """
        if not environments:
            raise ValueError("Streams need at least one environment.")
        if len({id(environment) for environment in environments}) != len(environments):
            raise ValueError("An environment was given twice: each stream needs an instance of its own.")
        self.environments = list(environments)
        self.episodes: list[Episode] = []
        count = len(self.environments)
        self._returns, self._lengths = np.zeros(count), np.zeros(count, int)
        observation = _stack([environment.reset().observation for environment in self.environments])
        self.next_observation = observation
        self.timestep = dm_env.TimeStep(
            np.full(count, FIRST, np.int32), np.zeros(count, np.float32), np.ones(count, np.float32), observation
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.environments)

    def step(self, actions: np.ndarray) -> dm_env.TimeStep:
        """Steps every environment with its action `[N, …]` and begins the next episode where one ended."""
        count = len(self.environments)
        kinds, rewards = np.full(count, MID, np.int32), np.zeros(count, np.float32)
        discounts = np.ones(count, np.float32)
        led_to, shown = [], []
        for i, environment in enumerate(self.environments):
            timestep = environment.step(actions[i])
            rewards[i], discounts[i] = timestep.reward, timestep.discount
            led_to.append(timestep.observation)
            if timestep.last():
                kinds[i] = LAST
                self._end(i, environment, rewards[i])
                shown.append(environment.reset().observation)
            else:
                shown.append(timestep.observation)
        self._returns += rewards * (kinds == MID)
        self._lengths += kinds == MID
        observation = _stack(shown)
        ended = (kinds == LAST).any()
        self.next_observation = _stack(led_to) if ended else observation
        self.timestep = dm_env.TimeStep(kinds, rewards, discounts, observation)
        return self.timestep

    def take_episodes(self) -> list[Episode]:
        """The episodes that have ended since the last call, oldest first."""
        taken, self.episodes = self.episodes, []
        return taken

    def _end(self, i: int, environment: Any, reward: float) -> None:
        total = float(self._returns[i] + reward)
        fact = getattr(environment, "success", None)
        success = bool(fact()) if fact is not None else total > 0
        self.episodes.append(Episode(i, total, int(self._lengths[i]) + 1, success))
        self._returns[i], self._lengths[i] = 0.0, 0


def _stack(observations: list[Any]) -> Any:
    return jax.tree.map(lambda *parts: np.stack(parts), *observations)
