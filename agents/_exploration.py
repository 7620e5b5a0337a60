"""Epsilon-greedy exploration, annealed by the learner and spread over streams."""

import jax
import jax.numpy as jnp

from ._tabular import choose, greedy, uniforms


# A stream's place on the ladder before it is drawn.
UNDRAWN = -1.0


def annealed(start: float, end: float, updates: int, done: jax.Array) -> jax.Array:
    """`start` to `end` in a straight line over `updates` updates, float32; `done` of them are behind."""
    return (start + (end - start) * jnp.minimum(done / updates, 1.0)).astype(jnp.float32)


def draw_rank(key: jax.Array, rank: jax.Array) -> jax.Array:
    """A stream's place in [0, 1) on the ladder: drawn by its first call, from then on kept in its memory."""
    return jnp.where(rank < 0, jax.random.uniform(key), rank)


def stream_epsilon(epsilon: jax.Array, ladder: float, rank: jax.Array) -> jax.Array:
    """epsilon ** (1 + ladder * rank): the ladder of Ape-X with a drawn place instead of an actor's number.

    Source: D. Horgan et al., "Distributed prioritized experience replay", arXiv 1803.00933,
    where rank is i / (N - 1) for actor i of N, ladder 7 and epsilon 0.4.
    """
    return epsilon ** (1.0 + ladder * rank)


def epsilon_greedy(key: jax.Array, values: jax.Array, epsilon: jax.Array) -> jax.Array:
    """With probability `epsilon` a uniformly random action, else one of the best of `values` [A]; int32."""
    explore, pick = uniforms(key, 2)
    return choose(pick, greedy(values) | (explore < epsilon))
