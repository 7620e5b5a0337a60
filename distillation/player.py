"""A distilled agent at a host environment: one stream, stepped by hand."""

from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from ..agents import EVALUATE
from ..envs import FIRST, LAST, MID
from .evaluation import act_key, stream_keys


class Player:
    """Plays one host environment and keeps the context across its episodes.

    dm_env: call `step(timestep)` with *every* time-step, the last one of an episode too, so that its
    reward is in the context. Gymnasium: `action(observation)`, then `observe(reward, terminated,
    truncated)`.

    Args:
      agent: an `Agent`, distilled or not.
      params: its weights.
      seed: of its actions. Stream 0 of an evaluation whose key is `jax.random.key(seed)` acts with the
        same randomness.
    """

    def __init__(self, agent: Any, params: Any, seed: int = 0):
        self._act = jax.jit(lambda memory, key, timestep: agent.act(params, memory, key, timestep, EVALUATE))
        self._initial_memory = agent.initial_memory
        self._key = stream_keys(jax.random.key(seed), 1)[0]
        self.reset()

    def reset(self) -> None:
        """Empties the context, as for a new task."""
        self._memory = self._initial_memory()
        self._time, self._reward, self._discount, self._step_type = 0, 0.0, 1.0, FIRST

    def step(self, timestep: dm_env.TimeStep) -> int | None:
        """The action for a dm_env time-step; None for one that ends an episode."""
        if timestep.first():
            return self.action(timestep.observation)
        self.observe(timestep.reward, timestep.last() and timestep.discount == 0.0, timestep.last())
        return None if timestep.last() else self.action(timestep.observation)

    def action(self, observation: Any) -> int:
        """The action for an observation that has just been seen."""
        shown = dm_env.TimeStep(
            jnp.int32(self._step_type),
            jnp.float32(self._reward),
            jnp.float32(self._discount),
            jax.tree.map(jnp.asarray, observation),
        )
        action, _, self._memory = self._act(self._memory, act_key(self._key, self._time), shown)
        self._time += 1
        return int(action)

    def observe(self, reward: float, terminated: bool, truncated: bool) -> None:
        """What the last action brought."""
        self._reward = float(np.asarray(reward))
        self._discount = 0.0 if terminated else 1.0
        self._step_type = LAST if terminated or truncated else MID
