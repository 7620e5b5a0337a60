"""Which words of a text stand in which labels: what is matched is known by itself, and nothing of it is learned."""

from typing import Any

import jax
import jax.numpy as jnp


def word_matches(labels: Any, text: Any) -> jax.Array:
    """Whether a label has a word of the text.

    Args:
      labels: int32 tokens `[..., N, K]` of N cells, 0 = padding.
      text: int32 tokens `[..., L]` of the same list, 0 = padding.

    Returns:
      float32 `[..., N, L]`, 1 where the word is among the label's, 0 for padding.
    """
    labels, words = jnp.asarray(labels)[..., :, None, :], jnp.asarray(text)[..., None, :, None]
    return ((labels == words) & (words != 0)).any(-1).astype(jnp.float32)


def label_matches(labels: Any, text: Any) -> jax.Array:
    """How well labels fit a text, float32 `[..., N]`: the cosine of the two as sets of words, 0 for an empty one.

    Args:
      labels, text: as of `word_matches`; no word stands in either twice.
    """
    shared = word_matches(labels, text).sum(-1)
    sizes = (jnp.asarray(labels) != 0).sum(-1) * (jnp.asarray(text) != 0).sum(-1)[..., None]
    return shared / jnp.sqrt(jnp.maximum(sizes, 1))
