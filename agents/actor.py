"""An actor: steps host environments with an agent and cuts what it sees into trajectories."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import dm_env
import jax
import numpy as np

from ..envs import Episode, HostStreams
from ._types import EXPLORE, Agent, Trajectory


class Rows(NamedTuple):
    """One step of N streams: `timestep` is what was seen, the others what came of the actions, all `[N, …]`.

    Attributes:
      timestep: the merged one that the actions answer.
      action: int32.
      led_to: the merged time-step after it; its reward, discount and step_type are the row's.
      next_observation: what the actions led to, final observations included.
      extras: what `act` returned beside the actions.
    """

    timestep: dm_env.TimeStep
    action: np.ndarray
    led_to: dm_env.TimeStep
    next_observation: Any
    extras: Any

    def reading(self, keys: Sequence[str] | None) -> "Rows":
        """The same with these keys of the observations only; with all where `keys` is None."""
        if keys is None:
            return self
        return self._replace(
            timestep=_reading(self.timestep, keys),
            led_to=_reading(self.led_to, keys),
            next_observation={key: self.next_observation[key] for key in keys},
        )


class Actor:
    """Acts in N streams at once. One thread.

    Attributes:
      streams: the environments.
      time: steps taken by every stream.
    """

    def __init__(
        self,
        agent: Agent,
        environments: Sequence[dm_env.Environment] | HostStreams,
        seed: int,
        mode: str = EXPLORE,
        rewards_shown: bool = True,
        reads: Sequence[str] | None = None,
    ):
        """Begins every stream.

        Args:
          agent: its `act` is called batched, `initial_memory` once a stream.
          environments: N of one kind, or streams that have just begun.
          seed: of the actions; the environments have seeds of their own.
          mode: EXPLORE or EVALUATE.
          rewards_shown: whether the agent sees the rewards; else zeros, as where rewards are known only later.
          reads: the keys of the observations that the agent was made for; None for observations as they are.
        """
        self.streams = environments if isinstance(environments, HostStreams) else HostStreams(environments)
        self.time = 0
        self._rewards_shown, self._reads = rewards_shown, reads
        count = len(self.streams)
        self.memory = jax.vmap(lambda _: agent.initial_memory())(np.arange(count))
        self._keys = jax.random.split(jax.random.key(seed), count)
        self._act = _batched_act(agent, mode)

    def step(self, params: Any) -> Rows:
        """One step of every stream with these parameters."""
        seen = self.streams.timestep
        if not self._rewards_shown:
            seen = seen._replace(reward=np.zeros_like(seen.reward))
        read = seen if self._reads is None else _reading(seen, self._reads)
        action, extras, self.memory = self._act(params, self.memory, self._keys, self.time, read)
        action = np.asarray(action)
        led_to = self.streams.step(action)
        self.time += 1
        return Rows(seen, action, led_to, self.streams.next_observation, jax.tree.map(np.asarray, extras))

    def take_episodes(self) -> list[Episode]:
        """The episodes that have ended since the last call."""
        return self.streams.take_episodes()


class TrajectoryCutter:
    """Rows of N streams as trajectories of T rows, one beginning every `period` rows.

    Trajectories overlap where `period` is below T. Each carries the memory before its first row.
    """

    def __init__(self, unroll: int, period: int):
        """Raises ValueError where rows would be left out between trajectories."""
        if not 1 <= period <= unroll:
            raise ValueError(f"period must lie in 1 to unroll, got period={period} and unroll={unroll}.")
        self._unroll, self._period = unroll, period
        self._filled = 0
        self._buffers: Trajectory | None = None
        self._memories: list[Any] = []

    def add(self, rows: Rows, memory: Any) -> list[Trajectory]:
        """Adds one row a stream.

        Args:
          rows: `[N, …]`.
          memory: `[N, …]`, before the row.

        Returns:
          Nothing until a trajectory is whole; then one a stream, `[T, …]` each, arrays of their own.
        """
        row = Trajectory(
            rows.timestep.observation, cast(jax.Array, rows.action), rows.led_to.reward, rows.led_to.discount,
            rows.led_to.step_type, rows.next_observation, rows.extras,
        )  # fmt: skip
        if self._buffers is None:
            self._buffers = jax.tree.map(self._buffer, row)
        if self._filled % self._period == 0:
            self._memories.append(jax.tree.map(np.asarray, memory))
        for buffer, value in zip(jax.tree.leaves(self._buffers), jax.tree.leaves(row)):
            buffer[:, self._filled] = value
        self._filled += 1
        if self._filled < self._unroll:
            return []
        cut = jax.tree.map(np.copy, self._buffers)
        first = self._memories.pop(0)
        kept = self._unroll - self._period
        for buffer in jax.tree.leaves(self._buffers):
            buffer[:, :kept] = buffer[:, self._period :].copy()
        self._filled = kept
        count = len(rows.action)
        return [
            jax.tree.map(lambda x, i=i: x[i], cut)._replace(memory=jax.tree.map(lambda x, i=i: x[i], first))
            for i in range(count)
        ]

    def _buffer(self, value: np.ndarray) -> np.ndarray:
        return np.empty((len(value), self._unroll, *value.shape[1:]), value.dtype)


def _reading(timestep: dm_env.TimeStep, keys: Sequence[str]) -> dm_env.TimeStep:
    return timestep._replace(observation={key: timestep.observation[key] for key in keys})


@functools.lru_cache(maxsize=16)
def _batched_act(agent: Agent, mode: str) -> Any:
    """`act` over streams, each with a key of its own by its step."""

    def one(params, memory, key, time, timestep):
        return agent.act(params, memory, jax.random.fold_in(key, time), timestep, mode)

    return jax.jit(jax.vmap(one, in_axes=(None, 0, 0, None, 0)))
