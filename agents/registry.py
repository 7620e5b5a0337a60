"""The algorithms by name."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..envs import Environment
from ._types import Agent
from .a2c import A2CConfig, a2c
from .dqn import DQNConfig, dqn
from .impala import IMPALAConfig, impala
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
      hosted: settings whose defaults in hosted jobs are not those of `config`.
    """

    constructor: Callable[..., Agent]
    config: type
    description: str
    replay: ReplayPlan | None = None
    hosted: Mapping[str, Any] = MappingProxyType({})


# Many actors explore better apart: epsilons from 0.4 down to 0.4^8, as in Ape-X.
_LADDER = MappingProxyType({"epsilon_end": 0.4, "ladder": 7.0})

ALGORITHMS: dict[str, Algorithm] = {
    "a2c": Algorithm(
        a2c, A2CConfig, "Advantage actor-critic, lambda returns, one learner for many streams.",
        ReplayPlan("queue", unroll=16, period=16, batch=8, max_size=16),
        MappingProxyType({"entropy_cost": 0.001}),
    ),
    "dqn": Algorithm(
        dqn, DQNConfig, "DQN: double, duelling, n-step, prioritised; each a setting.",
        ReplayPlan(
            "prioritised", unroll=10, period=10, batch=32, samples_per_insert=8, min_size=100,
            max_size=50_000, priority_exponent=0.6, importance_exponent=0.4,
        ),
        _LADDER,
    ),
    "impala": Algorithm(
        impala, IMPALAConfig, "Actor-critic with V-trace, for actors that lag behind; recurrent if asked.",
        ReplayPlan("queue", unroll=16, period=16, batch=8, max_size=32),
    ),
    "muesli": Algorithm(
        muesli, MuesliConfig, "Muesli: clipped MPO regulariser, Retrace, and a model learned beside the policy.",
        ReplayPlan("uniform", unroll=30, period=30, batch=32, samples_per_insert=4, min_size=50, max_size=10_000),
    ),
    "ppo": Algorithm(
        ppo, PPOConfig, "Proximal policy optimisation, clipped surrogate.",
        ReplayPlan("queue", unroll=64, period=64, batch=16, max_size=16),
        MappingProxyType({"advantage_floor": 0.1, "minibatches": 8}),
    ),
    "q_learning": Algorithm(q_learning, QLearningConfig, "Tabular Q-learning, epsilon-greedy or optimistic."),
    "r2d2": Algorithm(
        r2d2, R2D2Config, "R2D2: recurrent Q-learning from stored sequences with burn-in.",
        ReplayPlan(
            "prioritised", unroll=60, period=40, batch=32, samples_per_insert=4, min_size=50,
            max_size=10_000, priority_exponent=0.9, importance_exponent=0.6,
        ),
        _LADDER,
    ),
    "rmax": Algorithm(rmax, RMaxConfig, "R-max: a tabular model with optimism for what is unknown."),
    "ucb1": Algorithm(ucb1, UCB1Config, "UCB1 for bandits."),
}  # fmt: skip


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
    config = _config(name, overrides)
    return _build(name, environment.markov_spec(), environment.action_spec(), torso, config)


def make_agent_for(
    name: str, observation_spec: Any, action_spec: Any, torso: Torso | None = None, **overrides: Any
) -> Agent:
    """Builds the algorithm `name` for a hosted environment with these specs.

    Settings that are not given have the defaults of `hosted_config`. Other arguments and errors as of
    `make_agent`.
    """
    return _build(name, observation_spec, action_spec, torso, hosted_config(name, **overrides))


def hosted_config(name: str, **overrides: Any) -> Any:
    """The config of the algorithm `name` in a hosted job: its class's defaults, then `hosted`, then these.

    Raises:
      ValueError: unknown name or setting, or a setting out of range.
    """
    return _config(name, overrides, hosted=True)


def _config(name: str, overrides: Mapping[str, Any], hosted: bool = False) -> Any:
    if name not in ALGORITHMS:
        raise _unknown("algorithm", name, sorted(ALGORITHMS))
    algorithm = ALGORITHMS[name]
    fields = [field.name for field in dataclasses.fields(algorithm.config)]
    for given in overrides:
        if given not in fields:
            raise _unknown(f"setting of {name}", given, fields)
    return algorithm.config(**{**(algorithm.hosted if hosted else {}), **overrides})


def _build(name: str, observation_spec: Any, action_spec: Any, torso: Torso | None, config: Any) -> Agent:
    constructor = ALGORITHMS[name].constructor
    if torso is None:
        return constructor(observation_spec, action_spec, config)
    if "torso" not in inspect.signature(constructor).parameters:
        raise ValueError(f"{name} is a table over observations and takes no torso. Leave the torso out.")
    return constructor(observation_spec, action_spec, config, torso)
