"""A walled room with MiniGrid's dynamics and view, as pure functions of arrays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._minigrid_cells import EMPTY, ENCODINGS, UNSEEN, WALL
from .facts import CODE_OF_OBJECT, OBJECTS


# MiniGrid's actions; the last does nothing.
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(len(ACTIONS))
# (dx, dy) of each direction: right, down, left, up; y grows downwards.
DIRECTIONS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.int32)
VIEW_SIZE = 7

_OBJECT = np.isin(np.arange(len(ENCODINGS)), CODE_OF_OBJECT)
_BOX = np.isin(np.arange(len(ENCODINGS)), CODE_OF_OBJECT[[kind == "box" for _, kind in OBJECTS]])


class World(NamedTuple):
    """Where everything is; codes are those of `_minigrid_cells`.

    Attributes:
      grid: uint8 `[size, size]`, the code of every cell, rows (y) from the top.
      position: int32 `[2]`, the agent's (x, y).
      direction: int32, 0 right, 1 down, 2 left, 3 up.
      carried: uint8, the code of what the agent carries, EMPTY for nothing.
    """

    grid: jax.Array
    position: jax.Array
    direction: jax.Array
    carried: jax.Array


def empty_room(size: int) -> np.ndarray:
    """uint8 `[size, size]`: codes of a room of empty cells inside a wall one cell thick."""
    room = np.full((size, size), WALL, np.uint8)
    room[1:-1, 1:-1] = EMPTY
    return room


def move(world: World, action: jax.Array) -> World:
    """One action, as `MiniGridEnv.step` does it: a box that is toggled opens, and an empty box is gone then."""
    front = world.position + jnp.asarray(DIRECTIONS)[world.direction]
    x, y = front[0], front[1]
    cell = world.grid[y, x]
    free, holds = cell == EMPTY, world.carried != EMPTY
    take = (action == PICKUP) & jnp.asarray(_OBJECT)[cell] & ~holds
    drop = (action == DROP) & free & holds
    opened = (action == TOGGLE) & jnp.asarray(_BOX)[cell]
    left = jnp.asarray(jnp.where(drop, world.carried, cell))
    kept = jnp.asarray(jnp.where(drop, EMPTY, world.carried))
    return World(
        world.grid.at[y, x].set(jnp.where(take | opened, EMPTY, left)),
        jnp.where((action == FORWARD) & free, front, world.position),
        (world.direction + jnp.asarray([3, 1, 0, 0, 0, 0, 0], jnp.int32)[action]) % 4,
        jnp.where(take, cell, kept),
    )


def _view_offsets() -> np.ndarray:
    """int32 `[4, 7, 7, 2]`: where the view's cell (x, y) lies from the agent, (dx, dy), by direction."""
    across, ahead = np.meshgrid(np.arange(VIEW_SIZE) - VIEW_SIZE // 2, VIEW_SIZE - 1 - np.arange(VIEW_SIZE))
    forward = DIRECTIONS[:, None, None]
    right = np.roll(DIRECTIONS, -1, axis=0)[:, None, None]
    return (forward * ahead.T[..., None] + right * across.T[..., None]).astype(np.int32)


_OFFSETS = _view_offsets()


def view(world: World) -> jax.Array:
    """uint8 `[7, 7]`: the codes of what the agent sees at x, y of its view.

    In a room without walls inside, MiniGrid's rule of sight hides exactly what lies beyond the outer wall.
    """
    size = world.grid.shape[0]
    places = world.position + jnp.asarray(_OFFSETS)[world.direction]
    inside = ((places >= 0) & (places < size)).all(axis=-1)
    x, y = jnp.moveaxis(places.clip(0, size - 1), -1, 0)
    codes = jnp.asarray(jnp.where(inside, world.grid[y, x], UNSEEN))
    return codes.at[VIEW_SIZE // 2, VIEW_SIZE - 1].set(world.carried)


def symbols_of(codes: jax.Array) -> jax.Array:
    """uint8 `[..., 3]`, MiniGrid's (type, colour, state) of codes `[...]`."""
    return jnp.asarray(ENCODINGS)[codes]
