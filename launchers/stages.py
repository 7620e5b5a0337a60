"""The stages of Algorithm Distillation in a run directory: source, distil, evaluate, report.

Each one is resumable: killed anywhere and called again, it goes on from what is durable and leaves what it
would have left. Randomness comes from the experiment's seed and from positions (a run's number, an update's
number, a part's name), never from how often a stage was begun.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .. import distillation
from ..agents import (
    CompiledConfig,
    HistoryInfo,
    HistoryReader,
    HistoryWriter,
    Manifest,
    load_streams,
    make_agent,
    open_transport,
    reference_curve,
    split_blocks,
    stream_length,
    train_groups,
)
from ..distillation import CONTROLS, Control, Evaluation
from ..distillation.evaluation import episode_returns
from ..encoders import MetricsLogger, Progress
from ..envs import LAST
from .config import ExperimentConfig
from .runs import Run, write_array_file
from .tasks import ExperimentTasks, Tasks, experiment_tasks, first, pick


SIDES = ("train", "held_out")
# Part of the evaluation -> the side that is played, the control that it is played under.
PARTS: dict[str, tuple[str, Control | None]] = {
    **{side: (side, None) for side in SIDES},
    **{f"controls.{control}": ("held_out", control) for control in CONTROLS},
}

_DELIVERY_DEADLINE_S = 600.0


def check(config: ExperimentConfig) -> None:
    """Finds what cannot work before anything is written.

    Raises:
      ValueError: unknown names or settings, too few tasks, or sequences longer than the histories.
    """
    environment = experiment_tasks(config).train.environment
    source = config.source
    compiled = CompiledConfig(num_episodes=source.episodes, streams=source.streams, unroll=source.unroll)
    length = stream_length(environment, compiled)
    make_agent(source.algorithm, environment, **vars(source.settings))
    if source.episodes < config.keep_every:
        raise ValueError(
            f"keep_every is {config.keep_every}, but the histories have {source.episodes} episodes"
        )
    kept = length // config.keep_every
    if config.window.length is not None and config.window.length > kept:
        raise ValueError(
            f"window.length is {config.window.length} steps, but the histories have {source.episodes} episodes of at "
            f"most {environment.max_steps} steps, of which 1 in {config.keep_every} is kept: {kept} steps"
        )
    distillation.environment_network(config.model, environment)


def run_source(run: Run, config: ExperimentConfig) -> None:
    """Source agents learn every training task; their histories go to the store, group by group."""
    tasks = experiment_tasks(config)
    source = config.source
    environment = tasks.train.environment
    compiled = CompiledConfig(num_episodes=source.episodes, streams=source.streams, unroll=source.unroll)
    manifest = _manifest(config, tasks, stream_length(environment, compiled))
    agent = make_agent(source.algorithm, environment, **vars(source.settings))
    runs = source.runs_per_task * len(tasks.train.ids)
    of_task = np.arange(runs) % len(tasks.train.ids)
    keys = _keys(config.seed, "source", runs)
    groups = math.ceil(runs / source.runs_per_group)
    with HistoryWriter.create_or_open(run.histories, manifest) as writer:
        whole = {g for g in range(groups) if writer.below_watermark(g, manifest.num_chunks - 1)}
        wanted = jax.tree.map(lambda x: x[of_task], tasks.train.tasks)
        histories = train_groups(
            agent, environment, wanted, keys, compiled, group_size=source.runs_per_group, skip=whole
        )
        with (
            open_transport(config.transport, writer) as transport,
            Progress("source", groups, "groups of learning runs") as progress,
        ):
            progress.start(len(whole), groups)
            for done, (number, history) in enumerate(histories, start=len(whole) + 1):
                rows = _by_history(history)._asdict()
                for group, chunk, block in split_blocks(manifest, rows, manifest.rows(number).start):
                    if not writer.below_watermark(group, chunk):
                        transport.send(group, chunk, block())
                progress.update(done)
            transport.finish(_DELIVERY_DEADLINE_S)
        if not writer.complete:
            raise RuntimeError(f"{run.histories} is not whole although every block was delivered")


def run_distil(run: Run, config: ExperimentConfig, wandb: bool = False) -> None:
    """The network is trained on the histories of training tasks."""
    environment = experiment_tasks(config).train.environment
    streams = load_streams(
        HistoryReader(run.histories, environment), keep_every=config.keep_every, split="train"
    )
    train = dataclasses.replace(config.train, seed=config.seed)
    windows = dataclasses.replace(config.window, seed=config.seed)
    with (
        Progress("distil: training", train.steps, "updates") as progress,
        MetricsLogger(run.directory, wandb=wandb, settings=run.settings) as metrics,
    ):
        distillation.distil(
            streams,
            environment,
            config.model,
            windows,
            train,
            run.directory / "checkpoints",
            (progress, metrics),
        )


def run_evaluate(run: Run, config: ExperimentConfig) -> None:
    """The distilled agent plays training and held-out tasks in context, weights frozen, and both controls."""
    for part, (side, control) in PARTS.items():
        _once(run, part, lambda side=side, control=control: play(run, config, side, control))
    for side in SIDES:
        _once(run, f"posterior_sampling.{side}", lambda side=side: _posterior_sampling(config, side))
    _once(run, "source", lambda: _source_returns(run, config))


def play(
    run: Run,
    config: ExperimentConfig,
    side: str,
    control: Control | None = None,
    ids: list[int] | None = None,
    seed: int | None = None,
) -> Evaluation:
    """Plays a run's distilled agent in context.

    Args:
      run: its directory.
      config: its settings; those of `evaluation` are the ones that matter.
      side: "train" or "held_out".
      control: as `limbeck.distillation.evaluate`.
      ids: some of that side's tasks only.
      seed: of the play; the experiment's by default.

    Raises:
      ValueError: for a task that is not on that side.
    """
    settings = config.evaluation
    tasks = _played(config, side) if ids is None else pick(getattr(experiment_tasks(config), side), ids)
    distilled = distillation.load(run.directory, temperature=settings.temperature)
    label = f"playing {side} tasks" + (f", {control.replace('_', ' ')}" if control else "")
    with Progress(label, settings.episodes, "episodes") as progress:
        return distillation.evaluate(
            distilled.agent,
            distilled.params,
            tasks.environment,
            tasks.tasks,
            tasks.ids,
            _key(config.seed if seed is None else seed, control or side),
            settings.episodes,
            settings.seeds,
            control=control,
            progress=lambda done, total: progress.update(done),
        )


def write_report(runs: list[Run], into: Run, config: ExperimentConfig) -> None:
    """Writes the report of one or more seeds of an experiment into a run directory."""

    def posterior_sampling(side: str) -> np.ndarray:
        returns = [read_evaluation(run, f"posterior_sampling.{side}").returns for run in runs]
        # Every seed has tasks of its own: only of one seed are there curves by task.
        return returns[0] if len(returns) == 1 else np.mean(returns, axis=(0, 1, 2))

    environment = experiment_tasks(config).train.environment
    windows = [(begin, end) for begin, end in config.evaluation.windows if end <= config.evaluation.episodes]
    distillation.write_report(
        into.directory,
        {part: [read_evaluation(run, part) for run in runs] for part in PARTS},
        {"posterior_sampling": {side: posterior_sampling(side) for side in SIDES}},
        np.mean([read_evaluation(run, "source").returns.mean(axis=(0, 1)) for run in runs], axis=0),
        into.settings,
        windows=windows,
        grid=_grid(environment),
        title=f"{into.experiment}: {into.directory.name}",
    )


STAGES = ("source", "distil", "evaluate", "report")


def run_stages(run: Run, config: ExperimentConfig, wandb: bool = False) -> None:
    """Runs every stage that is not done yet.

    Args:
      run: its directory, locked by the caller.
      config: the settings of one seed.
      wandb: log training to W&B too.
    """
    stages: dict[str, Callable[[], None]] = {
        "source": lambda: run_source(run, config),
        "distil": lambda: run_distil(run, config, wandb),
        "evaluate": lambda: run_evaluate(run, config),
        "report": lambda: write_report([run], run, config),
    }
    for name in STAGES:
        if run.done(name) is None:
            stages[name]()
            run.mark(name)


def read_evaluation(run: Run, part: str) -> Evaluation:
    """A part of the evaluation as `run_evaluate` left it. ValueError where it did not."""
    path = run.directory / "evaluation" / f"{part}.npz"
    if not path.exists():
        raise ValueError(
            f"{run.directory} has no evaluation of {part} yet: run its command again to finish it"
        )
    with np.load(path) as arrays:
        return Evaluation(**arrays)


def _once(run: Run, part: str, play: Callable[[], Evaluation]) -> None:
    path = run.directory / "evaluation" / f"{part}.npz"
    if not path.exists():
        write_array_file(path, play()._asdict())


def _manifest(config: ExperimentConfig, tasks: ExperimentTasks, length: int) -> Manifest:
    source, train = config.source, tasks.train
    count = len(train.ids)
    described = [jax.tree.map(lambda x, i=i: np.asarray(x)[i], train.tasks) for i in range(count)]
    infos = [
        HistoryInfo(
            task_id=int(train.ids[run % count]) if tasks.countable else -1,
            task=described[run % count],
            split="train",
            algorithm=source.algorithm,
            run=run,
            stream=stream,
            seed=config.seed,
        )
        for run in range(count * source.runs_per_task)
        for stream in range(source.streams)
    ]
    return Manifest.for_environment(
        train.environment,
        environment_kwargs=config.tasks.arguments,
        split=tasks.split,
        length=length,
        histories=infos,
        histories_per_chunk=source.runs_per_group * source.streams,
        steps_per_chunk=min(source.steps_per_chunk, length),
        settings={"algorithm": source.algorithm, **vars(source.settings), "unroll": source.unroll},
    )


def _by_history(history):
    """A `History` `[N, streams, T, …]` as rows of the store, `[N * streams, T, …]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), history)


def _played(config: ExperimentConfig, side: str) -> Tasks:
    """The tasks of a side that are evaluated: all held-out ones, and as many training ones as the settings say."""
    tasks = getattr(experiment_tasks(config), side)
    return (
        tasks if side == "held_out" else first(tasks, config.evaluation.train_tasks or config.tasks.held_out)
    )


def _posterior_sampling(config: ExperimentConfig, side: str) -> Evaluation:
    tasks, settings = _played(config, side), config.evaluation
    key = _key(config.seed, f"posterior sampling, {side}")
    returns = reference_curve(
        tasks.environment, tasks.tasks, "posterior_sampling", settings.episodes, settings.reference_seeds, key
    )
    return Evaluation(np.asarray(returns), tasks.ids, *_bounds(tasks))


def _bounds(tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
    random, optimal = jax.vmap(tasks.environment.bounds)(tasks.tasks)
    return np.asarray(random, np.float32), np.asarray(optimal, np.float32)


def _source_returns(run: Run, config: ExperimentConfig) -> Evaluation:
    """What the source itself earned on the training tasks that are evaluated, `[task, history, episode]`."""
    train, played = experiment_tasks(config).train, _played(config, "train")
    reader = HistoryReader(run.histories, train.environment)
    streams, count = config.source.streams, len(train.ids)
    places = [
        [history for history, info in enumerate(reader.manifest.histories) if info.run % count == task]
        for task in range(len(played.ids))
    ]
    loaded = load_streams(reader, split="train", histories=[history for task in places for history in task])
    ends = loaded.step_type == LAST
    returns = episode_returns(loaded.reward.T, ends.T, int(ends.sum(axis=1).min()))
    shape = (len(played.ids), config.source.runs_per_task * streams, returns.shape[-1])
    return Evaluation(returns.reshape(shape), played.ids, *_bounds(played))


def _grid(environment: Any) -> int | None:
    """The side of the room whose cells are the tasks, or None."""
    side = math.isqrt(environment.num_tasks or 0)
    shape = getattr(environment.task_spec(), "shape", None)
    return side if side * side == environment.num_tasks and shape == () else None


def _key(seed: int, purpose: str) -> jax.Array:
    """A key that depends on the seed and what it is for, and on nothing else."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()) & 0x7FFFFFFF)


def _keys(seed: int, purpose: str, count: int) -> jax.Array:
    key = _key(seed, purpose)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(count))
