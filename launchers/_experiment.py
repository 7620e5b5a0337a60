"""`limbeck run` of an experiment that distils, and the commands on its run: evaluate, report, compare, export."""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import tyro

from .. import distillation
from ..distillation import Evaluation
from . import experiments, runs, stages
from ._usage import UsageError, given, parse
from .config import ExperimentConfig, Preset, from_settings, with_seed


RunPath = Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
RunPaths = Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What `limbeck run` takes beside the experiment's settings.

    Attributes:
      name: of the run; its directory is `runs_dir/name`. The same command again goes on where it stopped.
      runs_dir: where run directories are.
      wandb: log the training to Weights & Biases too (its extra).
      config: the experiment's settings.
    """

    name: str
    runs_dir: pathlib.Path
    wandb: bool
    config: Annotated[ExperimentConfig, tyro.conf.arg(name="")]


def run(name: str, arguments: Sequence[str]) -> int:
    """`limbeck run EXPERIMENT [options]` of an experiment that distils. Returns the exit code."""
    experiment = experiments.load(name)
    preset = given(arguments, "preset") or "fast"
    if preset not in get_args(Preset):
        raise UsageError(f"there is no preset {preset!r}; known: {', '.join(get_args(Preset))}")
    algorithm = given(arguments, "source.algorithm")
    config = experiment.config(preset, algorithm) if algorithm else experiment.config(preset)
    options = parse(
        RunOptions,
        f"run {name}",
        arguments,
        default=RunOptions(name, runs.DEFAULT_DIRECTORY, False, config),
        description=experiment.__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )
    run_experiment(name, options.config, options.runs_dir, options.name, options.wandb)
    return 0


def run_experiment(
    experiment: str,
    config: ExperimentConfig,
    runs_dir: pathlib.Path,
    name: str,
    wandb: bool = False,
) -> pathlib.Path:
    """Runs what is not done yet of an experiment in `runs_dir/name`, and says what it measured.

    Returns:
      The run directory.

    Raises:
      ValueError: a name that leaves `runs_dir`, or a directory that is in use or holds something else.
      OSError: it cannot be written.
    """
    directory = runs.run_path(runs_dir, name)
    stages.check(config)
    with runs.locked(directory):
        parent = runs.create_or_open(directory, experiment, runs.as_settings(config))
        for change in runs.changed_versions(directory):
            _log.warning("%s was begun with another version: %s", directory, change)
        for member, member_config in _members(parent):
            _log.info("%s, seed %s", member.directory, member_config.seed)
            stages.run_stages(member, member_config, wandb)
        if config.seeds > 1 and parent.done("report") is None:
            stages.write_report([member for member, _ in _members(parent)], parent, config)
            parent.mark("report")
    _show_summary(directory)
    return directory


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Plays a run's distilled agent in context, weights frozen, and prints what it earned.

    Attributes:
      run: the run's directory.
      tasks: those that no history had, or those of training.
      ids: some of these tasks only.
      episodes: in one context; the run's own setting by default.
      seeds: contexts on every task; the run's own setting by default.
      temperature: of the actions; the run's own setting by default.
      control: a control that an in-context learner must fail.
      seed: of the evaluation; the run's own by default, which gives the report's numbers again.
      json: print JSON.
    """

    run: RunPath
    tasks: Literal["held_out", "train"] = "held_out"
    ids: tuple[int, ...] = ()
    episodes: int | None = None
    seeds: int | None = None
    temperature: float | None = None
    control: Literal["none", "rewards_zeroed", "context_cleared"] = "none"
    seed: int | None = None
    json: bool = False


