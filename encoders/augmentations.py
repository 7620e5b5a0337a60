"""Augmentations of sound, pictures and video, each a pure function `f(key, x)`.

All have static shapes, so they run in a jitted program and under `vmap` with a key for each example. A spectrogram is
`[..., frames, mels]`; what is masked or shifted out of it becomes 0, the mean of a standardised one. Pictures and video
are floats `[..., H, W, 3]` in [0, 1]; what is drawn is drawn once, so all frames of a clip are cropped, coloured,
blurred and filtered alike. Their default ranges are those of BraVe's published code (Recasens et al. 2021,
arXiv 2103.16559).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def mix(key: jax.Array, x: jax.Array, partner: jax.Array, a: float = 5.0, b: float = 2.0) -> jax.Array:
    """`r x + (1 - r) partner` with r from beta(a, b), for waveforms, spectrograms and video alike (MMSSL, HARES).

    The example keeps the identity of `x`: with beta(5, 2) its share is 5/7 in the mean and above a half in 89 of 100
    draws.

    Args:
      key: of the ratio.
      x: float, any shape.
      partner: of the shape of `x`.
      a, b: the two parameters of the beta distribution.
    """
    ratio = jax.random.beta(key, a, b).astype(x.dtype)
    return ratio * x + (1 - ratio) * partner


def mix_batch(key: jax.Array, x: jax.Array, a: float = 5.0, b: float = 2.0) -> jax.Array:
    """Mixes each example of `[B, ...]` with another one of the batch, B at least 2, by a ratio of its own.

    The partner of all is as many places away, which is drawn; so nobody is mixed with itself, nor is one the partner of
    two.
    """
    if len(x) < 2:
        raise ValueError(f"Mixing needs another example in the batch; its shape is {x.shape}.")
    partner_key, ratio_key = jax.random.split(key)
    partners = jnp.roll(x, jax.random.randint(partner_key, (), 1, len(x)), axis=0)
    one = functools.partial(mix, a=a, b=b)
    return jax.vmap(one)(jax.random.split(ratio_key, len(x)), x, partners)


def time_mask(key: jax.Array, spectrogram: jax.Array, width: int) -> jax.Array:
    """Hides a run of 0 to `width` frames (Park et al. 2019, SpecAugment, arXiv 1904.08779, section 2)."""
    return _mask(key, spectrogram, width, -2)


def frequency_mask(key: jax.Array, spectrogram: jax.Array, width: int) -> jax.Array:
    """Hides a run of 0 to `width` mels, as `time_mask` does frames."""
    return _mask(key, spectrogram, width, -1)


def _mask(key: jax.Array, x: jax.Array, width: int, axis: int) -> jax.Array:
    size = x.shape[axis]
    if not 0 <= width <= size:
        raise ValueError(f"A mask of {width} does not fit in {size}, the axis {axis} of {x.shape}.")
    width_key, begin_key = jax.random.split(key)
    drawn = jax.random.randint(width_key, (), 0, width + 1)
    begin = jax.random.randint(begin_key, (), 0, size - drawn + 1)
    place = jnp.arange(size)
    hidden = (place >= begin) & (place < begin + drawn)
    return jnp.where(hidden[:, None] if axis == -2 else hidden, 0, x)


def frequency_shift(key: jax.Array, spectrogram: jax.Array, largest: int) -> jax.Array:
    """Moves all mels up or down by as many, from `-largest` to `largest` (MFCL, arXiv 2103.06508).

    What leaves is lost and what enters is 0: nothing wraps around.
    """
    mels = spectrogram.shape[-1]
    if not 0 <= largest < mels:
        raise ValueError(
            f"A shift by up to {largest} leaves nothing of {mels} mels; `largest` is below that."
        )
    shift = jax.random.randint(key, (), -largest, largest + 1)
    filled = jnp.pad(spectrogram, [(0, 0)] * (spectrogram.ndim - 1) + [(largest, largest)])
    return jax.lax.dynamic_slice_in_dim(filled, largest - shift, mels, axis=-1)


def random_resized_crop(
    key: jax.Array,
    clip: jax.Array,
    height: int,
    width: int,
    area: tuple[float, float] = (0.3, 1.0),
    aspect: tuple[float, float] = (0.5, 2.0),
) -> jax.Array:
    """A window of random area, shape and place, resized (bilinear, antialiased) to `[..., height, width, 3]`.

    Args:
      key: of the window.
      clip: `[..., H, W, 3]`.
      height, width: pixels of the result.
      area: smallest and largest share of the frame that a window has, even between them.
      aspect: smallest and largest width over height, even in the logarithm. Of ten windows the first that fits in the
        frame is taken, the whole frame where none does.
    """
    rows, columns = clip.shape[-3:-1]
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    areas = rows * columns * jax.random.uniform(area_key, (10,), minval=area[0], maxval=area[1])
    low, high = np.log(aspect)
    aspects = jnp.exp(jax.random.uniform(aspect_key, (10,), minval=low, maxval=high))
    # The whole frame is the last candidate: it always fits.
    sizes = jnp.stack([jnp.sqrt(areas / aspects), jnp.sqrt(areas * aspects)], axis=1)
    frame = jnp.array([rows, columns], jnp.float32)
    sizes = jnp.concatenate([sizes, frame[None]])
    size = sizes[jnp.argmax(jnp.all(sizes <= frame, axis=1))]
    begin = jax.random.uniform(place_key, (2,)) * (frame - size)
    scale = jnp.array([height, width]) / size
    shape = (*clip.shape[:-3], height, width, clip.shape[-1])
    axes = (clip.ndim - 3, clip.ndim - 2)
    cropped = jax.image.scale_and_translate(clip, shape, axes, scale, -begin * scale, "linear")
    return cropped.astype(clip.dtype)


def flip(key: jax.Array, clip: jax.Array, probability: float = 0.5) -> jax.Array:
    """Mirrors left and right."""
    return jnp.where(jax.random.bernoulli(key, probability), clip[..., ::-1, :], clip)


def colour_jitter(
    key: jax.Array,
    clip: jax.Array,
    brightness: float = 32 / 255,
    contrast: tuple[float, float] = (0.6, 1.4),
    saturation: tuple[float, float] = (0.6, 1.4),
    hue: float = 0.2,
    probability: float = 0.8,
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue, in this order, and clips to [0, 1].

    Args:
      key: of the amounts, each even in its range.
      clip: `[..., H, W, 3]`.
      brightness: largest amount that is added or taken.
      contrast: factor of the distance from each frame's mean colour.
      saturation: factor of the saturation (HSV).
      hue: largest turn of the hue (HSV), 1 being the whole circle.
      probability: that anything is changed.
    """
    keys = jax.random.split(key, 5)
    mean = jnp.mean(clip, axis=(-3, -2), keepdims=True)
    added = jax.random.uniform(keys[0], minval=-brightness, maxval=brightness)
    x = (clip - mean) * jax.random.uniform(keys[1], minval=contrast[0], maxval=contrast[1]) + mean + added
    h, s, v = _hsv(jnp.clip(x, 0, 1))
    s = jnp.clip(s * jax.random.uniform(keys[2], minval=saturation[0], maxval=saturation[1]), 0, 1)
    h = h + jax.random.uniform(keys[3], minval=-hue, maxval=hue)
    changed = jnp.clip(_rgb(h, s, v), 0, 1).astype(clip.dtype)
    return jnp.where(jax.random.bernoulli(keys[4], probability), changed, clip)


