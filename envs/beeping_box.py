"""Beeping box: boxes that look alike, one of which beeps, in a walled room in pure JAX."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._by_value import ByValue
from ._minigrid_cells import EMPTY
from ._rooms_search import search_facing
from ._rooms_views import observe_view, view_specs, whole_room, whole_room_spec
from ._rooms_world import DIRECTIONS, FORWARD, LEFT, RIGHT, TOGGLE, World, empty_room, move, view
from ._settings import check_views
from ._types import restart, transition
from .facts import CODE_OF_OBJECT, OBJECTS
from .sound import NUM_BEACONS, audio_spec, beacon_levels, mix


VIEWS = ("image", "symbols", "direction", "audio")
# The environment's actions as the room's.
_ACTIONS = np.array([LEFT, RIGHT, FORWARD, TOGGLE], np.int32)
_OPEN = 3
_BOX = CODE_OF_OBJECT[OBJECTS.index(("yellow", "box"))]


class BeepingBoxState(NamedTuple):
    """Where everything is.

    Attributes:
      world: the grid and the agent's place.
      beeping: int32 `[2]`, the cell (x, y) of the box that beeps, or beeped before it was opened.
      reached: bool, that box was opened.
      time: int32, steps taken.
    """

    world: World
    beeping: jax.Array
    reached: jax.Array
    time: jax.Array


class BeepingBox(ByValue):
    """A walled room with boxes that look alike, of which one beeps and is to be opened.

    Task: int32, the pitch of the beep, a beacon's number (`sound.py`). An episode begins with the boxes, the agent and
    the direction in which it looks drawn anew; no box touches another, not even at a corner, so that every box can be
    reached. Which one beeps is drawn from all alike, and nothing that is seen tells it: who only sees opens it with a
    chance of 1 in `boxes`.

    Actions: turn left, turn right, forward, open the box in front; MiniGrid's dynamics (its first three and `toggle`).

    Observation, a dictionary of `views`:

    - `image`, uint8 `[56, 56, 3]`: MiniGrid's picture of what the agent sees (`render`).
    - `symbols`, uint8 `[7, 7, 3]`: the same as (type, colour, state) at x, y.
    - `direction`, int32: where the agent looks, 0 right, 1 down, 2 left, 3 up.
    - `audio`, float32 `[800]`: the beep as it is heard where the agent stands after the action, and what the action did
      (step, turn, bump, open, success).

    Opening the beeping box pays 1, opening another 0; either terminates the episode (discount 0). After `max_steps` it
    is truncated.

    The Markov observation is `symbols` and `direction`, where below the view's 7 rows of x there follow those of the
    whole room, with the agent in it as MiniGrid's `FullyObsWrapper` shows it and the beeping box in state 1.

    Args:
      name: as `make` was asked for.
      size: cells a side, walls included.
      boxes: how many, at least 2. They fit for certain where `9 * (boxes - 1) < (size - 2)**2`, which is asked for.
      max_steps: the horizon.
      views: the keys to observe.

    Raises:
      ValueError: for a setting that cannot be.
    """

    num_tasks = NUM_BEACONS

    def __init__(
        self,
        name: str = "beeping_box",
        size: int = 8,
        boxes: int = 4,
        max_steps: int = 64,
        views: Sequence[str] = VIEWS[1:],
    ):
        inside = max(size - 2, 0) ** 2
        if boxes < 2 or 9 * (boxes - 1) >= inside:
            raise ValueError(
                f"In a room of {size} cells a side 2 to {(inside - 1) // 9 + 1} boxes stand apart, got {boxes}; "
                "with 6 cells there is room for 2, with 8 for 4."
            )
        if max_steps < 1:
            raise ValueError(f"A beeping box needs max_steps of at least 1, got {max_steps}.")
        self.name, self.size, self.boxes, self.max_steps = name, size, boxes, max_steps
        self.views = check_views(views, VIEWS)
        self._settings = (name, size, boxes, max_steps, frozenset(self.views))

    def tasks(self) -> jax.Array:
        return jnp.arange(self.num_tasks, dtype=jnp.int32)

    def sample_task(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.num_tasks, jnp.int32)

    def reset(self, key: jax.Array, task: jax.Array) -> tuple[BeepingBoxState, dm_env.TimeStep]:
        side = self.size - 2
        # One draw for all: to split the key would cost more than the rest of the reset.
        noise = jax.random.uniform(key, (side**2 + len(DIRECTIONS) + self.boxes,))
        rank, looks, beeps = jnp.split(noise, [side**2, side**2 + len(DIRECTIONS)])
        places = _apart(rank, side, self.boxes) + 1
        boxes, agent = places[:-1], places[-1]
        grid = jnp.asarray(empty_room(self.size)).at[boxes[:, 1], boxes[:, 0]].set(_BOX)
        world = World(grid, agent, jnp.argmax(looks).astype(jnp.int32), jnp.uint8(EMPTY))
        # Not simply the first: boxes in the middle leave less room for others, which tells of the order.
        state = BeepingBoxState(world, boxes[jnp.argmax(beeps)], jnp.bool_(False), jnp.int32(0))
        return state, restart(self._observe(state, task, {}))

    def step(
        self, key: jax.Array, task: jax.Array, state: BeepingBoxState, action: jax.Array
    ) -> tuple[BeepingBoxState, dm_env.TimeStep]:
        del key
        old, action = state.world, jnp.asarray(_ACTIONS)[action]
        world = move(old, action)
        moved = (world.position != old.position).any()
        opened = (world.grid != old.grid).any()
        found = _stands(old, state.beeping) & ~_stands(world, state.beeping)
        state = BeepingBoxState(world, state.beeping, state.reached | found, state.time + 1)
        events = {
            "step": moved,
            "turn": world.direction != old.direction,
            "bump": (action == FORWARD) & ~moved,
            "open": opened,
            "success": found,
        }
        observation = self._observe(state, task, events)
        return state, transition(observation, found, opened, state.time >= self.max_steps)

    def success(self, state: BeepingBoxState) -> jax.Array:
        """Whether the beeping box was opened in the episode up to `state`, bool."""
        return state.reached

    def demonstrate(self, state: BeepingBoxState) -> np.ndarray:
        """The fewest actions, int32 `[T]`, that open the beeping box; found on the host.

        Args:
          state: unbatched, of this environment, before a box was opened.
        """
        x, y = np.asarray(state.beeping).tolist()
        # Turns and steps have the same numbers in the room.
        return np.append(search_facing(state.world, (x, y)), np.int32(_OPEN))

    def bounds(self, task: jax.Array) -> tuple[jax.Array, jax.Array]:
        """NaN, NaN: neither return is known."""
        del task
        return jnp.float32(jnp.nan), jnp.float32(jnp.nan)

    def task_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.int32, 0, self.num_tasks - 1, "pitch")

    def observation_spec(self) -> dict[str, specs.Array]:
        every = {**view_specs(), "audio": audio_spec()}
        return {key: every[key] for key in VIEWS if key in self.views}

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(len(_ACTIONS), name="action")

    def reward_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> dict[str, specs.Array]:
        return {"symbols": whole_room_spec(self.size), "direction": view_specs()["direction"]}

    def markov_observation(self, state: BeepingBoxState) -> dict[str, jax.Array]:
        x, y = state.beeping[0], state.beeping[1]
        marked = _stands(state.world, state.beeping).astype(jnp.uint8)
        room_x = whole_room_spec(self.size).shape[0] - self.size + x
        symbols = whole_room(state.world).at[room_x, y, 2].max(marked)
        return {"symbols": symbols, "direction": state.world.direction}

    def _observe(self, state: BeepingBoxState, task: jax.Array, events: dict[str, Any]) -> dict[str, Any]:
        world = state.world
        observation: dict[str, Any] = observe_view(world, view(world), self.views)
        if "audio" in self.views:
            forward = jnp.asarray(DIRECTIONS)[world.direction]
            levels = beacon_levels(task, state.beeping - world.position, forward)
            observation["audio"] = mix(events, levels * _stands(world, state.beeping))
        return observation


def _stands(world: World, cell: jax.Array) -> jax.Array:
    """Whether there is a box at a cell (x, y), bool."""
    return world.grid[cell[1], cell[0]] == _BOX


def _apart(rank: jax.Array, side: int, boxes: int) -> jax.Array:
    """int32 `[boxes + 1, 2]`: cells (x, y) of a square that do not touch, then any other, by highest rank."""
    y, x = np.divmod(np.arange(side * side), side)
    cells = np.stack([x, y], -1).astype(np.int32)
    between = np.abs(cells[:, None] - cells).max(axis=-1)  # in steps of a king
    chosen = []
    free = rank
    for _ in range(boxes):
        chosen.append(jnp.argmax(free))
        free = jnp.where(jnp.asarray(between)[chosen[-1]] < 2, -1.0, free)
    chosen.append(jnp.argmax(rank.at[jnp.stack(chosen)].set(-1.0)))
    return jnp.asarray(cells)[jnp.stack(chosen)]
