"""An actor node: steps environments with the newest variables and writes trajectories to replay."""

import time

from ...agents import Actor, TrajectoryCutter, to_item
from ..job_config import job_from_settings
from ..jobs import TABLE, make_environment, parts
from ..program import Context
from ._replay_link import ReplayLink
from ._variables import LearnerLink


_INSERT_S = 10.0
_REPORT_EVERY_S = 1.0


def run(context: Context) -> None:
    """Acts until it is told to stop."""
    config = job_from_settings(context.program_settings)
    number = context.settings["actor"]
    made = parts(config)
    learner, replay = LearnerLink(context, made.agent), ReplayLink(context)
    # A restarted actor plays other episodes than those that it has played already.
    environments = [
        make_environment(config, number, i, context.incarnation) for i in range(config.environments)
    ]
    seed = (config.seed * 1000 + number) * 1000 + context.incarnation
    actor = Actor(made.agent, environments, seed % 2**31)
    cutter = TrajectoryCutter(config.replay.unroll, config.replay.period)
    steps, since = 0, time.monotonic()
    alive = learner.wait()
    while alive and not context.stopping.is_set():
        memory = actor.memory
        cut = cutter.add(actor.step(learner.params), memory)
        steps += config.environments
        if cut:
            items = [to_item(trajectory, learner.version) for trajectory in cut]
            alive = replay.call(
                lambda client, items=items: client.insert(TABLE, items, timeout_s=_INSERT_S) or True
            )
            learner.pull()
        seconds = time.monotonic() - since
        if seconds > _REPORT_EVERY_S:
            _tell(context, actor, learner, steps / seconds)
            steps, since = 0, time.monotonic()
    replay.close()
    for environment in environments:
        environment.close()


def _tell(context: Context, actor: Actor, learner: LearnerLink, rate: float) -> None:
    context.report(version=learner.version, **{"steps/s": round(rate)})
    episodes = actor.take_episodes()
    if episodes:
        learner.call(
            "episodes",
            returns=[episode.episode_return for episode in episodes],
            lengths=[episode.length for episode in episodes],
            successes=[episode.success for episode in episodes],
        )
