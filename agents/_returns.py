"""Returns over streams that run on through episode ends."""

import jax
import jax.numpy as jnp

from ..envs import LAST
from ._types import Trajectory


def cut_at_episode_ends(
    trajectory: Trajectory, next_value: jax.Array, gamma: float
) -> tuple[jax.Array, jax.Array]:
    """Rewards and discounts [T, B] under which a backward recursion never crosses an episode's end.

    A LAST row's reward takes in `gamma * discount * next_value` and its discount becomes 0: its
    return is then the reward plus what the ended episode's final observation is worth (nothing after
    a termination), whatever row follows it.

    Args:
      trajectory: [T, B].
      next_value: [T, B], the value of `trajectory.next_observation`.
      gamma: discount per step.
    """
    discount = gamma * trajectory.discount
    last = trajectory.step_type == LAST
    reward = trajectory.reward + jnp.where(last, discount * next_value, 0.0)
    return reward, jnp.where(last, 0.0, discount)
