"""Feed-forward policy and value networks."""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs


def encoder(observation_spec: Any) -> Callable[[Any], jax.Array]:
    """A function from observations [..., *shape] to float32 features [..., F].

    A bounded integer array becomes a one-hot vector per entry, laid end to end: (x, y) of a 9x9 room
    is 18 features. Other arrays are flattened as they are, scaled to [0, 1] where both of their bounds
    are finite.

    Raises:
      ValueError: the spec is not an array, or one-hot features would be more than 4096.
    """
    if not isinstance(observation_spec, specs.Array):
        raise ValueError(f"Expected the spec of one array, got {observation_spec!r}.")
    rank = len(observation_spec.shape)
    size = int(np.prod(observation_spec.shape))

    def flat(observation: Any) -> jax.Array:
        return jnp.reshape(observation, (*jnp.shape(observation)[: jnp.ndim(observation) - rank], size))

    if not isinstance(observation_spec, specs.BoundedArray):
        return lambda observation: flat(observation).astype(jnp.float32)
    low = np.broadcast_to(observation_spec.minimum, observation_spec.shape).reshape(-1)
    high = np.broadcast_to(observation_spec.maximum, observation_spec.shape).reshape(-1)
    if np.issubdtype(observation_spec.dtype, np.integer) and observation_spec.dtype != np.uint8:
        widths = high.astype(np.int64) - low.astype(np.int64) + 1
        if widths.sum() > 4096:
            raise ValueError(
                f"One-hot features of {observation_spec!r} would be {widths.sum()}, more than 4096."
            )
        values = [np.arange(lo, lo + w).astype(np.int32) for lo, w in zip(low, widths, strict=True)]

        def one_hot(observation: Any) -> jax.Array:
            entries = flat(observation)
            bits = [entries[..., i : i + 1] == value for i, value in enumerate(values)]
            return jnp.concatenate(bits, axis=-1).astype(jnp.float32)

        def constant(observation: Any) -> jax.Array:
            return jnp.ones((*flat(observation).shape[:-1], 1), jnp.float32)

        return one_hot if size else constant
    if np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all():
        scale = (1.0 / (high.astype(np.float64) - low)).astype(np.float32)
        return lambda observation: (flat(observation).astype(jnp.float32) - low.astype(np.float32)) * scale
    return lambda observation: flat(observation).astype(jnp.float32)


def example(observation_spec: Any) -> Any:
    """One observation of this spec (an array's, or a nest of them), to initialise a network with."""

    def one(spec: specs.Array) -> jax.Array:
        shown = np.broadcast_to(getattr(spec, "minimum", 0), spec.shape)
        return jnp.asarray(np.nan_to_num(shown, neginf=0.0), spec.dtype)

    return jax.tree.map(one, observation_spec)


def policy_and_value(
    observation_spec: Any, num_actions: int, torso: Callable[[Any], jax.Array]
) -> tuple[Callable[[jax.Array], hk.Params], Callable[[hk.Params, Any], tuple[jax.Array, jax.Array]]]:
    """A linear policy head and a linear value head on the features of one torso.

    Returns:
      `init(key) -> params` and `apply(params, observation [..., *shape]) -> (logits [..., A], value [...])`.
      Both heads start small, so that the first policy is nearly uniform.
    """

    def forward(observation: Any) -> tuple[jax.Array, jax.Array]:
        return heads(torso(observation), num_actions)

    network = hk.without_apply_rng(hk.transform(forward))
    return lambda key: network.init(key, example(observation_spec)), network.apply


def heads(features: jax.Array, num_actions: int) -> tuple[jax.Array, jax.Array]:
    """Logits [..., A] and value [...] of features [..., F]; called inside `hk.transform`."""
    logits = hk.Linear(num_actions, w_init=hk.initializers.Orthogonal(0.01), name="policy")(features)
    value = hk.Linear(1, w_init=hk.initializers.Orthogonal(1.0), name="value")(features)
    return logits, jnp.squeeze(value, -1)


def log_prob_and_entropy(logits: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log pi(action) and entropy in nats, both [...], of `logits` [..., A] and `action` [...]."""
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probs, action[..., None], axis=-1)
    return jnp.squeeze(chosen, -1), -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
