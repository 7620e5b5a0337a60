"""An actor/learner job as a program: which nodes it has, and the parts that they share."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np
from dm_env import specs

from ..agents import Agent, ReplayPlan, Table, Trajectory, leaf_names, make_torso, signature, trajectory_spec
from ..agents.items import Signature
from ..encoders import checkpoints
from ..envs import make_hosted
from ..rewards.segments import copy_signature
from .job_config import JobConfig, find_algorithm
from .program import Node, Program
from .runs import as_settings


TABLE = "experience"

_NODES = f"{__package__}.nodes"


class Parts(NamedTuple):
    """What the nodes of a job agree on.

    Attributes:
      agent: the functions.
      observation_spec: of what the agent reads.
      spec: of the trajectories.
      table: of the replay server.
      frame: the shape of the environment's `image`, [H, W, 3], where a reward model judges it.
    """

    agent: Agent
    observation_spec: Any
    spec: Trajectory
    table: Table
    frame: tuple[int, ...] | None


def make_environment(config: JobConfig, *place: int) -> Any:
    """An environment of a job; `place` (actor, environment, incarnation, …) makes its seed one of its own."""
    seed = config.seed
    for number in place:
        seed = (seed * 1_000_003 + number + 1) % 2**31
    return make_hosted(config.env, seed=seed, dropped=config.dropped or None, **config.env_arguments)


def parts(config: JobConfig) -> Parts:
    """Makes the parts of a job, the same in every process.

    Raises:
      ValueError: unknown names, or an agent that cannot learn the environment.
    """
    environment = make_environment(config)
    try:
        observation_spec, action_spec = environment.observation_spec(), environment.action_spec()
    finally:
        environment.close()
    frame = None if config.reward is None else _image_shape(config, observation_spec)
    if config.reads is not None:
        observation_spec = _read_spec(config, observation_spec)
    torso = make_torso(config.torso, observation_spec, **config.torso_arguments) if config.torso else None
    constructor = find_algorithm(config.agent).constructor
    given = (observation_spec, action_spec, config.settings)
    agent = constructor(*given) if torso is None else constructor(*given, torso)
    spec = trajectory_spec(agent, observation_spec, config.replay.unroll)
    if config.reward is not None:
        _check_reads_no_reward(config, spec)
    beside = copy_signature(config.replay.unroll) if config.labelled else {}
    return Parts(agent, observation_spec, spec, experience_table(config.replay, spec, beside), frame)


def _read_spec(config: JobConfig, observation_spec: Any) -> Any:
    known = sorted(observation_spec) if isinstance(observation_spec, dict) else []
    assert config.reads is not None
    if not config.reads or len(set(config.reads)) < len(config.reads) or set(config.reads) - set(known):
        has = f"the keys {', '.join(known)}" if known else "one array"
        raise ValueError(
            f"reads names keys of the observations, each once, got {list(config.reads)}; {config.env} has {has}."
        )
    return {key: observation_spec[key] for key in config.reads}


def _image_shape(config: JobConfig, observation_spec: Any) -> tuple[int, ...]:
    image = observation_spec.get("image") if isinstance(observation_spec, dict) else None
    if not (
        isinstance(image, specs.Array)
        and len(image.shape) == 3
        and image.shape[-1] == 3
        and image.dtype == np.uint8
    ):
        raise ValueError(
            f"The reward {config.reward} judges the key image of observations, [H, W, 3] uint8, which {config.env} "
            "does not have. MiniGrid's get it by --env-arguments image agent."
        )
    return tuple(image.shape)


def _check_reads_no_reward(config: JobConfig, spec: Trajectory) -> None:
    """An agent that reads the reward before would learn from labels and be evaluated on others."""
    recurrent = any(name.split("/")[-1] == "reward" for name in leaf_names(spec.extras))
    if recurrent and getattr(config.settings, "previous_reward", True):
        raise ValueError(
            f"{config.agent} reads the reward before, which with a reward model is known only after it has acted: "
            "set --settings.no-previous-reward."
        )


def experience_table(plan: ReplayPlan, spec: Trajectory, beside: Signature | None = None) -> Table:
    """The table that a plan asks for, of items with the arrays `beside` those of the trajectories.

    Raises ValueError where its limits would deadlock.
    """
    queue = plan.kind == "queue"
    table = Table(
        name=TABLE,
        kind=plan.kind,
        signature={**signature(spec), **(beside or {})},
        max_size=plan.max_size,
        min_size=1 if queue else plan.min_size,
        samples_per_insert=None if queue else plan.samples_per_insert,
        priority_exponent=plan.priority_exponent,
        max_times_sampled=1 if queue else 0,
    )
    table.check_batch(plan.batch)
    return table


def job_program(config: JobConfig, name: str) -> Program:
    """The program of a job: a replay server, a learner, actors, an evaluator, labellers and a sink of histories.

    Args:
      config: the job.
      name: of the program.
    """
    nodes = [
        Node("replay", "replay", f"{_NODES}.replay:run", memory_gb=2.0),
        Node(
            "learner",
            "learner",
            f"{_NODES}.learner:run",
            gpus=config.learner_gpus,
            beside="replay",
            memory_gb=2.0,
        ),
    ]
    if config.history_steps:
        nodes.append(Node("sink", "sink", f"{_NODES}.sink:run", cpus=0.5, beside="replay"))
    if config.labelled:
        nodes += [
            Node(f"labeller_{i}", "labeller", f"{_NODES}.labeller:run", {"labeller": i}, memory_gb=2.0)
            for i in range(config.labellers)
        ]
    nodes.append(Node("evaluator", "evaluator", f"{_NODES}.evaluator:run", cpus=0.5, beside="learner"))
    nodes += [
        Node(f"actor_{i}", "actor", f"{_NODES}.actor:run", {"actor": i}, memory_gb=1.0)
        for i in range(config.actors)
    ]
    nodes = [dataclasses.replace(node, restarts=config.restarts) for node in nodes]
    return Program(name, nodes, as_settings(config), until=("learner", "evaluator"))


def checkpoint_directory(run_directory: pathlib.Path) -> pathlib.Path:
    """Where the learner's checkpoints are."""
    return run_directory / "checkpoints"


def replay_directory(run_directory: pathlib.Path) -> pathlib.Path:
    """Where the replay server's checkpoints are."""
    return run_directory / "replay"


def published(run_directory: pathlib.Path) -> dict[str, Any] | None:
    """The settings beside the newest checkpoint: what was published together with it; None before the first.

    Keys: `replay` (the replay checkpoint's folder, relative to the run directory), `inserts` (items that replay had
    been given just before it), `updates`, `finished`, `episodes`, `watermarks` (how far each learning history was
    whole, or None where none are kept), `config_hash` (`runs.settings_hash`) and `versions` of the packages.
    """
    directory = checkpoint_directory(run_directory)
    return checkpoints.settings(directory) if checkpoints.steps(directory) else None
