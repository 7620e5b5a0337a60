"""The evaluator node: plays whole episodes with the newest variables, and with the final ones at the end."""

import csv
import logging
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

from ...agents import Actor, Learner
from ...encoders import checkpoints
from ...envs import Episode
from ..job_config import JobConfig, job_from_settings
from ..jobs import Parts, checkpoint_directory, make_environment, parts, published
from ..program import Context
from ..runs import write_json
from ._variables import LearnerLink


_log = logging.getLogger(__name__)

# Evaluations have seeds of their own, far from the actors'.
_PLACE = 1_000_000
# Where the target seems near: seconds between two evaluations, and how much actors may lose by exploring.
_PROMISING_S = 4.0
_EXPLORING = 0.05
_FEWEST = 200


def run(context: Context) -> None:
    """Evaluates every so often until the learner has finished, then its final checkpoint."""
    config = job_from_settings(context.program_settings)
    made = parts(config)
    learner = LearnerLink(context, made.agent)
    rows = _Rows(context.run_directory / "evaluation.csv")
    began = last = time.monotonic()
    evaluations = 0
    context.report(evaluations=evaluations)  # Before the first one, too, it is at work.
    while not context.stopping.is_set():
        about = published(context.run_directory)
        if about is not None and about["finished"]:
            _final(context, config, made)
            return
        if _due(config, learner, time.monotonic() - last) and learner.pull():
            played = play(config, made, learner.params, learner.version, context)
            if played is not None:
                rows.write(learner.version, config, played, time.monotonic() - began)
                evaluations += 1
                context.report(
                    evaluations=evaluations, success=played["success"], **{"return": played["return"]}
                )
                if config.target_success is not None and played["success"] >= config.target_success:
                    learner.call("reached")
            last = time.monotonic()
        context.stopping.wait(0.2)


def _due(config: JobConfig, learner: LearnerLink, seconds: float) -> bool:
    """Whether to evaluate now: every so often, and sooner where the actors' episodes promise the target."""
    if config.evaluation.every_s and seconds >= config.evaluation.every_s:
        return True
    if config.target_success is None or seconds < _PROMISING_S:
        return False
    progress = learner.call("progress") or {}
    # The first episodes to end are the short ones, which are the successful ones.
    known = progress.get("episodes", 0) >= _FEWEST
    return known and progress.get("success", 0.0) >= config.target_success - _EXPLORING


def play(
    config: JobConfig, made: Parts, params: Any, version: int, context: Context | None = None
) -> dict[str, float] | None:
    """Plays `evaluation.episodes` whole episodes.

    Every environment plays as many, so that short episodes do not count more often than long ones.

    Args:
      config: of the job.
      made: its parts.
      params: of the agent.
      version: of the parameters: the seeds depend on it.
      context: of the node; None outside a program.

    Returns:
      `success`, `return`, `return_sd`, `episode_length` and `episodes`; None where the node is to stop.
    """
    settings = config.evaluation
    count = min(settings.environments, settings.episodes)
    each = -(-settings.episodes // count)
    environments = [make_environment(config, _PLACE, i, version) for i in range(count)]
    # The truth, and rewards as the actors' agents see them.
    shown = config.reward is None
    actor = Actor(
        made.agent, environments, version % 2**31, settings.mode, rewards_shown=shown, reads=config.reads
    )
    by_stream: list[list[Episode]] = [[] for _ in environments]
    while min(map(len, by_stream)) < each:
        if context is not None and context.stopping.is_set():
            return None
        actor.step(params)
        for episode in actor.take_episodes():
            by_stream[episode.stream].append(episode)
    for environment in environments:
        environment.close()
    played = [episode for i in range(each) for episode in (stream[i] for stream in by_stream)]
    played = played[: settings.episodes]
    returns = np.array([episode.episode_return for episode in played])
    return {
        "success": float(np.mean([episode.success for episode in played])),
        "return": float(returns.mean()),
        "return_sd": float(returns.std()),
        "episode_length": float(np.mean([episode.length for episode in played])),
        "episodes": len(played),
    }


def _final(context: Context, config: JobConfig, made: Parts) -> None:
    """The evaluation of the final checkpoint: `evaluation.json`."""
    restored = checkpoints.restore(
        checkpoint_directory(context.run_directory), Learner.template(made.agent, config.seed)
    )
    params = jax.tree.map(np.asarray, restored.tree.agent.params)
    played = play(config, made, params, restored.step, context)
    if played is None:
        return
    steps = round(restored.step * config.steps_per_update)
    write_json(
        context.run_directory / "evaluation.json", {"updates": restored.step, "steps": steps, **played}
    )
    context.report(success=played["success"], **{"return": played["return"]})


class _Rows:
    """Appends evaluations to a CSV file."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def write(self, updates: int, config: JobConfig, played: dict[str, float], seconds: float) -> None:
        row = {
            "updates": updates,
            "steps": round(updates * config.steps_per_update),
            "seconds": round(seconds, 2),
            **played,
        }
        new = not self._path.exists()
        with open(self._path, "a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
