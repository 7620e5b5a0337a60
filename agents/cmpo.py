"""Clipped MPO: the policy that Muesli regularises towards, and the scale of its advantages.

Source: M. Hessel et al., "Muesli: combining improvements in policy optimization", arXiv 2104.06159,
section 4. pi_CMPO(a) is proportional to pi_prior(a) exp(clip(advantage(a), -c, c)); its total variation
distance from the prior is at most tanh(c / 2), whatever the advantages.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class CMPOTarget(NamedTuple):
    """pi_CMPO on some actions, exactly or as an estimate.

    Attributes:
      action: int32 [..., N], every action or samples from the prior.
      weight: [..., N], with which a mean over pi_CMPO is the weighted sum: its probabilities, or the
        importance weights of the samples divided by their number.
      log_prob: [..., N], log pi_CMPO(action), up to the estimate of its normaliser.
    """

    action: jax.Array
    weight: jax.Array
    log_prob: jax.Array


def cmpo_exact(prior_logits: jax.Array, advantages: jax.Array, clip: float) -> CMPOTarget:
    """pi_CMPO over all actions.

    Args:
      prior_logits: [..., A].
      advantages: [..., A], divided by their scale already.
      clip: c.
    """
    log_prob = jax.nn.log_softmax(jax.nn.log_softmax(prior_logits) + jnp.clip(advantages, -clip, clip))
    action = jnp.broadcast_to(jnp.arange(log_prob.shape[-1], dtype=jnp.int32), log_prob.shape)
    return CMPOTarget(action, jnp.exp(log_prob), log_prob)


def cmpo_sampled(
    prior_logits: jax.Array, actions: jax.Array, advantages: jax.Array, clip: float
) -> CMPOTarget:
    """pi_CMPO as importance weights of samples from the prior.

    The normaliser of sample i is (1 + the sum over the *other* samples of exp(clip(advantage))) / N: a
    sample that divided by itself too would be weighted too evenly, and the 1, the normaliser where all
    advantages are 0, stands for the one that is left out (section 4).

    Args:
      prior_logits: [..., A].
      actions: int32 [..., N], drawn from the prior.
      advantages: [..., N], of these actions, divided by their scale already.
      clip: c.
    """
    count = actions.shape[-1]
    clipped = jnp.clip(advantages, -clip, clip)
    exponent = jnp.exp(clipped)
    normaliser = (1.0 + jnp.sum(exponent, axis=-1, keepdims=True) - exponent) / count
    log_prior = jnp.take_along_axis(jax.nn.log_softmax(prior_logits), actions, axis=-1)
    return CMPOTarget(actions, exponent / normaliser / count, log_prior + clipped - jnp.log(normaliser))


def kl_from(target: CMPOTarget, logits: jax.Array) -> jax.Array:
    """KL(pi_CMPO, pi) [...] in nats of policies `logits` [..., A]; an estimate where the target is sampled."""
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), target.action, axis=-1)
    return jnp.sum(target.weight * (target.log_prob - log_prob), axis=-1)


class SecondMoment(NamedTuple):
    """A moving average of squares. sum: float32, biased towards 0; left: float32, decay ** updates."""

    sum: jax.Array
    left: jax.Array

    @property
    def value(self) -> jax.Array:
        """The average without the bias of its start, as in Adam. NaN before the first update."""
        return self.sum / (1.0 - self.left)


def no_moment() -> SecondMoment:
    """A `SecondMoment` before its first update."""
    return SecondMoment(jnp.float32(0), jnp.float32(1))


def update_moment(moment: SecondMoment, values: jax.Array, decay: float) -> SecondMoment:
    """Takes in the mean square of `values`, of any shape."""
    square = jnp.mean(jnp.square(values))
    return SecondMoment(decay * moment.sum + (1 - decay) * square, decay * moment.left)
