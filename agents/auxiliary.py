"""Losses of a torso's own, learned beside whatever agent reads its features."""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def with_auxiliary(features: jax.Array, loss: jax.Array, weight: float = 1.0) -> jax.Array:
    """The features as they are; who differentiates through them also descends on `weight * loss`.

    An agent's gradient is that of its own loss plus `weight` times that of the torso's, once for every call of the
    torso that the agent's loss depends on, so no agent has to know that there is a second loss. Where the features
    have no part in the gradient (acting, targets, bootstraps) neither has the loss. Under Adam what counts is the
    ratio of the two, so the weight is in units of the agent's loss.

    Args:
      features: `[..., F]`.
      loss: scalar, of the same forward pass.
      weight: what it is multiplied by, at least 0.

    Returns:
      `features`.
    """
    del loss, weight
    return features


def _forward(features: jax.Array, loss: jax.Array, weight: float) -> tuple[jax.Array, jax.Array]:
    del weight
    return features, jnp.zeros_like(loss)


def _backward(weight: float, zero: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    return cotangent, zero + weight


with_auxiliary.defvjp(_forward, _backward)
