"""The algorithms by name."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from ..envs import Environment
from ._types import Agent
from .a2c import A2CConfig, a2c
from .ppo import PPOConfig, ppo
from .q_learning import QLearningConfig, q_learning
from .rmax import RMaxConfig, rmax
from .ucb import UCB1Config, ucb1


class Algorithm(NamedTuple):
    """An algorithm: `constructor(observation_spec, action_spec, config) -> Agent`, its config class, a line."""

    constructor: Callable[..., Agent]
    config: type
    description: str


ALGORITHMS: dict[str, Algorithm] = {
    "a2c": Algorithm(a2c, A2CConfig, "Advantage actor-critic, lambda returns, one learner for many streams."),
    "ppo": Algorithm(ppo, PPOConfig, "Proximal policy optimisation, clipped surrogate."),
    "q_learning": Algorithm(q_learning, QLearningConfig, "Tabular Q-learning, epsilon-greedy or optimistic."),
    "rmax": Algorithm(rmax, RMaxConfig, "R-max: a tabular model with optimism for what is unknown."),
    "ucb1": Algorithm(ucb1, UCB1Config, "UCB1 for bandits."),
}


def _unknown(kind: str, name: str, known: list[str]) -> ValueError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ValueError(f"Unknown {kind} {name!r}; known are {', '.join(known)}.{hint}")


def make_agent(name: str, environment: Environment, **overrides: Any) -> Agent:
    """Builds the algorithm `name` for what a source learner sees of `environment` (`markov_spec`).

    Raises:
      ValueError: unknown name or setting, a setting out of range, or an environment that the
        algorithm cannot learn (a table over images).
    """
    if name not in ALGORITHMS:
        raise _unknown("algorithm", name, sorted(ALGORITHMS))
    algorithm = ALGORITHMS[name]
    fields = [field.name for field in dataclasses.fields(algorithm.config)]
    for given in overrides:
        if given not in fields:
            raise _unknown(f"setting of {name}", given, fields)
    return algorithm.constructor(
        environment.markov_spec(), environment.action_spec(), algorithm.config(**overrides)
    )
