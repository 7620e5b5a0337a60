"""Objectives that need no labels: what the views of one example have in common."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax


def unit(x: jax.Array, floor: float = 1e-5) -> jax.Array:
    """`x` `[..., D]` in float32 over its norm, or over `floor` where the norm is below it."""
    x = x.astype(jnp.float32)
    # The root of the maximum, not the maximum of the root: the gradient at 0 is 0 and not NaN.
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), floor**2))


def nt_xent(
    a: jax.Array,
    b: jax.Array,
    temperature: float = 0.1,
    negatives: Literal["cross", "all"] = "cross",
    there: jax.Array | None = None,
) -> jax.Array:
    """Contrasts two views of a batch, symmetrically: the mean cross-entropy of finding an example's other view.

    Args:
      a: `[B, D]`, any length; row i is one view of example i.
      b: `[B, D]`, the other views.
      temperature: that cosines are divided by.
      negatives: "cross" looks for a's partner among the B rows of b and for b's among those of a (InfoNCE, as between
        modalities); "all" looks among all other 2 B - 1 rows (NT-Xent, Chen et al. 2020, arXiv 2002.05709, section
        2.1).
      there: bool `[B]`, which examples have both views; the others are as if they were not in the batch. None for all.

    Returns:
      A scalar; 0 where no example is there.

    Raises:
      ValueError: for shapes or types other than these.
    """
    if negatives not in ("cross", "all"):
        raise ValueError(f"negatives must be 'cross' or 'all', not {negatives!r}.")
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(
            f"Two views are [B, D] each, of one B and D, not {list(a.shape)} and {list(b.shape)}."
        )
    if there is not None and (there.shape != a.shape[:1] or there.dtype != bool):
        raise ValueError(f"there must be bool [{len(a)}], not {there.dtype} {list(there.shape)}.")
    a, b = unit(a), unit(b)
    rows = jnp.ones(len(a), bool) if there is None else there
    own = jnp.arange(len(a))
    if negatives == "cross":
        logits = _cosines(a, b) / temperature
        return (_cross_entropy(logits, own, rows) + _cross_entropy(logits.T, own, rows)) / 2
    both = jnp.concatenate([a, b])
    logits = jnp.where(jnp.eye(len(both), dtype=bool), -jnp.inf, _cosines(both, both) / temperature)
    return _cross_entropy(logits, jnp.concatenate([own + len(a), own]), jnp.concatenate([rows, rows]))


def _cosines(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)


def _cross_entropy(logits: jax.Array, labels: jax.Array, there: jax.Array) -> jax.Array:
    """The mean over the rows `there` of a choice among the columns `there`, of logits `[N, N]`."""
    # Rows that are not there choose as they would, so that no softmax is without a choice, and do not count.
    logits = jnp.where(there[None, :] | ~there[:, None], logits, -jnp.inf)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(jnp.where(there, losses, 0.0)) / jnp.maximum(jnp.sum(there), 1)


def pairwise(
    loss: Callable[[Any, Any], jax.Array],
    views: Mapping[str, Any],
    pairs: Iterable[tuple[str, str]] | None = None,
) -> jax.Array:
    """The mean of a loss over pairs of views.

    Args:
      loss: of two views; should be symmetric where `pairs` is None.
      views: what `loss` takes, by name, two or more.
      pairs: of names, as many as `loss` is to see, in the order of its arguments. None means all unordered pairs, each
        in the order of the names, so that the order of the dictionary changes no bit.

    Returns:
      A scalar.
    """
    pairs = list(itertools.combinations(sorted(views), 2) if pairs is None else pairs)
    if not pairs:
        raise ValueError(f"There is no pair among the views {sorted(views)}; a pair needs two.")
    if unknown := sorted({name for pair in pairs for name in pair} - set(views)):
        raise ValueError(f"There are no views {unknown}; there are {sorted(views)}.")
    return sum(loss(views[a], views[b]) for a, b in pairs) / len(pairs)  # pyright: ignore[reportReturnType]


def regression(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """BraVe's loss (arXiv 2103.16559, section 3.1): half the squared distance of unit vectors, which is 1 - cosine.

    Args:
      prediction: `[B, D]`, any length, from one view.
      target: `[B, D]`, from the other; no gradient goes there.

    Returns:
      A scalar, the batch's mean: 0 where they point the same way, 1 at right angles, 2 opposite.
    """
    difference = unit(prediction) - unit(jax.lax.stop_gradient(target))
    return jnp.mean(jnp.sum(jnp.square(difference), axis=-1)) / 2
