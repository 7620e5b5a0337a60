"""The tasks of an experiment: which ones there are to learn from, and which are kept for the test."""

from typing import Any, NamedTuple

import jax
import numpy as np

from ..envs import Environment, Split, make, split_tasks, task_at
from .config import ExperimentConfig


class Tasks(NamedTuple):
    """Stacked tasks with what names them.

    Attributes:
      environment: that they belong to.
      ids: int `[N]`: the environment's ids, or numbers from 0 where its tasks cannot be counted.
      tasks: pytree of arrays `[N, …]`.
    """

    environment: Environment
    ids: np.ndarray
    tasks: Any


class ExperimentTasks(NamedTuple):
    """Both sides of the split.

    Attributes:
      split: as it is stored with the data.
      train: what the source learns.
      held_out: what no history has.
      countable: whether `ids` are the environment's own.
    """

    split: Split
    train: Tasks
    held_out: Tasks
    countable: bool


def experiment_tasks(config: ExperimentConfig) -> ExperimentTasks:
    """The tasks of one seed. ValueError where the environment has too few of them."""
    environment = make(config.environment, **config.tasks.arguments)
    other = make(config.environment, **{**config.tasks.arguments, **config.tasks.held_out_arguments})
    if environment.num_tasks is None:
        if config.tasks.train is None:
            raise ValueError(
                f"The tasks of {environment.name} cannot be counted: set tasks.train to how many to draw."
            )
        train = _drawn(environment, config.tasks.train, jax.random.key(config.seed))
        # Where both sides are drawn from one distribution this key keeps them apart.
        held_out = _drawn(other, config.tasks.held_out, jax.random.fold_in(jax.random.key(config.seed), 1))
        return ExperimentTasks(Split(config.seed, f"limbeck-{config.seed}", (), ()), train, held_out, False)
    split = split_tasks(environment.num_tasks, config.tasks.held_out, config.seed)
    if config.tasks.train is not None and config.tasks.train > len(split.train):
        raise ValueError(
            f"tasks.train is {config.tasks.train}, but {environment.name} has {environment.num_tasks} tasks and "
            f"{config.tasks.held_out} of them are held out."
        )
    chosen = split.train[: config.tasks.train]
    return ExperimentTasks(split, _by_id(environment, chosen), _by_id(other, split.held_out), True)


def pick(tasks: Tasks, ids: list[int] | None) -> Tasks:
    """Those of the given ids, all for None. ValueError for an id that is not among them."""
    if ids is None:
        return tasks
    known = tasks.ids.tolist()
    for task in ids:
        if task not in known:
            raise ValueError(f"Task {task} is not one of these: {', '.join(map(str, sorted(known)))}.")
    places = np.array([known.index(task) for task in ids])
    return Tasks(tasks.environment, tasks.ids[places], jax.tree.map(lambda x: x[places], tasks.tasks))


def first(tasks: Tasks, count: int) -> Tasks:
    """The first `count` of them, at most all. They are in the order of their hashes: a random subset."""
    return Tasks(tasks.environment, tasks.ids[:count], jax.tree.map(lambda x: x[:count], tasks.tasks))


def _by_id(environment: Environment, ids: tuple[int, ...]) -> Tasks:
    array = np.asarray(ids, np.int32)
    return Tasks(environment, array, task_at(environment, array))


def _drawn(environment: Environment, count: int, key: jax.Array) -> Tasks:
    return Tasks(
        environment, np.arange(count), jax.vmap(environment.sample_task)(jax.random.split(key, count))
    )