def evaluate(arguments: Sequence[str]) -> None:
    """`limbeck evaluate RUN [options]`."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    parent = runs.open_run(options.run)
    given = {name: getattr(options, name) for name in ("episodes", "seeds", "temperature")}
    control = None if options.control == "none" else options.control
    evaluations = []
    for member, config in _members(parent):
        _check_distilled(member)
        settings = dataclasses.replace(
            config.evaluation, **{name: value for name, value in given.items() if value is not None}
        )
        config = dataclasses.replace(config, evaluation=settings)
        evaluations.append(
            stages.play(member, config, options.tasks, control, list(options.ids) or None, options.seed)
        )
    _print_evaluation(evaluations, options.json)


def report(arguments: Sequence[str]) -> None:
    """`limbeck report RUN`."""

    def options(run: RunPath) -> pathlib.Path:
        """Writes a run's report again from what its evaluation left.

        Args:
          run: the run's directory.
        """
        return run

    parent = runs.open_run(parse(options, "report", arguments))
    with runs.locked(parent.directory):
        members = _members(parent)
        stages.write_report([member for member, _ in members], parent, from_settings(parent.settings))
    _show_summary(parent.directory)


def compare(arguments: Sequence[str]) -> None:
    """`limbeck compare RUN RUN … [--out DIRECTORY]`."""

    def options(run: RunPaths, out: pathlib.Path = pathlib.Path("comparison")) -> tuple[Any, pathlib.Path]:
        """Lays the held-out curves of several runs over each other, with their intervals.

        Args:
          run: the runs' directories.
          out: a directory for `compare.html`, `compare.json` and `compare.png`.
        """
        return run, out

    directories, out = parse(options, "compare", arguments)
    reports: dict[str, Any] = {}
    for directory in directories:
        path = runs.open_run(directory).directory / "report.json"
        if not path.exists():
            raise ValueError(f"{directory} has no report yet: run its command again to finish it")
        # Runs of one name in two places keep their places.
        name = directory.name if [d.name for d in directories].count(directory.name) == 1 else str(directory)
        reports[name] = json.loads(path.read_text())
    compared = distillation.compare(reports, out)
    for name, run in compared["runs"].items():
        last = run["last_10"]
        low, high = last["ci"]
        print(
            f"{name}: return {last['iqm']:.3f} (95 % interval {low:.3f} to {high:.3f}) over the last ten episodes"
        )
    if not compared["same_tasks"]:
        print("these runs were evaluated on different held-out tasks")
    print(out / "compare.html")


def export(arguments: Sequence[str]) -> None:
    """`limbeck export RUN [--out DIRECTORY]`."""

    def options(run: RunPath, out: pathlib.Path | None = None) -> tuple[pathlib.Path, pathlib.Path | None]:
        """Writes a run's network as safetensors and JSON.

        Args:
          run: the run's directory.
          out: a directory; `export` in the run's by default.
        """
        return run, out

    directory, out = parse(options, "export", arguments)
    parent = runs.open_run(directory)
    if parent.settings["seeds"] > 1:
        raise ValueError(f"{directory} holds several seeds: export one of {directory}/seed_*")
    _check_distilled(parent)
    print(distillation.export(directory, out or directory / "export"))


def _members(parent: runs.Run) -> list[tuple[runs.Run, ExperimentConfig]]:
    """The runs of a run directory with their settings: itself, or one for each of several seeds."""
    config = from_settings(parent.settings)
    if config.seeds == 1:
        return [(parent, config)]
    members = []
    for seed in range(config.seed, config.seed + config.seeds):
        one = with_seed(config, seed)
        directory = parent.directory / f"seed_{seed}"
        members.append((runs.create_or_open(directory, parent.experiment, runs.as_settings(one)), one))
    return members


def _check_distilled(run: runs.Run) -> None:
    if run.done("distil") is None:
        raise ValueError(f"{run.directory} has no distilled network yet: run its command again to finish it")


def _show_summary(directory: pathlib.Path) -> None:
    """Where the report lies and five lines of what it measured."""
    print(f"report: {directory / 'report.html'}")
    for line in distillation.summary_lines(json.loads((directory / "report.json").read_text())):
        print(f"  {line}")


def _print_evaluation(evaluations: list[Evaluation], as_json: bool) -> None:
    joined = distillation.strata(evaluations)
    last = joined.returns[..., -10:].mean(axis=-1)
    estimate = distillation.stratified_bootstrap(last)
    by_task = {
        str(task): float(last[joined.task_ids == task].mean())
        for task in sorted(set(joined.task_ids.tolist()))
    }
    if as_json:
        about = {
            "episodes": joined.returns.shape[-1],
            "last_10": {"iqm": float(estimate.value), "ci": [float(estimate.low), float(estimate.high)]},
            "by_episode": joined.returns.mean(axis=(0, 1)).tolist(),
            "by_task": by_task,
        }
        print(json.dumps(about, indent=2))
        return
    print(
        f"return over the last 10 of {joined.returns.shape[-1]} episodes: IQM {float(estimate.value):.3f}, 95 % "
        f"interval {float(estimate.low):.3f} to {float(estimate.high):.3f}"
    )
    for task, mean in by_task.items():
        print(f"  task {task}: {mean:.3f}")
