"""`limbeck run` of an actor/learner job."""

import contextlib
import dataclasses
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from . import experiments, nodes, runs
from ._template import Template
from ._usage import given, parse
from .job_config import JobConfig, job_from_settings
from .job_labelling import check_reward
from .job_watch import draw_watches
from .jobs import job_program, parts
from .local import run_local


S = TypeVar("S")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class JobOptions(Generic[S]):
    """What `limbeck run` takes beside a job's settings.

    Attributes:
      name: of the run; its directory is `runs_dir/name`. The same command again goes on where it stopped.
      runs_dir: where run directories are.
      launcher: `local` runs the nodes as supervised processes of this machine, `ray` on a Ray cluster.
      address: of an existing Ray cluster; by default one is started on this machine.
      config: the job's settings.
    """

    name: str
    runs_dir: pathlib.Path
    launcher: Literal["local", "ray"]
    address: str | None
    config: Annotated[JobConfig[S], tyro.conf.arg(name="")]


def run(name: str, arguments: Sequence[str], template: Template | None) -> int:
    """`limbeck run EXPERIMENT [options]` of an experiment that is a job. Returns the exit code."""
    experiment = experiments.load(name)
    chosen = {key: value for key in ("env", "agent") if (value := given(arguments, key))}
    config = experiment.job(**chosen)
    options = parse(
        JobOptions[type(config.settings)],
        f"run {name}",
        arguments,
        default=JobOptions(name, runs.DEFAULT_DIRECTORY, "local", None, config),
        description=experiment.__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )
    return run_job(
        name,
        options.config,
        options.runs_dir,
        options.name,
        options.launcher,
        options.address,
        template=template,
    )


def run_job(
    experiment: str,
    config: JobConfig,
    runs_dir: pathlib.Path,
    name: str,
    launcher: str = "local",
    address: str | None = None,
    faults: Any = None,
    template: Template | None = None,
) -> int:
    """Runs a job in `runs_dir/name`, or what is left of it, and says what came of it.

    Args:
      experiment: name of the experiment.
      config: the job.
      runs_dir: where run directories are.
      name: of the run.
      launcher: `local` or `ray`.
      address: of a Ray cluster.
      faults: a `FaultPlan`, for tests.
      template: that the local back end forks nodes from, where it was started already.

    Returns:
      The exit code: 0 where the job is done or was stopped by SIGTERM, 1 where a node failed for good, 130
      after Ctrl-C.

    Raises:
      ValueError: a name that leaves `runs_dir`, settings that cannot work, or a directory that is in use or
        holds something else.
      OSError: it cannot be written.
    """
    directory = runs.run_path(runs_dir, name)
    _check_replay()
    with contextlib.ExitStack() as open_:
        if launcher == "local":
            template = open_.enter_context(template or Template(nodes.IMPORTS))
        parts(config)
        check_reward(config)
        open_.enter_context(runs.locked(directory))
        run = runs.create_or_open(directory, experiment, runs.as_settings(config))
        for change in runs.changed_versions(directory):
            _log.warning("%s was begun with another version: %s", directory, change)
        if run.done("job") is None:
            program, place = job_program(config, name), run.directory.resolve()
            if launcher == "ray":
                from .on_ray import run_on_ray

                outcome = run_on_ray(program, place, address=address, faults=faults)
            else:
                outcome = run_local(program, place, faults=faults, template=template)
            draw_watches(place)
            if outcome.state == "failed":
                _log.error("%s", outcome.failure)
            if outcome.state != "finished":
                return outcome.exit_code
            run.mark("job", seconds=round(outcome.seconds, 1))
    show(directory)
    return 0


def show(directory: pathlib.Path) -> None:
    """What the final evaluation found."""
    found = json.loads((directory / "evaluation.json").read_text())
    config = job_from_settings(runs.open_run(directory).settings)
    print(f"run: {directory}")
    print(
        f"  {config.agent} on {config.env}: {found['success']:.1%} success, return {found['return']:.3f} over "
        f"{found['episodes']} episodes after {found['steps']:,} steps, {found['updates']:,} updates"
    )


def _check_replay() -> None:
    import importlib.util

    if importlib.util.find_spec("reverb") is None:
        raise ImportError(
            "jobs need Reverb, which is not installed: pip install -c constraints.txt 'limbeck[replay]' with "
            "Python 3.11"
        )
