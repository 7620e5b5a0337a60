"""Where a token stands: rotary embeddings over one or several axes."""

import jax
import jax.numpy as jnp


def rotary(x: jax.Array, positions: jax.Array, axes: int = 1, base: float = 10_000.0) -> jax.Array:
    """Rotates pairs of features by angles that grow with position (Su et al. 2021, arXiv 2104.09864).

    Scores between rotated queries and keys depend on differences of positions only. With several
    axes (2-D images, 3-D video) each axis has an equal share of the features.

    Args:
      x: `[..., T, H, D]`.
      positions: integers `[..., T]`, or with several axes `[..., T, axes]`.
      axes: axes of position; D must be a multiple of twice as many. The partner of an axis' feature i
        is its feature i + D / (2 axes), as in GPT-NeoX.
      base: the longest wavelength is 2 pi times this.

    Raises:
      ValueError: where D cannot be shared out.
    """
    if axes == 1:
        positions = positions[..., None]
    size = x.shape[-1]
    if size % (2 * axes):
        raise ValueError(
            f"Rotary positions over {axes} axes need a head size divisible by {2 * axes}, got {size}."
        )
    half = size // (2 * axes)
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None] * frequencies
    sin, cos = jnp.sin(angles)[..., None, :, :], jnp.cos(angles)[..., None, :, :]
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], axes, 2, half)
    first, second = pairs[..., 0, :], pairs[..., 1, :]
    turned = jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=-2)
    return turned.reshape(x.shape).astype(x.dtype)
