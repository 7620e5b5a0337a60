"""What the tabular algorithms share: state numbering, exploration and table writes that vectorise well."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs


def num_actions(action_spec: specs.DiscreteArray) -> int:
    """How many actions there are. Raises ValueError for anything but a `DiscreteArray`."""
    if not isinstance(action_spec, specs.DiscreteArray):
        raise ValueError(f"This algorithm needs a specs.DiscreteArray of actions, got {action_spec!r}.")
    return int(action_spec.num_values)


def state_index(observation_spec: Any, limit: int = 1 << 20) -> tuple[int, Callable[[jax.Array], jax.Array]]:
    """Numbers the observations of an integer `BoundedArray` in mixed radix, the last entry fastest.

    Args:
      observation_spec: a bounded integer spec; each entry runs from its minimum to its maximum.
      limit: the largest table that is accepted, in states.

    Returns:
      The number of states and a function from one observation to its int32 index.

    Raises:
      ValueError: the spec is not a bounded integer array, or has more than `limit` states.
    """
    if not isinstance(observation_spec, specs.BoundedArray) or not np.issubdtype(
        observation_spec.dtype, np.integer
    ):
        raise ValueError(
            "A tabular algorithm needs observations in a bounded integer array "
            f"(specs.BoundedArray), got {observation_spec!r}. Use a2c or ppo for others."
        )
    low = np.broadcast_to(observation_spec.minimum, observation_spec.shape).reshape(-1).astype(np.int64)
    high = np.broadcast_to(observation_spec.maximum, observation_spec.shape).reshape(-1).astype(np.int64)
    radix = [int(size) for size in high - low + 1]
    total = 1
    strides = []
    for size in reversed(radix):
        strides.append(total)
        total *= size
        if total > limit:
            raise ValueError(
                f"A table over {observation_spec.name or 'the observations'} has too "
                f"many states, more than {limit}. Use a2c or ppo."
            )
    stride = np.array(strides[::-1], np.int32)
    offset = low.astype(np.int32)

    def index(observation: jax.Array) -> jax.Array:
        digits = jnp.reshape(observation, (-1,)).astype(jnp.int32) - offset
        return jnp.sum(digits * stride, dtype=jnp.int32)

    return total, index


def choose(uniform: jax.Array, candidates: jax.Array) -> jax.Array:
    """A uniformly random index among the true entries of `candidates` [A], from one uniform in [0, 1).

    Written with comparisons and sums only: under vmap these fuse into one vectorised loop,
    which gathers, sorts and argmax do not.
    """
    size = candidates.shape[0]
    before = np.tril(np.ones((size, size), bool), -1)
    rank = jnp.sum(before & candidates[None, :], axis=1, dtype=jnp.int32)
    count = jnp.sum(candidates, dtype=jnp.int32)
    wanted = jnp.minimum((uniform * count).astype(jnp.int32), count - 1)
    return jnp.sum(jnp.where(candidates & (rank == wanted), jnp.arange(size), 0), dtype=jnp.int32)


def greedy(values: jax.Array) -> jax.Array:
    """Which entries of `values` [A] are maximal, up to rounding."""
    best = jnp.max(values)
    return values >= best - 1e-6 * jnp.maximum(1.0, jnp.abs(best))


def uniforms(key: jax.Array, count: int) -> jax.Array:
    """`count` uniforms in [0, 1) with 24 bits each, from one call of the generator."""
    return (jax.random.bits(key, (count,), jnp.uint32) >> 8).astype(jnp.float32) * np.float32(2**-24)


def write(table: jax.Array, index: jax.Array, value: jax.Array) -> jax.Array:
    """`table` [S] with one entry replaced.

    A comparison over the whole table: under vmap XLA turns `.at[].set` into a scatter that visits
    one run at a time on CPU, while this is one vectorised pass over tables that fit the cache.
    """
    hit = jnp.arange(table.shape[0]) == index
    return jnp.where(hit.reshape(hit.shape + (1,) * (table.ndim - 1)), value, table)