def _hsv(clip: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    r, g, b = clip[..., 0], clip[..., 1], clip[..., 2]
    v = jnp.max(clip, axis=-1)
    spread = v - jnp.min(clip, axis=-1)
    safe = jnp.where(spread > 0, spread, 1)
    sixths = jnp.where(v == r, (g - b) / safe, jnp.where(v == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    return sixths / 6 % 1, spread / jnp.where(v > 0, v, 1), v


def _rgb(h: jax.Array, s: jax.Array, v: jax.Array) -> jax.Array:
    k = (jnp.array([5.0, 3.0, 1.0]) + 6 * h[..., None]) % 6
    return v[..., None] * (1 - s[..., None] * jnp.clip(jnp.minimum(k, 4 - k), 0, 1))


def grey(key: jax.Array, clip: jax.Array, probability: float = 0.2) -> jax.Array:
    """Takes the colour out, by the luma of ITU-R BT.601."""
    luma = jnp.sum(clip * jnp.array([0.299, 0.587, 0.114], clip.dtype), axis=-1, keepdims=True)
    return jnp.where(jax.random.bernoulli(key, probability), jnp.broadcast_to(luma, clip.shape), clip)


def gaussian_blur(key: jax.Array, clip: jax.Array, sigma: tuple[float, float] = (0.1, 2.0)) -> jax.Array:
    """Blurs by a Gaussian of a random width, cut off after a twentieth of the frame's width (at least a pixel).

    Args:
      key: of the width.
      clip: `[..., H, W, 3]`; its edge goes on beyond the frame.
      sigma: smallest and largest standard deviation, pixels.
    """
    radius = max(1, clip.shape[-2] // 20)
    offsets = jnp.arange(-radius, radius + 1)
    drawn = jax.random.uniform(key, minval=sigma[0], maxval=sigma[1])
    weights = jnp.exp(-0.5 * (offsets / drawn) ** 2)
    weights = (weights / jnp.sum(weights)).astype(clip.dtype)
    # A sum of shifted frames: under `vmap` a convolution would become one with a group for each clip, which is slow.
    for axis in (clip.ndim - 3, clip.ndim - 2):
        size = clip.shape[axis]
        widths = [(radius, radius) if i == axis else (0, 0) for i in range(clip.ndim)]
        filled = jnp.pad(clip, widths, mode="edge")
        shifted = (jax.lax.slice_in_dim(filled, i, i + size, axis=axis) for i in range(2 * radius + 1))
        clip = sum(weight * frame for weight, frame in zip(weights, shifted))  # pyright: ignore[reportAssignmentType]
    return clip


def random_convolution(key: jax.Array, clip: jax.Array, largest: int = 11) -> jax.Array:
    """Filters by one random kernel of He-normal weights, which keeps shapes and changes textures and colours.

    The size of the kernel is odd, from 1 to `largest`, all as likely; zeros stand beyond the frame; nothing is clipped.
    """
    if largest < 1 or largest % 2 == 0:
        raise ValueError(f"largest must be odd and at least 1, not {largest}.")
    size_key, weight_key = jax.random.split(key)
    radius = jax.random.randint(size_key, (), 0, largest // 2 + 1)
    size = 2 * radius + 1
    # The smaller kernels are the largest one's middle: one shape for all sizes.
    inside = jnp.abs(jnp.arange(largest) - largest // 2) <= radius
    scale = jnp.sqrt(2 / (3 * size * size)) * (inside[:, None] & inside)
    kernel = jax.random.normal(weight_key, (largest, largest, 3, 3)) * scale[..., None, None]
    frames = clip.reshape(-1, *clip.shape[-3:])
    filtered = jax.lax.conv_general_dilated(
        frames, kernel.astype(clip.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return filtered.reshape(clip.shape)
