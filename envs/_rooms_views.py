"""What is observed in a walled room: the agent's view, and the whole room for a source learner."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._minigrid_cells import ENCODINGS
from ._rooms_world import VIEW_SIZE, World, symbols_of, view
from .view_render import render_codes


TILE_SIZE = 8
_AGENT = 10


def view_specs() -> dict[str, specs.Array]:
    """The specs of `image`, `symbols` and `direction`."""
    pixels, top = VIEW_SIZE * TILE_SIZE, ENCODINGS[-1]
    return {
        "image": specs.BoundedArray((pixels, pixels, 3), np.uint8, 0, 255, "image"),
        "symbols": specs.BoundedArray((VIEW_SIZE, VIEW_SIZE, 3), np.uint8, 0, top, "symbols"),
        "direction": specs.DiscreteArray(4, _INT32, "direction"),
    }


def observe_view(world: World, codes: jax.Array, views: Collection[str]) -> dict[str, jax.Array]:
    """Those of `image`, `symbols` and `direction` that are among `views`, of `codes = view(world)`."""
    make = {
        "image": lambda: render_codes(codes, TILE_SIZE),
        "symbols": lambda: symbols_of(codes),
        "direction": lambda: world.direction,
    }
    return {key: make[key]() for key in make if key in views}


def whole_room_spec(size: int) -> specs.BoundedArray:
    """The spec of `whole_room`."""
    shape = (VIEW_SIZE + size, max(VIEW_SIZE, size), 3)
    return specs.BoundedArray(shape, np.uint8, 0, np.array([_AGENT, 5, 3], np.uint8), "symbols")


def whole_room(world: World) -> jax.Array:
    """uint8 `[7 + size, max(7, size), 3]`: the symbols of the view's x, y and, below its 7 rows of x, of the room's.

    The agent is in the room as MiniGrid's `FullyObsWrapper` shows it.
    """
    wide = max(VIEW_SIZE, world.grid.shape[0])
    agent = jnp.stack([jnp.int32(_AGENT), jnp.int32(0), world.direction]).astype(jnp.uint8)
    room = symbols_of(world.grid.T).at[world.position[0], world.position[1]].set(agent)
    parts = [jnp.pad(part, ((0, 0), (0, wide - part.shape[1]), (0, 0))) for part in
             (symbols_of(view(world)), room)]  # fmt: skip
    return jnp.concatenate(parts)


# dm_env's argument has no type and the default's is taken for it.
_INT32: Any = np.int32
