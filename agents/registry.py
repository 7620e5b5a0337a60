"""The algorithms by name."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from ..envs import Environment
from ._types import Agent
from .a2c import A2CConfig, a2c
from .dqn import DQNConfig, dqn
from .muesli import MuesliConfig, muesli
from .ppo import PPOConfig, ppo
from .q_learning import QLearningConfig, q_learning
from .r2d2 import R2D2Config, r2d2
from .replay_plan import ReplayPlan
from .rmax import RMaxConfig, rmax
from .torsos import Torso
from .ucb import UCB1Config, ucb1


class Algorithm(NamedTuple):
    """An algorithm by name.

    Attributes:
      constructor: `constructor(observation_spec, action_spec, config, torso=None) -> Agent`; the tables
        (Q-learning, R-max, UCB1) take no torso.
      config: class of its settings.
      description: a line.
      replay: what it needs of replay in hosted jobs; None where it learns only compiled.
    """

    constructor: Callable[..., Agent]
    config: type
    description: str
    replay: ReplayPlan | None = None


ALGORITHMS: dict[str, Algorithm] = {
    "a2c": Algorithm(a2c, A2CConfig, "Advantage actor-critic, lambda returns, one learner for many streams."),
    "dqn": Algorithm(
        dqn,
        DQNConfig,
        "DQN: double, duelling, n-step, prioritised; each a setting.",
        ReplayPlan(
            "prioritised",
            unroll=10,
            period=10,
            batch=32,
            samples_per_insert=8,
            min_size=100,
            max_size=50_000,
            priority_exponent=0.6,
            importance_exponent=0.4,
        ),
    ),
    "muesli": Algorithm(
        muesli,
        MuesliConfig,
        "Muesli: clipped MPO regulariser, Retrace, and a model learned beside the policy.",
        ReplayPlan(
            "uniform", unroll=30, period=30, batch=32, samples_per_insert=4, min_size=50, max_size=10_000
        ),
    ),
    "ppo": Algorithm(ppo, PPOConfig, "Proximal policy optimisation, clipped surrogate."),
    "q_learning": Algorithm(q_learning, QLearningConfig, "Tabular Q-learning, epsilon-greedy or optimistic."),
    "r2d2": Algorithm(
        r2d2,
        R2D2Config,
        "R2D2: recurrent Q-learning from stored sequences with burn-in.",
        ReplayPlan(
            "prioritised",
            unroll=60,
            period=40,
            batch=32,
            samples_per_insert=4,
            min_size=50,
            max_size=10_000,
            priority_exponent=0.9,
            importance_exponent=0.6,
        ),
    ),
    "rmax": Algorithm(rmax, RMaxConfig, "R-max: a tabular model with optimism for what is unknown."),
    "ucb1": Algorithm(ucb1, UCB1Config, "UCB1 for bandits."),
}


def _unknown(kind: str, name: str, known: list[str]) -> ValueError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ValueError(f"Unknown {kind} {name!r}; known are {', '.join(known)}.{hint}")


def make_agent(name: str, environment: Environment, torso: Torso | None = None, **overrides: Any) -> Agent:
    """Builds the algorithm `name` for what a source learner sees of `environment` (`markov_spec`).

    Args:
      name: one of `ALGORITHMS`.
      environment: a pure-JAX environment.
      torso: a function of `make_torso`; None for the algorithm's default.
      **overrides: settings of the algorithm's config.

    Raises:
      ValueError: unknown name or setting, a setting out of range, a torso for a table, or an environment
        that the algorithm cannot learn (a table over images).
    """
    return make_agent_for(name, environment.markov_spec(), environment.action_spec(), torso, **overrides)


def make_agent_for(
    name: str, observation_spec: Any, action_spec: Any, torso: Torso | None = None, **overrides: Any
) -> Agent:
    """Builds the algorithm `name` for these specs, those of a hosted environment for example.

    Args and errors as of `make_agent`.
    """
    if name not in ALGORITHMS:
        raise _unknown("algorithm", name, sorted(ALGORITHMS))
    algorithm = ALGORITHMS[name]
    fields = [field.name for field in dataclasses.fields(algorithm.config)]
    for given in overrides:
        if given not in fields:
            raise _unknown(f"setting of {name}", given, fields)
    config = algorithm.config(**overrides)
    if torso is None:
        return algorithm.constructor(observation_spec, action_spec, config)
    if "torso" not in inspect.signature(algorithm.constructor).parameters:
        raise ValueError(f"{name} is a table over observations and takes no torso. Leave the torso out.")
    return algorithm.constructor(observation_spec, action_spec, config, torso)
