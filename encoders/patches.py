"""Modalities as configurations: the shape of an input, and what makes tokens of it.

Each is a frozen dataclass with `shape` (of an input without its batch), `grid` (how its tokens lie) and `num_tokens`;
called inside `hk.transform` with a width and a name it makes tokens `[B, N, width]` of inputs `[B, *shape]`. Tokens are
the cells of a regular grid in row-major order: patches that do not overlap, words, or cells of MiniGrid.

Pixels that are uint8 are scaled to [-1, 1]; floats are taken as they are. Tokens are float32 whatever the inputs and
the parameters are.
"""

import dataclasses
import math
from typing import Any, Literal

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from ._windows import partition


Positions = Literal["learned", "factorised", "none"]

_SMALL = hk.initializers.TruncatedNormal(0.02)


class _Grid:
    """What every modality has."""

    grid: Any

    @property
    def num_tokens(self) -> int:
        """Tokens of an input."""
        return math.prod(self.grid)


@dataclasses.dataclass(frozen=True)
class Picture(_Grid):
    """A picture in square or rectangular patches (Dosovitskiy et al. 2021, arXiv 2010.11929).

    Attributes:
      height: pixels; a multiple of the patch's.
      width: pixels; a multiple of the patch's.
      channels: of a pixel.
      patch: (height, width) of a patch in pixels; one number for a square.
      positions: `learned` (a vector for each token), `factorised` (one for each row and each column, added up) or
        `none`.
    """

    height: int
    width: int
    channels: int = 3
    patch: tuple[int, int] | int = 16
    positions: Positions = "learned"

    def __post_init__(self):
        _check(self, (self.height, self.width), _sides(self.patch), self.channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches down and across."""
        return _grid((self.height, self.width), _sides(self.patch))

    def __call__(self, x: jax.Array, width: int, name: str) -> jax.Array:
        """uint8 or float `[B, *shape]` to tokens `[B, N, width]`."""
        _check_input(self, x, name, "uint8 or float")
        return _patches(_pixels(x), self.grid, _sides(self.patch), self.positions, width, name)


@dataclasses.dataclass(frozen=True)
class Video(_Grid):
    """A video in tubelets, patches that are some frames deep (Arnab et al. 2021, arXiv 2103.15691, section 3.2).

    Attributes:
      frames: a multiple of the tubelet's.
      height: pixels; a multiple of the tubelet's.
      width: pixels; a multiple of the tubelet's.
      channels: of a pixel.
      tubelet: (frames, height, width).
      positions: as a `Picture`'s; `factorised` has a table for time too.
    """

    frames: int
    height: int
    width: int
    channels: int = 3
    tubelet: tuple[int, int, int] = (2, 16, 16)
    positions: Positions = "factorised"

    def __post_init__(self):
        _check(self, (self.frames, self.height, self.width), self.tubelet, self.channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(frames, height, width, channels)."""
        return self.frames, self.height, self.width, self.channels

    @property
    def grid(self) -> tuple[int, ...]:
        """Tubelets in time, down and across."""
        return _grid((self.frames, self.height, self.width), self.tubelet)

    def __call__(self, x: jax.Array, width: int, name: str) -> jax.Array:
        """uint8 or float `[B, *shape]` to tokens `[B, N, width]`."""
        _check_input(self, x, name, "uint8 or float")
        return _patches(_pixels(x), self.grid, self.tubelet, self.positions, width, name)


@dataclasses.dataclass(frozen=True)
class Spectrogram(_Grid):
    """A log-mel spectrogram in patches (Gong et al. 2021, arXiv 2104.01778; theirs overlap).

    Attributes:
      frames: a multiple of the patch's.
      mels: bands; a multiple of the patch's.
      patch: (frames, mels) of a patch; one number for a square.
      positions: as a `Picture`'s.
    """

    frames: int
    mels: int
    patch: tuple[int, int] | int = 16
    positions: Positions = "learned"

    def __post_init__(self):
        _check(self, (self.frames, self.mels), _sides(self.patch), 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """(frames, mels)."""
        return self.frames, self.mels

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches in time and in frequency."""
        return _grid((self.frames, self.mels), _sides(self.patch))

    def __call__(self, x: jax.Array, width: int, name: str) -> jax.Array:
        """Float `[B, frames, mels]` to tokens `[B, N, width]`."""
        _check_input(self, x, name, "float")
        return _patches(x[..., None], self.grid, _sides(self.patch), self.positions, width, name)


@dataclasses.dataclass(frozen=True)
class Tokens(_Grid):
    """A text of a fixed length, as numbers of words. Padding is a word like any other.

    Attributes:
      length: words of a text.
      vocabulary: words that there are. A number outside is not noticed in a jitted program: check it before.
      positions: `learned` or `none`.
    """

    length: int
    vocabulary: int
    positions: Positions = "learned"

    def __post_init__(self):
        _check(self, (self.length,), (1,), self.vocabulary)

    @property
    def shape(self) -> tuple[int, ...]:
        """(length,)."""
        return (self.length,)

    @property
    def grid(self) -> tuple[int, ...]:
        """(length,)."""
        return (self.length,)

    def __call__(self, x: jax.Array, width: int, name: str) -> jax.Array:
        """Integers `[B, length]` to tokens `[B, length, width]`."""
        _check_input(self, x, name, "integer")
        table = hk.get_parameter(f"{name}_words", (self.vocabulary, width), init=_SMALL)
        return _place(table[x].astype(jnp.float32), self.grid, self.positions, width, name)


@dataclasses.dataclass(frozen=True)
class Symbols(_Grid):
    """A grid of cells with several numbers each, such as MiniGrid's view, in patches of cells.

    Attributes:
      height: cells; a multiple of the patch's.
      width: cells; a multiple of the patch's.
      sizes: for each channel how many values it has. A value outside is not noticed in a jitted program.
      patch: (height, width) of a patch in cells; one number for a square. With 1 a cell is a token.
      positions: as a `Picture`'s.
    """

    height: int
    width: int
    sizes: tuple[int, ...]
    patch: tuple[int, int] | int = 1
    positions: Positions = "learned"

    def __post_init__(self):
        _check(self, (self.height, self.width), _sides(self.patch), min(self.sizes, default=0))

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.height, self.width, len(self.sizes)

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches down and across."""
        return _grid((self.height, self.width), _sides(self.patch))

    def __call__(self, x: jax.Array, width: int, name: str) -> jax.Array:
        """Integers `[B, height, width, channels]` to tokens `[B, N, width]`."""
        _check_input(self, x, name, "integer")
        tokens = jnp.zeros((*x.shape[:-1], width), jnp.float32)
        for channel, size in enumerate(self.sizes):
            table = hk.get_parameter(f"{name}_channel_{channel}", (size, width), init=_SMALL)
            # Not `table[x]`: the sums into a table, its gradient, are slow on a CPU.
            tokens += jax.nn.one_hot(x[..., channel], size, dtype=table.dtype) @ table
        if math.prod(_sides(self.patch)) > 1:
            return _patches(tokens, self.grid, _sides(self.patch), self.positions, width, name)
        return _place(tokens.reshape(len(x), -1, width), self.grid, self.positions, width, name)


Modality = Picture | Video | Spectrogram | Tokens | Symbols


def _sides(patch: tuple[int, int] | int) -> tuple[int, ...]:
    return (patch, patch) if isinstance(patch, int) else patch


def _grid(size: tuple[int, ...], patch: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n // p for n, p in zip(size, patch, strict=True))


def _check(modality: Any, size: tuple[int, ...], patch: tuple[int, ...], values: int) -> None:
    if len(patch) != len(size):
        raise ValueError(f"{modality}: a patch needs {len(size)} sides, got {patch}.")
    if min(*size, *patch, values) < 1:
        raise ValueError(f"{modality}: every size must be at least 1.")
    if any(n % p for n, p in zip(size, patch, strict=True)):
        near = tuple(-(-n // p) * p for n, p in zip(size, patch, strict=True))
        raise ValueError(
            f"{modality}: the patch {patch} does not divide {size}. Crop the input, or pad it to {near}."
        )
    if modality.positions not in ("learned", "factorised", "none"):
        raise ValueError(f"positions must be 'learned', 'factorised' or 'none', got {modality.positions!r}.")


def _check_input(modality: Modality, x: Any, name: str, kind: str) -> None:
    expected = ", ".join(map(str, modality.shape))
    if x.ndim != len(modality.shape) + 1 or tuple(x.shape[1:]) != modality.shape:
        raise ValueError(f"{name} must have the shape [B, {expected}], got {list(x.shape)}.")
    kinds = {
        "uint8 or float": x.dtype == np.uint8 or jnp.issubdtype(x.dtype, jnp.floating),
        "float": jnp.issubdtype(x.dtype, jnp.floating),
        "integer": jnp.issubdtype(x.dtype, jnp.integer),
    }
    if not kinds[kind]:
        raise ValueError(f"{name} must be {kind}, got {x.dtype}.")


def _pixels(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) / 127.5 - 1.0 if x.dtype == np.uint8 else x


def _patches(x, grid, patch, positions, width: int, name: str) -> jax.Array:
    """Cuts `[B, *size, channels]` into patches and maps each linearly: a convolution whose stride is its kernel."""
    x = partition(x, patch).reshape(len(x), math.prod(grid), -1)
    tokens = hk.Linear(width, name=f"{name}_patches")(x.astype(jnp.float32))
    return _place(tokens, grid, positions, width, name)


def _place(tokens: jax.Array, grid: tuple[int, ...], positions: Positions, width: int, name: str):
    """Adds to each token of `[B, N, width]` the vector of its place."""
    if positions == "none":
        return tokens
    if positions == "learned":
        return tokens + hk.get_parameter(f"{name}_positions", (math.prod(grid), width), init=_SMALL)
    places = jnp.zeros((*grid, width), jnp.float32)
    for axis, length in enumerate(grid):
        table = hk.get_parameter(f"{name}_positions_{axis}", (length, width), init=_SMALL)
        places += table.reshape(length, *[1] * (len(grid) - axis - 1), width)
    return tokens + places.reshape(-1, width)
