"""Host environments that step together, each as one stream that runs on through episode ends."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import dm_env
import numpy as np

from ._jax_stepping import JaxStepping, hosts_of
from ._stepping import OneByOne, Stepped
from ._types import FIRST, LAST


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

    Those of one pure-JAX environment (`make_hosted`, `to_dm_env`) step together in one compiled call, and play the
    episodes that they would play one by one.

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
        hosts = hosts_of(self.environments)
        self._stepping = OneByOne(self.environments) if hosts is None else JaxStepping(hosts)
        observation = self._stepping.reset()
        self.next_observation = observation
        self.timestep = dm_env.TimeStep(
            np.full(count, FIRST, np.int32), np.zeros(count, np.float32), np.ones(count, np.float32), observation
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.environments)

    def step(self, actions: np.ndarray) -> dm_env.TimeStep:
        """Steps every environment with its action `[N, …]` and begins the next episode where one ended."""
        kinds, rewards, discounts, self.next_observation, shown, successes = self._advance(actions)
        self._returns += rewards
        self._lengths += 1
        for i in np.flatnonzero(kinds == LAST):
            self._end(int(i), successes)
        self.timestep = dm_env.TimeStep(kinds, rewards, discounts, shown)
        return self.timestep

    def take_episodes(self) -> list[Episode]:
        """The episodes that have ended since the last call, oldest first."""
        taken, self.episodes = self.episodes, []
        return taken

    def _advance(self, actions: np.ndarray) -> Stepped:
        """One step everywhere. Who overrides it may pay otherwise, and end episodes: see `_begin`."""
        return self._stepping.step(actions)

    def _success_so_far(self, i: int) -> bool:
        """Whether the running episode of a stream has reached its goal; False where its environment cannot say."""
        return self._stepping.success_so_far(i)

    def _begin(self, which: np.ndarray, shown: Any) -> Any:
        """Begins the next episode in some streams; what is shown `[N, …]`, with its first observations there."""
        return self._stepping.begin(which, shown)

    def _end(self, i: int, successes: Mapping[int, bool]) -> None:
        total = float(self._returns[i])
        self.episodes.append(Episode(i, total, int(self._lengths[i]), successes.get(i, total > 0)))
        self._returns[i], self._lengths[i] = 0.0, 0
