"""Muesli's returns, and which rows of a trajectory its model may be unrolled to."""

from typing import cast

import jax
import jax.numpy as jnp
import rlax

from ..envs import LAST
from ._returns import cut_at_episode_ends
from ._types import Trajectory


def retrace_returns(
    trajectory: Trajectory,
    q_taken: jax.Array,
    expected_q: jax.Array,
    next_value: jax.Array,
    trace: jax.Array,
    gamma: float,
) -> jax.Array:
    """Retrace's estimates [T, B] of q(o_t, a_t), which never cross an episode's end.

    Source: R. Munos et al., "Safe and efficient off-policy reinforcement learning", arXiv 1606.02647.

    Args:
      trajectory: [T, B].
      q_taken: [T, B], q(o_t, a_t).
      expected_q: [T, B], the mean of q(o_t, a) over the policy that is evaluated.
      next_value: [T, B], the value of `next_observation`, from which an episode's last row and the
        trajectory's last row bootstrap.
      trace: [T, B], lambda * min(1, pi(a_t) / mu(a_t)).
      gamma: discount per step.
    """
    rewards, discounts = cut_at_episode_ends(trajectory, next_value, gamma)
    values = jnp.concatenate([expected_q[1:], next_value[-1:]])
    returns = jax.vmap(rlax.general_off_policy_returns_from_q_and_v, 1, 1)(
        q_taken[1:], values, rewards, discounts, trace[1:]
    )
    return cast(jax.Array, returns)


def alive(step_type: jax.Array, steps: int) -> jax.Array:
    """Whether row t + k is there and of the same episode as row t, for k = 0, …, `steps`: bool [steps + 1, T, B]."""
    length = step_type.shape[0]
    goes_on = jnp.concatenate([step_type != LAST, jnp.zeros((steps, *step_type.shape[1:]), bool)])
    there = jnp.arange(length)
    mask = [jnp.ones_like(step_type, bool)]
    for k in range(1, steps + 1):
        mask.append(mask[-1] & goes_on[k - 1 : k - 1 + length] & (there + k < length)[:, None])
    return jnp.stack(mask)


def shifted(x: jax.Array, steps: int) -> jax.Array:
    """Row t + k of `x` [T, …] for k = 0, …, `steps` - 1: [steps, T, …]; the last row again beyond the end."""
    ids = jnp.arange(steps)[:, None] + jnp.arange(x.shape[0])
    return x[jnp.minimum(ids, x.shape[0] - 1)]
