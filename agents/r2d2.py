"""R2D2: double, duelling n-step Q-learning of a recurrent network from stored sequences.

Source: S. Kapturowski et al., "Recurrent experience replay in distributed reinforcement learning",
ICLR 2019 (openreview r1lyTjAqYX), sections 2.3 and 3.
"""

import dataclasses
from typing import Any

import rlax
from dm_env import specs

from ._representation import recurrent
from ._tabular import num_actions
from ._types import Agent
from ._value_based import ValueBasedConfig, value_based
from .torsos import Torso, default_torso


@dataclasses.dataclass(frozen=True)
class R2D2Config(ValueBasedConfig):
    """Settings of R2D2: those of `ValueBasedConfig` with other defaults, and the following.

    Attributes:
      core: width of the LSTM.
      burn_in: rows of each trajectory that only warm the LSTM's state, from the one that was stored; the
        trajectories must be longer.
      rescale: learn h(value), h(x) = sign(x) (sqrt(|x| + 1) - 1) + x / 1000, instead of clipping rewards.
      previous_action: show the core the action before.
      previous_reward: show the core the reward before. Switch it off where the learner's rewards are not
        those that the actor sees (rewards from a model), or the policy sees what it should not.
    """

    learning_rate: float = 1e-3
    gamma: float = 0.997
    n_step: int = 5
    huber_delta: float | None = None
    eps: float = 1e-3
    max_gradient_norm: float = 40.0
    core: int = 128
    burn_in: int = 20
    rescale: bool = True
    previous_action: bool = True
    previous_reward: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.core < 1:
            raise ValueError(f"core must be at least 1, got {self.core}.")
        if self.burn_in < 0:
            raise ValueError(f"burn_in must be at least 0, got {self.burn_in}.")


def r2d2(
    observation_spec: Any,
    action_spec: specs.DiscreteArray,
    config: R2D2Config = R2D2Config(),
    torso: Torso | None = None,
) -> Agent:
    """R2D2 over any observation that its torso reads: one array, or a dictionary (see `default_torso`).

    Exploration, targets and priorities are those of `dqn`, with values on the scale of h. The LSTM starts
    a trajectory from the memory stored with it and is reset at every episode's first step, in `act` and in
    `update` alike.

    Raises:
      ValueError: the torso cannot read the observations, the actions are not discrete, or (in `update`)
        the trajectory is not longer than `burn_in`.
    """
    actions = num_actions(action_spec)
    representation = recurrent(
        observation_spec,
        actions,
        torso or default_torso(observation_spec, config.hidden),
        config.core,
        config.previous_action,
        config.previous_reward,
    )
    transform = rlax.SIGNED_HYPERBOLIC_PAIR if config.rescale else rlax.IDENTITY_PAIR
    return value_based(representation, actions, config, transform, config.burn_in)
