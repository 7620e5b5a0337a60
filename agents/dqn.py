"""The family of DQN: double, duelling, n-step and prioritised, each a setting.

Sources: V. Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015;
H. van Hasselt et al., "Deep reinforcement learning with double Q-learning", arXiv 1509.06461;
Z. Wang et al., "Dueling network architectures for deep reinforcement learning", arXiv 1511.06581;
T. Schaul et al., "Prioritized experience replay", arXiv 1511.05952; D. Horgan et al., "Distributed
prioritized experience replay", arXiv 1803.00933, for the ladder of epsilons.
"""

import dataclasses
from typing import Any

from dm_env import specs

from ._representation import feed_forward
from ._tabular import num_actions
from ._types import Agent
from ._value_based import ValueBasedConfig, value_based
from .torsos import Torso, default_torso


@dataclasses.dataclass(frozen=True)
class DQNConfig(ValueBasedConfig):
    """Settings of DQN, which are those of `ValueBasedConfig`.

    Attributes are documented there. `DQNConfig(n_step=1, double=False, duelling=False)` is the
    algorithm of 2015, and `ladder=7` with both epsilons at 0.4 explores as Ape-X does.
    """


def dqn(
    observation_spec: Any,
    action_spec: specs.DiscreteArray,
    config: DQNConfig = DQNConfig(),
    torso: Torso | None = None,
) -> Agent:
    """DQN over any observation that its torso reads: one array, or a dictionary (see `default_torso`).

    Exploring is epsilon-greedy, evaluating greedy. The annealed epsilon travels in the parameters that
    actors pull; a stream's place on the ladder is drawn by its first call of `act` and stays in its
    memory. Every row of a trajectory is learned from. Bootstraps through truncation and not through
    termination; returns never cross an episode's end. Importance weights scale the loss of a trajectory.

    Raises:
      ValueError: the torso cannot read the observations, or the actions are not discrete.
    """
    representation = feed_forward(observation_spec, torso or default_torso(observation_spec, config.hidden))
    return value_based(representation, num_actions(action_spec), config)
