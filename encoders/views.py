"""Views: what a network sees of an example, drawn anew whenever it is looked at.

A view is a function `(key, example) -> array`; an example is a dictionary of arrays without a batch axis. Steps are
functions `(key, x) -> x`, such as the augmentations with their settings bound by `functools.partial`.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


Example = Mapping[str, jax.Array]
View = Callable[[jax.Array, Example], jax.Array]


def apply_views(key: jax.Array, example: Example, views: Mapping[str, View]) -> dict[str, jax.Array]:
    """Every view of one example, by name.

    A view's key comes from `key` and its own name, so that another view beside it changes nothing. Batches are
    `jax.vmap` over keys and examples.
    """
    # CRC-32, since Python's own hash of a string differs from process to process.
    keys = {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in views}
    return {name: view(keys[name], example) for name, view in views.items()}


def compose(*steps: Callable[[jax.Array, Any], Any]) -> Callable[[jax.Array, Any], Any]:
    """The steps one after the other, each with a key of its own; a view where the first step takes an example."""

    def composed(key, x):
        for i, step in enumerate(steps):
            x = step(jax.random.fold_in(key, i), x)
        return x

    return composed


def fixed(function: Callable[[Any], Any]) -> Callable[[jax.Array, Any], Any]:
    """A step that draws nothing: a `LogMel`, `lambda example: example["image"]`, or a resize."""
    return lambda key, x: function(x)


def window(name: str, length: int, step: int = 1, rate: float = 1.0, begin: str | None = None) -> View:
    """A view: part of `example[name]` along its first axis, a crop of a waveform or a run of frames.

    A narrow view is a short window and a broad one a long window, of the same entry or of another (BraVe: 16 frames
    with step 2 and 64 with step 4, or the sound). Each begins where it likes, unless `begin` ties them together.

    Args:
      name: of the entry.
      length: rows of the view.
      step: every which row is taken.
      rate: rows a second, for `begin`.
      begin: the example's entry that says where the window begins, a scalar in seconds; a window that would end after
        the entry does begins earlier. None draws a begin, all as likely.

    Raises:
      ValueError: when it is called, if the entry is too short.
    """
    span = (length - 1) * step + 1
    if min(length, step) < 1:
        raise ValueError(f"A window has a length and a step of at least 1, not {length} and {step}.")

    def view(key, example):
        x = example[name]
        if len(x) < span:
            raise ValueError(
                f"A window of {length} rows with step {step} needs {span} of {name!r}, which has {len(x)}."
            )
        if begin is None:
            first = jax.random.randint(key, (), 0, len(x) - span + 1)
        else:
            first = jnp.clip(jnp.round(example[begin] * rate).astype(jnp.int32), 0, len(x) - span)
        return jax.lax.dynamic_slice_in_dim(x, first, span)[::step]

    return view


def resize(height: int, width: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A step: float `[..., H, W, C]` to `[..., height, width, C]`, bilinear and antialiased."""

    def resized(x):
        return jax.image.resize(x, (*x.shape[:-3], height, width, x.shape[-1]), "linear")

    return fixed(resized)
