"""Heads from features to action values."""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp


def q_head(num_actions: int, hidden: tuple[int, ...], duelling: bool) -> Callable[[jax.Array], jax.Array]:
    """A function from features [..., F] to action values [..., A], called inside `hk.transform`.

    Duelling: a state's value plus each action's advantage less the mean advantage.

    Source: Z. Wang et al., "Dueling network architectures for deep reinforcement learning",
    arXiv 1511.06581, equation 9.

    Args:
      num_actions: A.
      hidden: widths of the ReLU layers; where duelling, of both branches.
      duelling: two branches instead of one.
    """

    def head(features: jax.Array) -> jax.Array:
        if not duelling:
            return hk.nets.MLP((*hidden, num_actions), name="q")(features)
        value = hk.nets.MLP((*hidden, 1), name="value")(features)
        advantage = hk.nets.MLP((*hidden, num_actions), name="advantage")(features)
        return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True)

    return head
