"""A torso that compares every cell in view with every word of the goal: policies that carry over to new goals."""

from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._labels import word_matches
from ._symbol_sizes import channel_sizes
from .networks import encoder


_MATCH, _CELL, _SEEN = 8, 4, 128
_READ = ("symbols", "text", "labels", "direction")


def goal(observation_spec: Any, *, hidden: tuple[int, ...] = (256, 128)) -> Callable[[Any], jax.Array]:
    """How well each word of the goal fits each cell, a small network on every cell, then ReLU layers.

    The goal enters by these comparisons alone. The network on a cell, the same for all cells and goals, learns which
    word is about which property ("the third is about colours"), so that words known from some goals are understood
    in new combinations of them. That is attention's score (Vaswani et al. 2017, arXiv 1706.03762) without the softmax:
    a goal that is not in view must be told from one that is. Where cells have `labels`, words are compared with those
    instead, as equal or not, so that even a word that no goal of training had is found; what the symbols look like is
    then seen without the words, or it would be learned by heart which picture goes with which goal of training.

    Args:
      observation_spec: a dictionary with `symbols`, integers `[H, W, C]` as the dictionary torso reads them, and
        `text`, tokens `[L]`, 0 = padding; where there are any, `labels`, tokens of `text` `[N, K]` of N further cells,
        and `direction`.
      hidden: widths of the layers.

    Returns:
      A function from observations `[..., *shape]` to features `[..., hidden[-1]]`, called inside `hk.transform`.

    Raises:
      ValueError: `symbols` or `text` is not there or cannot be read, or there are keys that it does not read.
    """
    _check(observation_spec)
    symbols, text = observation_spec["symbols"], observation_spec["text"]
    sizes = channel_sizes(symbols)
    vocabulary = int(np.max(text.maximum)) + 1

    def torso(observation: Any) -> jax.Array:
        seen, said = jnp.asarray(observation["symbols"]), _one_hot(observation["text"], vocabulary)
        seen = seen.reshape(*seen.shape[:-3], -1, seen.shape[-1])
        channels = [_one_hot(seen[..., c], n, first=0) for c, n in enumerate(sizes)]
        if "labels" in observation:
            # Which picture goes with which word would be learned by heart, and of goals of training alone.
            parts = [_summary([], channels, "symbols")]
            parts.append(_summary([word_matches(observation["labels"], observation["text"])], [], "labels"))
        else:
            scores = [_fits(cells, said, f"symbols_{c}") for c, cells in enumerate(channels)]
            parts = [_summary(scores, channels, "symbols")]
        if "direction" in observation:
            parts.append(encoder(observation_spec["direction"])(observation["direction"]))
        x = jnp.concatenate(parts, axis=-1)
        for i, width in enumerate(hidden):
            layer = hk.Linear(width, w_init=hk.initializers.Orthogonal(2**0.5), name=f"joint_{i}")
            x = jax.nn.relu(layer(x))
        return x

    return torso


def _one_hot(numbers: Any, count: int, first: int = 1) -> jax.Array:
    """float32 `[..., count]`, all 0 below `first`: padding."""
    numbers = jnp.asarray(numbers, jnp.int32)
    return jax.nn.one_hot(jnp.where(numbers < first, -1, numbers), count)


def _fits(cells: jax.Array, said: jax.Array, name: str) -> jax.Array:
    """`[..., N, L]`, how well words `[..., L, V]` fit one property `[..., N, F]` of cells."""
    keys = hk.Linear(_MATCH, with_bias=False, name=f"{name}_keys")(cells)
    words = hk.Linear(_MATCH, with_bias=False, name=f"{name}_words")(said)
    return jnp.einsum("...nd,...ld->...nl", keys, words)


def _summary(scores: list[jax.Array], cells: list[jax.Array], name: str) -> jax.Array:
    """Scores `[..., N, L]` and properties `[..., N, F]` of N cells to features `[..., _SEEN]`."""
    plain = [hk.Linear(_CELL, name=f"{name}_plain")(jnp.concatenate(cells, axis=-1))] if cells else []
    x = jnp.concatenate([*scores, *plain], axis=-1)
    x = jax.nn.relu(hk.Linear(16, name=f"{name}_cell_0")(x))
    x = jax.nn.relu(hk.Linear(8, name=f"{name}_cell_1")(x))
    return jax.nn.relu(hk.Linear(_SEEN, name=f"{name}_seen")(x.reshape(*x.shape[:-2], -1)))


def _check(observation_spec: Any) -> None:
    keys = sorted(observation_spec) if isinstance(observation_spec, Mapping) else []
    if not {"symbols", "text"} <= set(keys) or set(keys) - set(_READ):
        raise ValueError(
            f"The goal torso reads symbols and text, and labels and direction where there are any, got "
            f"{', '.join(keys) or 'one array'}. Choose the keys that the agent reads (--reads)."
        )
    if not isinstance(observation_spec["text"], specs.BoundedArray):
        raise ValueError(f"The goal torso needs the last token of text, got {observation_spec['text']!r}.")
