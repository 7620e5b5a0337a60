"""Frames to what an image encoder sees: resize, centre crop, normalise, without PIL and equal to it.

CLIP's networks were trained on pixels that PIL resized, and PIL's resize is integer arithmetic: a horizontal pass and
a vertical pass, each with 22-bit fixed-point weights and each rounded to 8 bits. Doing the same sums gives the same
bits, in NumPy and inside a jitted program alike; floating-point resizing differs by a grey level here and there.
"""

import dataclasses
import functools
from types import ModuleType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np


Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "longest", "squash"]

# The bits after the point of PIL's fixed-point weights: 32, less 8 of the pixel and 2 for overshoot.
_BITS = 22


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to a frame before an image encoder, as open_clip's evaluation transform does it.

    Attributes:
      height: of the encoder's images, pixels.
      width: of the encoder's images, pixels.
      mean: of the three channels in [0, 1], subtracted.
      std: of the three channels, divided by.
      interpolation: `bicubic` (a = -0.5) or `bilinear`, both widened by the factor of shrinking (antialiased).
      resize_mode: `shortest` makes the shorter side fit and crops the longer, `longest` makes the longer fit and
        fills the shorter, `squash` changes the aspect ratio.
      fill: grey level of what `longest` fills.
    """

    height: int = 224
    width: int = 224
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill: int = 0

    def __post_init__(self):
        if self.height < 1 or self.width < 1:
            raise ValueError(f"An image has at least one pixel a side, got {self.height} x {self.width}.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std are three numbers, std above 0; got {self.mean} and {self.std}.")
        for name, allowed in (
            ("interpolation", ("bicubic", "bilinear")),
            ("resize_mode", ("shortest", "longest", "squash")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}.")

    def fit(self, frames: Any) -> Any:
        """Resizes and crops.

        Args:
          frames: uint8 `[N, H, W, 3]`; a NumPy array is worked on by NumPy, a JAX array (traced or not) by JAX.

        Returns:
          uint8 `[N, height, width, 3]`, the bits that PIL gives.

        Raises:
          ValueError: for another type or shape.
        """
        check_frames(frames)
        numpy = np if isinstance(frames, np.ndarray) else jnp
        height, width = self._resized(*frames.shape[1:3])
        # PIL goes along rows first; each pass is rounded, so the order matters.
        frames = _resize(frames, 2, width, self._filter(), numpy)
        frames = _resize(frames, 1, height, self._filter(), numpy)
        frames = _crop_or_fill(frames, 1, self.height, self.fill, numpy)
        return _crop_or_fill(frames, 2, self.width, self.fill, numpy)

    def normalise(self, frames: Any) -> Any:
        """uint8 `[..., 3]` to float32 `[..., 3]`: scaled to [0, 1], less the mean, over the standard deviation."""
        scaled = frames.astype(np.float32) / np.float32(255)
        return (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def __call__(self, frames: Any) -> Any:
        """uint8 `[N, H, W, 3]` to float32 `[N, height, width, 3]`: `normalise` of `fit`."""
        return self.normalise(self.fit(frames))

    def _filter(self) -> Interpolation:
        # open_clip's transform forgets the interpolation for images that are not square.
        square = self.height == self.width or self.resize_mode != "shortest"
        return self.interpolation if square else "bicubic"

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """The size before cropping, rounded as torchvision and open_clip round it."""
        if self.resize_mode == "squash":
            return self.height, self.width
        if self.resize_mode == "shortest" and self.height == self.width:
            long = int(self.height * max(height, width) / min(height, width))
            return (self.height, long) if height <= width else (long, self.height)
        choose = max if self.resize_mode == "longest" else min
        ratio = choose(height / self.height, width / self.width)
        return round(height / ratio), round(width / ratio)


def check_frames(frames: Any) -> None:
    """Refuses what is not uint8 `[N, H, W, 3]`.

    Raises:
      ValueError: saying what was given.
    """
    shape, dtype = getattr(frames, "shape", None), getattr(frames, "dtype", None)
    if shape is None or dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape[1:3]:
        given = type(frames).__name__ if shape is None else f"{dtype} {list(shape)}"
        raise ValueError(
            f"Frames must be an array of uint8 [N, H, W, 3], RGB from 0 to 255; got {given}. A single frame is "
            "frame[None]; pixels in [0, 1] are (255 * pixels).round().astype('uint8')."
        )


def _kernel(x: np.ndarray, interpolation: Interpolation) -> np.ndarray:
    x = np.abs(x)
    if interpolation == "bilinear":
        return np.maximum(1 - x, 0)
    # Keys 1981 with a = -0.5.
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@functools.lru_cache(maxsize=64)
def _taps(size: int, resized: int, interpolation: Interpolation) -> tuple[np.ndarray, np.ndarray]:
    """For each new pixel the old ones that it is made of, `[resized, K]`, and their fixed-point weights."""
    scale = size / resized
    stretch = max(scale, 1.0)
    support = stretch * (1.0 if interpolation == "bilinear" else 2.0)
    centres = (np.arange(resized) + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    after = np.minimum((centres + support + 0.5).astype(np.int64), size)
    places = first[:, None] + np.arange(int(np.max(after - first)))
    weights = _kernel((places - centres[:, None] + 0.5) / stretch, interpolation)
    weights = np.where(places < after[:, None], weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = np.trunc(weights * 2**_BITS + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(places, size - 1).astype(np.int32), fixed


def _resize(
    frames: Any, axis: int, resized: int, interpolation: Interpolation, numpy: ModuleType
) -> np.ndarray | jax.Array:
    size = frames.shape[axis]
    if size == resized:
        return frames
    places, weights = _taps(size, resized, interpolation)
    shape = [1] * frames.ndim
    shape[axis] = resized
    total = 2 ** (_BITS - 1)
    for k in range(places.shape[1]):
        pixels = numpy.take(frames, places[:, k], axis=axis)
        total = total + pixels * weights[:, k].reshape(shape)
    return numpy.clip(total >> _BITS, 0, 255).astype(np.uint8)


def _crop_or_fill(frames: Any, axis: int, size: int, fill: int, numpy: ModuleType) -> np.ndarray | jax.Array:
    missing = size - frames.shape[axis]
    if missing > 0:
        widths = [(0, 0)] * frames.ndim
        widths[axis] = (missing // 2, (missing + 1) // 2)
        return numpy.pad(frames, widths, constant_values=fill)
    # `round` goes to the even neighbour, as it does in torchvision.
    start = round(-missing / 2)
    index = [slice(None)] * frames.ndim
    index[axis] = slice(start, start + size)
    return frames[tuple(index)]
