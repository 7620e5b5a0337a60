"""The labelling of a job: what is checked before it begins, and the tables between actors and labellers."""

import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..agents import Table
from ..rewards.goal_text import goal_of
from ..rewards.loading import load
from ..rewards.scoring import check_model, score
from ..rewards.segments import bundle_signature
from .job_config import JobConfig
from .jobs import make_environment, parts


def reward_model(config: JobConfig) -> Any:
    """The model that a job's reward names. Raises ValueError where there is none or it cannot be called."""
    assert config.reward is not None
    model = check_model(load(config.reward, **config.reward_arguments))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(config.labeller_threads)
    return model


def check_reward(config: JobConfig) -> None:
    """Refuses a reward that a job could not work with, by one frame of the environment.

    Raises:
      ValueError: an unknown model or arguments that it does not take, an environment without a goal, or a model
        that does not answer as it must.
    """
    if config.reward is None:
        return
    parts(config)
    model, environment = reward_model(config), make_environment(config)
    try:
        observation: Mapping[str, np.ndarray] = environment.reset().observation
        score(model, observation["image"][None], [goal_of(environment)])
    finally:
        environment.close()


def unlabelled_table(actor: int) -> str:
    """The name of the table that an actor's bundles wait in."""
    return f"unlabelled_{actor}"


def labelling_tables(config: JobConfig) -> list[Table]:
    """The tables of a replay server between actors and labellers, one an actor.

    An actor looks at the size before it writes, so that none of its bundles is forgotten; the room above
    `waiting_bundles` is for inserts that were repeated because their confirmation was late.
    """
    if not config.labelled:
        return []
    made = parts(config)
    assert made.frame is not None
    signature = bundle_signature(made.spec, config.environments, made.frame)
    names = map(unlabelled_table, range(config.actors))
    return [Table(name, "held", signature, max_size=config.most_waiting + 2) for name in names]


def labelling_directory(run_directory: pathlib.Path, actor: int) -> pathlib.Path:
    """Where the labeller of an actor keeps its journal."""
    return run_directory / "labelling" / f"actor_{actor}"
