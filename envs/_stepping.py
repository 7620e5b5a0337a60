"""One step of N host environments, whatever they are."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import numpy as np

from ._types import LAST, MID


class Stepped(NamedTuple):
    """What a step of N environments led to.

    Attributes:
      kinds: int32 `[N]`, MID or LAST.
      rewards, discounts: float32 `[N]`.
      led_to: the observations that the actions led to, `[N, …]`, final ones included.
      shown: the same, but the first of the next episode where one ended.
      successes: stream -> what its environment says of the episode that ended now, where it says anything.
    """

    kinds: np.ndarray
    rewards: np.ndarray
    discounts: np.ndarray
    led_to: Any
    shown: Any
    successes: Mapping[int, bool]


class OneByOne:
    """Steps N environments one after the other."""

    def __init__(self, environments: Sequence[dm_env.Environment]):
        self._environments = list(environments)

    def reset(self) -> Any:
        """Begins an episode everywhere; the observations `[N, …]`."""
        return _stack([environment.reset().observation for environment in self._environments])

    def step(self, actions: np.ndarray) -> Stepped:
        """Takes an action `[N, …]` everywhere, and begins the next episode where one ended."""
        count = len(self._environments)
        kinds, rewards = np.full(count, MID, np.int32), np.zeros(count, np.float32)
        discounts = np.ones(count, np.float32)
        led_to, shown, successes = [], [], {}
        for i, environment in enumerate(self._environments):
            timestep = environment.step(actions[i])
            rewards[i], discounts[i] = timestep.reward, timestep.discount
            led_to.append(timestep.observation)
            if timestep.last():
                kinds[i] = LAST
                fact = getattr(environment, "success", None)
                if fact is not None:
                    successes[i] = bool(fact())
                shown.append(environment.reset().observation)
            else:
                shown.append(timestep.observation)
        observation = _stack(shown)
        ended = (kinds == LAST).any()
        return Stepped(
            kinds, rewards, discounts, _stack(led_to) if ended else observation, observation, successes
        )

    def success_so_far(self, i: int) -> bool:
        """Whether the running episode of a stream has reached its goal; False where its environment cannot say."""
        fact = getattr(self._environments[i], "success_so_far", None)
        return fact is not None and bool(fact())

    def begin(self, which: np.ndarray, shown: Any) -> Any:
        """Begins the next episode in some streams, whatever the environments' own are.

        Args:
          which: indices.
          shown: observations `[N, …]`.

        Returns:
          The same with the first ones of these episodes, arrays of their own.
        """
        shown = jax.tree.map(np.copy, shown)
        for i in which:
            first = self._environments[i].reset().observation
            for whole, part in zip(jax.tree.leaves(shown), jax.tree.leaves(first)):
                whole[i] = part
        return shown


def _stack(observations: list[Any]) -> Any:
    return jax.tree.map(lambda *parts: np.stack(parts), *observations)
