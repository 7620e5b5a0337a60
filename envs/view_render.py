"""The picture of what a MiniGrid agent sees, from its symbols, inside compiled functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ._minigrid_cells import CODES, UNSEEN, codes_of
from ._minigrid_tiles import tile_bank, tile_index


# The agent looks up; `tile_index` counts directions from 1.
_UP = 4


def render(symbols: jax.Array, tile_size: int = 8) -> jax.Array:
    """What an agent sees as a picture; jittable, with any leading axes.

    Equal to the pixel to MiniGrid's `get_frame(agent_pov=True, tile_size=…)`, which its `RGBImgPartialObsWrapper`
    gives: cells that the agent sees are lit, the agent looks up from the middle of the last row, and what it
    carries is drawn under it. The tiles are MiniGrid's own, drawn once (a fraction of a second).

    Args:
      symbols: uint8 `[..., V, V, 3]`, MiniGrid's (type, colour, state) at x, y; V is odd, 7 by default. Bytes
        beyond MiniGrid's encodings are not checked and drawn as something else.
      tile_size: pixels a side of a tile.

    Returns:
      uint8 `[..., V * tile_size, V * tile_size, 3]`.

    Raises:
      ValueError: for symbols of another shape, or a tile size below 1.
    """
    if symbols.ndim < 3 or symbols.shape[-1] != 3 or symbols.shape[-2] != symbols.shape[-3]:
        raise ValueError(f"symbols are uint8 [..., V, V, 3], got the shape {list(symbols.shape)}.")
    return render_codes(codes_of(symbols), tile_size)


def render_codes(codes: jax.Array, tile_size: int = 8) -> jax.Array:
    """`render` of codes `[..., V, V]`."""
    size = codes.shape[-1]
    own = np.zeros((size, size), np.int32)
    own[size - 1, size // 2] = CODES  # the second half of the tiles has the agent on them
    tiles = codes.swapaxes(-1, -2).astype(jnp.int32) + own
    # A row of a tile's pixels is one item, so that one gather lays the image out as it is; of 32-bit words, which
    # a CPU gathers some 30 times as fast as bytes.
    rows = tiles[..., :, None, :] * tile_size + np.arange(tile_size)[:, None]
    words = jnp.asarray(_tile_rows(tile_size))[rows]  # [..., V, tile_size, V, words]
    pixels = jax.lax.bitcast_convert_type(words, jnp.uint8)
    pixels = pixels.reshape(*words.shape[:-1], -1)[..., : tile_size * 3]
    return pixels.reshape(*codes.shape[:-2], size * tile_size, size * tile_size, 3)


@functools.cache
def _tile_rows(tile_size: int) -> np.ndarray:
    """uint32 `[2 * CODES * tile_size, words]`: the rows of the tiles of a view, then of those with the agent.

    A row is its bytes, filled up to whole words.
    """
    bank = tile_bank(tile_size)
    tiles = np.zeros((2, CODES, tile_size, tile_size, 3), np.uint8)
    for agent in (0, 1):
        for code in range(CODES):
            tiles[agent, code] = bank.tile(tile_index(code, _UP * agent, highlight=code != UNSEEN))
    rows = tiles.reshape(-1, tile_size * 3)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).view(np.uint32)
