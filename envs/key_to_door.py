"""Dark Key-to-Door (Laskin et al. 2022, arXiv 2210.14215, section 4.1)."""

import functools
from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._by_value import ByValue
from ._grid import MOVES, distances, move_table
from ._types import restart, transition


class KeyToDoorState(NamedTuple):
    """cell: int32 index y * size + x; has_key and door_opened: bool, kept to the end; time: int32 steps."""

    cell: jax.Array
    has_key: jax.Array
    door_opened: jax.Array
    time: jax.Array


class KeyToDoor(ByValue):
    """A dark room where an unseen key must be found before an unseen door pays.

    Task: (key, door) cells, int32 [2], each in [0, size**2), cell = y * size + x; task id =
    key * size**2 + door. Observation: own (x, y), int32 [2]. Actions: left, right, up, down, no-op;
    moves into a wall stay. Every episode starts in a uniformly random cell. The first step that ends
    on the key pays 1; the first *later* step that ends on the door pays 1; nothing else pays.

    What the paper leaves open, and what holds here:
      - Whether the episode ends at the door: it does not. Every episode is cut after `max_steps`
        (truncation: discount stays 1), so that episodes in a learning history are equally long; no
        return depends on it.
      - Whether key and door may share a cell: they may (the paper counts 81**2 tasks). The door needs a
        step after the key, so a shared cell never pays both at once; staying on it does.
      - What a key under the start cell pays: rewards are for where a step ends, so it pays from the
        first step on which the agent stays or comes back.

    Attributes:
      transitions: int32 [size**2, 5], the cell that each action leads to from each cell.

    Raises:
      ValueError: for a size below 2 or a horizon below 1.
    """

    def __init__(self, name: str = "dark_key_to_door", size: int = 9, max_steps: int = 50):
        if size < 2:
            raise ValueError(f"Key-to-Door needs a size of at least 2, got {size}.")
        if max_steps < 1:
            raise ValueError(f"Key-to-Door needs max_steps of at least 1, got {max_steps}.")
        self.name, self.size, self.max_steps = name, size, max_steps
        self._settings = (name, size, max_steps)
        self.num_cells = size * size
        self.num_tasks = self.num_cells**2
        self.transitions = move_table(size)

    def tasks(self) -> jax.Array:
        ids = jnp.arange(self.num_tasks, dtype=jnp.int32)
        return jnp.stack([ids // self.num_cells, ids % self.num_cells], axis=-1)

    def sample_task(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (2,), 0, self.num_cells, jnp.int32)

    def reset(self, key: jax.Array, task: jax.Array) -> tuple[KeyToDoorState, dm_env.TimeStep]:
        del task
        cell = jax.random.randint(key, (), 0, self.num_cells, jnp.int32)
        state = KeyToDoorState(cell, jnp.bool_(False), jnp.bool_(False), jnp.int32(0))
        return state, restart(self._observe(cell))

    def step(
        self, key: jax.Array, task: jax.Array, state: KeyToDoorState, action: jax.Array
    ) -> tuple[KeyToDoorState, dm_env.TimeStep]:
        del key
        cell = jnp.asarray(self.transitions)[state.cell, action]
        finds_key = (cell == task[0]) & ~state.has_key
        opens_door = (cell == task[1]) & state.has_key & ~state.door_opened
        state = KeyToDoorState(
            cell, state.has_key | finds_key, state.door_opened | opens_door, state.time + 1
        )
        reward = finds_key | opens_door
        return state, transition(self._observe(cell), reward, False, state.time >= self.max_steps)

    def bounds(self, task: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Exact mean episode returns of (the uniform-random policy, the optimal policy), float32."""
        random, optimal = self._bound_tables
        return jnp.asarray(random)[task[0], task[1]], jnp.asarray(optimal)[task[0], task[1]]

    def task_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((2,), np.int32, 0, self.num_cells - 1, "key_and_door_cells")

    def observation_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((2,), np.int32, 0, self.size - 1, "xy")

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(len(MOVES), name="action")

    def reward_spec(self) -> specs.Array:
        return specs.Array((), np.float32, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> specs.BoundedArray:
        top = np.array([self.size - 1, self.size - 1, 1, 1], np.int32)
        return specs.BoundedArray((4,), np.int32, 0, top, "xy_key_door")

    def markov_observation(self, state: KeyToDoorState) -> jax.Array:
        flags = jnp.stack([state.has_key, state.door_opened]).astype(jnp.int32)
        return jnp.concatenate([self._observe(state.cell), flags])

    def _observe(self, cell: jax.Array) -> jax.Array:
        return jnp.stack([cell % self.size, cell // self.size]).astype(jnp.int32)

    @functools.cached_property
    def _bound_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """(random, optimal) returns `[key, door]`; numpy, so that no trace owns them.

        Random: the return is the sum over t of P(key first found at step t) times 1 + P(door found from
        the key's cell in the steps that are left). Optimal: shortest paths; found cells cost at least
        one step.
        """
        n, horizon = self.num_cells, self.max_steps
        walk = np.zeros((n, n))  # walk[a, b]: probability of a step from cell a to cell b
        np.add.at(walk, (np.arange(n)[:, None], self.transitions), 1 / len(MOVES))

        reach = np.zeros((horizon + 1, n, n))  # [steps to go, from, goal]: probability of ending a step there
        for left in range(1, horizon + 1):
            reach[left] = walk @ np.where(np.eye(n, dtype=bool), 1.0, reach[left - 1])

        found_by = reach.mean(axis=1)  # [steps taken, key], from a uniformly random start
        found_at = np.diff(found_by, axis=0)  # [step - 1, key]
        random = found_by[-1][:, None] + np.einsum("tk,tkd->kd", found_at, reach[horizon - 1 :: -1])

        to_key = np.maximum(distances(self.size), 1)  # [start, key]
        to_door = to_key[:, :, None] + np.maximum(distances(self.size), 1)  # [start, key, door]
        optimal = (to_key <= horizon).mean(axis=0)[:, None] + (to_door <= horizon).mean(axis=0)
        return random.astype(np.float32), optimal.astype(np.float32)
