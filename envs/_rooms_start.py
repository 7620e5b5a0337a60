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
    which_key, where_key, look_key = jax.random.split(key, 3)
    wanted = things[: 2 if family == "place" else 1]
    # The goal's objects come first, the others in random order.
    rank = jax.random.uniform(which_key, (NUM_OBJECTS,)).at[wanted].set(-2.0 + jnp.arange(len(wanted)))
    chosen = jnp.argsort(rank)[:objects]

    inside = size - 2
    places = _places(where_key, inside, objects + 1, apart=family == "place") + 1  # [objects + 1, 2], x and y
    codes = jnp.asarray(CODE_OF_OBJECT)[chosen]
    grid = jnp.asarray(empty_room(size)).at[places[:-1, 1], places[:-1, 0]].set(codes)
    position = places[-1]

    looks = jax.random.uniform(look_key, (4,))
    if family == "find":
        faces = (position + jnp.asarray(DIRECTIONS) == places[0]).all(axis=-1)
        looks = jnp.where(faces, -1.0, looks)
    return World(grid, position, jnp.argmax(looks).astype(jnp.int32), jnp.uint8(EMPTY))


def _places(key: jax.Array, inside: int, count: int, apart: bool) -> jax.Array:
    """int32 `[count, 2]`, different random cells (x, y) of a square; the first two no neighbours if `apart`."""
    y, x = np.divmod(np.arange(inside * inside), inside)
    cells = np.stack([x, y], -1).astype(np.int32)
    rank = jax.random.uniform(key, (len(cells),))
    if apart:
        first = jnp.argmin(rank)
        steps = jnp.abs(jnp.asarray(cells) - jnp.asarray(cells)[first]).sum(axis=-1)
        second = jnp.argmin(jnp.where(steps < 2, 2.0, rank))
        rank = rank.at[jnp.stack([first, second])].set(jnp.array([-2.0, -1.0]))
    return jnp.asarray(cells)[jnp.argsort(rank)[:count]]
