"""How an episode in a room begins."""

import jax
import jax.numpy as jnp
import numpy as np

from ._minigrid_cells import EMPTY
from ._rooms_world import DIRECTIONS, World, empty_room
from .facts import CODE_OF_OBJECT, NUM_OBJECTS


def start(key: jax.Array, family: str, size: int, objects: int, things: jax.Array) -> World:
    """A room of different objects, the goal's among them, in which the goal is not true.

    Args:
      key: a random key.
      family: `find`, `lift` or `place`.
      size: cells a side.
      objects: how many.
      things: int32 `[2]`, the numbers of the goal's objects; only `place` has a second.
    """
    wanted, inside = things[: 2 if family == "place" else 1], size - 2
    # One draw for all: to split the key would cost more than the rest of the reset.
    noise = jax.random.uniform(key, (NUM_OBJECTS + inside**2 + len(DIRECTIONS),))
    which, where, looks = jnp.split(noise, [NUM_OBJECTS, NUM_OBJECTS + inside**2])
    # The goal's objects come first, the others in random order. `top_k` is ten times as fast as to sort.
    rank = which.at[wanted].set(3.0 - jnp.arange(len(wanted)))
    chosen = jax.lax.top_k(rank, objects)[1]

    places = _places(where, inside, objects + 1, apart=family == "place") + 1  # [objects + 1, 2], x and y
    codes = jnp.asarray(CODE_OF_OBJECT)[chosen]
    grid = jnp.asarray(empty_room(size)).at[places[:-1, 1], places[:-1, 0]].set(codes)
    position = places[-1]

    if family == "find":
        faces = (position + jnp.asarray(DIRECTIONS) == places[0]).all(axis=-1)
        looks = jnp.where(faces, -1.0, looks)
    return World(grid, position, jnp.argmax(looks).astype(jnp.int32), jnp.uint8(EMPTY))


def _places(rank: jax.Array, inside: int, count: int, apart: bool) -> jax.Array:
    """int32 `[count, 2]`: the cells (x, y) of a square of highest rank; the first two no neighbours if `apart`."""
    y, x = np.divmod(np.arange(inside * inside), inside)
    cells = np.stack([x, y], -1).astype(np.int32)
    if apart:
        first = jnp.argmax(rank)
        steps = jnp.abs(jnp.asarray(cells) - jnp.asarray(cells)[first]).sum(axis=-1)
        second = jnp.argmax(jnp.where(steps < 2, -1.0, rank))
        rank = rank.at[jnp.stack([first, second])].set(jnp.array([3.0, 2.0]))
    return jnp.asarray(cells)[jax.lax.top_k(rank, count)[1]]
