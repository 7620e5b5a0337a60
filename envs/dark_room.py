"""Dark Room and Dark Room Hard (Laskin et al. 2022, arXiv 2210.14215, section 4.1)."""

import functools
from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._by_value import ByValue
from ._grid import MOVES, move_table
from ._types import restart, transition


class DarkRoomState(NamedTuple):
    """cell: int32 index y * size + x; collected: bool, the reward was paid; time: int32 steps taken."""

    cell: jax.Array
    collected: jax.Array
    time: jax.Array


class DarkRoom(ByValue):
    """A dark square room with one rewarded cell that the agent cannot see.

    Task: int32 goal cell in [0, size**2), cell = y * size + x. Observation: own (x, y), int32 [2].
    Actions: left, right, up, down, no-op; moves into a wall stay. Every episode starts in the centre.
    `once=False` (Dark Room) pays 1 on *every* step that ends on the goal; `once=True` (Hard) pays 1
    on the first such step only. Episodes are cut after `max_steps` (truncation: discount stays 1)
    and never terminate.

    The paper leaves open what a goal on the start cell pays. Here rewards are for where a step
    ends, so such a goal pays from the first step on which the agent stays.

    Attributes:
      transitions: int32 [size**2, 5], the cell that each action leads to from each cell.
      start: the centre cell.

    Raises:
      ValueError: for a size without a centre cell, or a horizon below 1.
    """

    def __init__(self, name: str = "dark_room", size: int = 9, max_steps: int = 20, once: bool = False):
        if size < 3 or size % 2 == 0:
            raise ValueError(f"Dark Room needs an odd size of at least 3 (it has a centre), got {size}.")
        if max_steps < 1:
            raise ValueError(f"Dark Room needs max_steps of at least 1, got {max_steps}.")
        self.name, self.size, self.max_steps, self.once = name, size, max_steps, once
        self._settings = (name, size, max_steps, once)
        self.num_tasks = size * size
        self.transitions = move_table(size)
        self.start = (size * size) // 2

    def tasks(self) -> jax.Array:
        return jnp.arange(self.num_tasks, dtype=jnp.int32)

    def sample_task(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.num_tasks, jnp.int32)

    def reset(self, key: jax.Array, task: jax.Array) -> tuple[DarkRoomState, dm_env.TimeStep]:
        del key, task
        state = DarkRoomState(jnp.int32(self.start), jnp.bool_(False), jnp.int32(0))
        return state, restart(self._observe(state.cell))

    def step(
        self, key: jax.Array, task: jax.Array, state: DarkRoomState, action: jax.Array
    ) -> tuple[DarkRoomState, dm_env.TimeStep]:
        del key
        cell = jnp.asarray(self.transitions)[state.cell, action]
        hit = cell == task
        reward = hit & ~(state.collected & self.once)
        state = DarkRoomState(cell, state.collected | hit, state.time + 1)
        return state, transition(self._observe(cell), reward, False, state.time >= self.max_steps)

    def bounds(self, task: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Exact mean episode returns of (the uniform-random policy, the optimal policy), float32."""
        random, optimal = self._bound_tables
        return jnp.asarray(random)[task], jnp.asarray(optimal)[task]

    def task_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.int32, 0, self.num_tasks - 1, "goal_cell")

    def observation_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((2,), np.int32, 0, self.size - 1, "xy")

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(len(MOVES), name="action")

    def reward_spec(self) -> specs.Array:
        return specs.Array((), np.float32, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> specs.BoundedArray:
        if not self.once:
            return self.observation_spec()
        top = np.array([self.size - 1, self.size - 1, 1], np.int32)
        return specs.BoundedArray((3,), np.int32, 0, top, "xy_collected")

    def markov_observation(self, state: DarkRoomState) -> jax.Array:
        xy = self._observe(state.cell)
        return jnp.append(xy, state.collected.astype(jnp.int32)) if self.once else xy

    def _observe(self, cell: jax.Array) -> jax.Array:
        return jnp.stack([cell % self.size, cell // self.size]).astype(jnp.int32)

    @functools.cached_property
    def _bound_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """(random, optimal) returns by goal, by backward induction; numpy, so that no trace owns them."""
        hit = self.transitions == np.arange(self.num_tasks)[:, None, None]  # [goal, cell, action]
        tables = []
        for reduce in (np.mean, np.max):
            fresh = np.zeros((self.num_tasks, self.num_tasks))  # [goal, cell], steps to go = 0
            collected = np.zeros_like(fresh)
            for _ in range(self.max_steps):
                after = collected[:, self.transitions]
                fresh = reduce(np.where(hit, 1 + after, fresh[:, self.transitions]), axis=-1)
                collected = reduce(after + hit * (not self.once), axis=-1)
            tables.append(fresh[:, self.start].astype(np.float32))
        return tables[0], tables[1]
