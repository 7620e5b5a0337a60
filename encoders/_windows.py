"""Shifted windows of a grid of any number of axes (Liu et al. 2021, arXiv 2103.14030; 2022, arXiv 2106.13230)."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from .attention import attention


Sides = tuple[int, ...]


def fit(grid: Sides, window: Sides, shifted: bool) -> tuple[Sides, Sides]:
    """The window cut to the grid, and by how much the grid is rolled: half a window along axes with several windows."""
    sides = tuple(min(g, w) for g, w in zip(grid, window, strict=True))
    shift = tuple(w // 2 if shifted and g > w else 0 for g, w in zip(grid, sides, strict=True))
    return sides, shift


def relative_index(window: Sides) -> np.ndarray:
    """int `[N, N]`: the row, in a table of prod(2 w - 1) rows, of the difference of query's and key's places."""
    places = np.stack(np.unravel_index(np.arange(math.prod(window)), window), axis=-1)
    apart = places[:, None] - places[None] + np.array(window) - 1
    sides = [2 * w - 1 for w in window]
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(apart, -1, 0)), sides))


def window_mask(grid: Sides, window: Sides, shift: Sides) -> np.ndarray | None:
    """bool `[windows, N, N]`: rolling brings the grid's two ends into one window, where they may not read each other.

    None where no axis is rolled. `grid` is a multiple of `window`.
    """
    if not any(shift):
        return None
    # Along each rolled axis: all windows but the last, then the last one's two parts.
    parts = [
        (np.arange(g) >= g - w).astype(int) + (np.arange(g) >= g - s) if s else np.zeros(g, int)
        for g, w, s in zip(grid, window, shift, strict=True)
    ]
    regions = sum(
        part.reshape(-1, *[1] * (len(grid) - axis - 1)) * 3**axis for axis, part in enumerate(parts)
    )
    regions = np.asarray(partition(np.broadcast_to(regions, grid)[None, ..., None], window))[0, ..., 0]
    return regions[:, :, None] == regions[:, None, :]


def partition(x, window: Sides):
    """`[B, *grid, C]` to `[B, windows, N, C]`."""
    axes, grid = len(window), x.shape[1:-1]
    split = itertools.chain.from_iterable((g // w, w) for g, w in zip(grid, window, strict=True))
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(x.shape[0], -1, math.prod(window), x.shape[-1])


def join(x: jax.Array, grid: Sides, window: Sides) -> jax.Array:
    """`[B, windows, N, C]` back to `[B, *grid, C]`."""
    axes = len(window)
    x = x.reshape(len(x), *[g // w for g, w in zip(grid, window, strict=True)], *window, x.shape[-1])
    order = itertools.chain.from_iterable((1 + i, 1 + axes + i) for i in range(axes))
    return x.transpose(0, *order, 2 * axes + 1).reshape(len(x), *grid, x.shape[-1])


def window_attention(
    qkv: jax.Array,
    padding: jax.Array,
    bias: jax.Array,
    window: Sides,
    shift: Sides,
    more: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Attention inside each window.

    A grid that is not a multiple of the window is padded at its ends with tokens of zeros, which are read like others:
    so do the authors' code and torchvision's.

    Args:
      qkv: queries, keys and values of the grid's tokens, `[B, *grid, 3, H, D]`.
      padding: the same of a token of zeros, `[3, H, D]`.
      bias: added to the scores, `[H, N, N]`, N tokens of a window.
      window: as `fit` gives it.
      shift: as `fit` gives it.
      more: keys and values `[B, F, H, D]` that every window reads besides.

    Returns:
      `[B, *grid, H, D]`.
    """
    grid, tail = qkv.shape[1:-3], qkv.shape[-3:]
    axes = tuple(range(1, len(grid) + 1))
    whole = tuple(-(-g // w) * w for g, w in zip(grid, window, strict=True))
    x = qkv.reshape(*qkv.shape[:-3], -1)
    if whole != grid:
        x = jnp.broadcast_to(padding.reshape(-1), (len(x), *whole, x.shape[-1])).at[_corner(grid)].set(x)
    x = partition(jnp.roll(x, [-s for s in shift], axes), window)
    query, key, value = jnp.moveaxis(x.reshape(*x.shape[:-1], *tail), -3, 0)
    allowed = window_mask(whole, window, shift)
    mask = None if allowed is None else jnp.asarray(allowed)
    if more is not None:
        shape = (*key.shape[:2], more[0].shape[1], *tail[1:])
        key, value = (
            jnp.concatenate([a, jnp.broadcast_to(b[:, None], shape)], axis=2)
            for a, b in zip((key, value), more, strict=True)
        )
        bias = jnp.pad(bias, [(0, 0), (0, 0), (0, shape[2])])
        mask = None if mask is None else jnp.pad(mask, [(0, 0), (0, 0), (0, shape[2])], constant_values=True)
    out = attention(query, key, value, mask=mask, bias=bias)
    out = join(out.reshape(*out.shape[:3], -1), whole, window)
    out = jnp.roll(out, shift, axes)[_corner(grid)]
    return out.reshape(*out.shape[:-1], *tail[1:])


def _corner(grid: Sides) -> tuple[slice, ...]:
    return (slice(None), *(slice(g) for g in grid))
