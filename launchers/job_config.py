"""The settings of an actor/learner job."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar

from ..agents import ALGORITHMS, Algorithm, ReplayPlan
from .config import build_config
from .program import resolve


S = TypeVar("S")

# Bundles that wait for a labeller, unless the settings say more.
_WAITING, _WAITING_ON_POLICY = 64, 4


@dataclasses.dataclass(frozen=True)
class JobEvaluationConfig:
    """How a job's agent is evaluated while it learns and at the end.

    Attributes:
      episodes: of an evaluation.
      environments: that play them side by side.
      every_s: seconds between two evaluations while the agent learns; with 0 there are none but at the end, and
        where the actors' episodes promise `target_success`.
      mode: `evaluate` plays the likeliest actions, `explore` samples as the actors do.
    """

    episodes: int = 100
    environments: int = 10
    every_s: float = 60.0
    mode: Literal["evaluate", "explore"] = "evaluate"


@dataclasses.dataclass(frozen=True)
class JobConfig(Generic[S]):
    """Actors, a learner and a replay server that learn one environment.

    Attributes:
      env: what the actors step: a MiniGrid, BabyAI or other gymnasium id, the name of one of Limbeck's
        environments, or `package.module:factory`.
      env_arguments: of its constructor.
      dropped: keys of the observations and the probabilities with which they are missing in an episode, in training as
        in evaluations; a bool `<key>_present` beside each says whether it is there (`envs.DropSensors`). Never
        `image` where a reward model judges it.
      agent: an algorithm's name (`limbeck agents` lists them), or `package.module:function` of a function that
        returns an `Algorithm`.
      settings: the algorithm's own.
      torso: what reads the observations; the algorithm's own choice by default.
      torso_arguments: settings of the torso.
      reads: keys of the observations that the agent sees; all by default. Others are neither sent to the learner
        nor shown to the agent, though reward models judge `image` all the same.
      replay: how experience passes from the actors to the learner.
      actors: processes that step environments.
      environments: that each of them steps together.
      learner_gpus: GPUs that the learner needs; with 0 it sees none.
      steps: environment steps, of all actors together, that the agent learns from.
      target_success: end sooner, once an evaluation's share of successful episodes reaches it.
      evaluation: while the agent learns and at the end.
      publish_every: updates between two versions of the variables.
      pull_every: trajectories of a stream after which an actor looks for a newer version.
      checkpoint_every_s: seconds between two checkpoints, which are what a crash can throw a job back to.
      keep: checkpoints that are kept.
      restarts: how often each node may be started again after a failure before the job fails.
      history_steps: steps of every actor's environments that are kept as learning histories; 0 keeps none.
      seed: of everything that is random in Limbeck's part; with several processes a job is not repeatable.
      reward: a reward model that pays in the environment's stead: its name, or `package.module:factory`. It
        judges the key `image` of observations by the environment's `goal` or `mission`, and its first hit ends
        the episode. Success and evaluations stay the environment's own.
      reward_arguments: of its factory.
      reward_threshold: the reward from which a step is a hit.
      reward_place: `labeller` labels in processes of their own, between actors and learner; `inline` in the
        actors, which wait for it.
      labellers: processes that label; actor i is labelled by labeller i modulo their number.
      labeller_threads: of PyTorch, where the reward model uses it, in each process that asks it. More than one needs
        cores that are free: threads that wait for each other on shared ones cost far more than they give.
      waiting_bundles: bundles of an actor, `replay.unroll` rows of each of its environments, that may wait for its
        labeller; with so many the actor waits too. None for 64, or 4 where replay is a queue: its learner is
        on-policy, and what waits grows old.
    """

    env: str
    env_arguments: dict[str, int | float | str | bool]
    agent: str
    settings: S
    torso: str | None
    replay: ReplayPlan
    torso_arguments: dict[str, int | float | str | bool] = dataclasses.field(default_factory=dict)
    dropped: dict[str, float] = dataclasses.field(default_factory=dict)
    reads: tuple[str, ...] | None = None
    actors: int = 2
    environments: int = 8
    learner_gpus: int = 0
    steps: int = 1_000_000
    target_success: float | None = None
    evaluation: JobEvaluationConfig = JobEvaluationConfig()
    publish_every: int = 1
    pull_every: int = 1
    checkpoint_every_s: float = 30.0
    keep: int = 2
    restarts: int = 20
    history_steps: int = 0
    seed: int = 0
    reward: str | None = None
    reward_arguments: dict[str, int | float | str | bool] = dataclasses.field(default_factory=dict)
    reward_threshold: float = 1.0
    reward_place: Literal["labeller", "inline"] = "labeller"
    labellers: int = 1
    labeller_threads: int = 1
    waiting_bundles: int | None = None

    def __post_init__(self):
        least = {
            "actors": (self.actors, 1),
            "environments": (self.environments, 1),
            "learner_gpus": (self.learner_gpus, 0),
            "steps": (self.steps, 1),
            "publish_every": (self.publish_every, 1),
            "pull_every": (self.pull_every, 1),
            "checkpoint_every_s": (self.checkpoint_every_s, 1),
            "keep": (self.keep, 1),
            "restarts": (self.restarts, 0),
            "history_steps": (self.history_steps, 0),
            "seed": (self.seed, 0),
            "labellers": (self.labellers, 1),
            "labeller_threads": (self.labeller_threads, 1),
            "waiting_bundles": (1 if self.waiting_bundles is None else self.waiting_bundles, 1),
            "evaluation.episodes": (self.evaluation.episodes, 1),
            "evaluation.environments": (self.evaluation.environments, 1),
            "evaluation.every_s": (self.evaluation.every_s, 0),
        }
        for name, (value, minimum) in least.items():
            if value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {value}.")
        if self.target_success is not None and not 0 < self.target_success <= 1:
            raise ValueError(f"target_success must lie in (0, 1], got {self.target_success}.")
        if not 0 < self.reward_threshold <= 1:
            raise ValueError(f"reward_threshold must lie in (0, 1], got {self.reward_threshold}.")
        if self.labellers > self.actors:
            raise ValueError(
                f"An actor has one labeller: labellers must be at most actors ({self.actors}), got {self.labellers}."
            )
        if self.reward is None and self.reward_arguments:
            raise ValueError("reward_arguments are of a reward model: give reward too.")
        if self.reward is not None and "image" in self.dropped:
            raise ValueError(
                "The reward model judges image, so image cannot be dropped: drop other keys, or no reward."
            )
        if self.torso is None and self.torso_arguments:
            raise ValueError("torso_arguments are of a torso: give torso too.")

    @property
    def labelled(self) -> bool:
        """Whether labellers stand between the actors and the learner."""
        return self.reward is not None and self.reward_place == "labeller"

    @property
    def most_waiting(self) -> int:
        """Bundles of an actor that may wait for its labeller."""
        if self.waiting_bundles is not None:
            return self.waiting_bundles
        return _WAITING_ON_POLICY if self.replay.kind == "queue" else _WAITING

    @property
    def steps_per_update(self) -> float:
        """New environment steps that an update stands for."""
        return self.replay.batch * self.replay.period / self.replay.samples_per_insert

    @property
    def updates(self) -> int:
        """Updates in all."""
        return max(1, round(self.steps / self.steps_per_update))


def find_algorithm(name: str) -> Algorithm:
    """An algorithm that can learn in a job, by its name or as `package.module:function`.

    Raises:
      ValueError: there is none of that name, it is no `Algorithm`, or it learns only compiled.
    """
    if ":" in name:
        factory: Callable[[], Any] = resolve(name)  # pyright: ignore[reportAssignmentType]  # Not a node's function.
        algorithm = factory()
        if not isinstance(algorithm, Algorithm):
            raise ValueError(
                f"{name} returned a {type(algorithm).__name__}; expected a limbeck.agents.Algorithm."
            )
    elif name in ALGORITHMS:
        algorithm = ALGORITHMS[name]
    else:
        known = [key for key, value in ALGORITHMS.items() if value.replay]
        raise ValueError(
            f"There is no agent {name!r}; known for jobs: {', '.join(sorted(known))}, or package.module:function."
        )
    if algorithm.replay is None:
        raise ValueError(f"{name} says nothing of replay: it learns only compiled, not in jobs.")
    return algorithm


def job_config(
    env: str,
    agent: str,
    settings: Mapping[str, Any] | None = None,
    replay: Mapping[str, Any] | None = None,
    **fields: Any,
) -> JobConfig:
    """A job with the algorithm's settings for hosted jobs and its replay plan, but for what is given.

    Raises ValueError as `find_algorithm` and the settings do.
    """
    algorithm = find_algorithm(agent)
    assert algorithm.replay is not None
    chosen = {
        "env_arguments": {},
        "torso": None,
        "settings": algorithm.config(**{**algorithm.hosted, **(settings or {})}),
        "replay": dataclasses.replace(algorithm.replay, **(replay or {})),
    }
    return JobConfig(env=env, agent=agent, **{**chosen, **fields})


def job_from_settings(settings: Mapping[str, Any]) -> JobConfig:
    """The inverse of `runs.as_settings`. ValueError where they are of another version of Limbeck."""
    try:
        return build_config(JobConfig, settings, find_algorithm(settings["agent"]).config)
    except (KeyError, TypeError) as error:
        raise ValueError(f"these settings are not of this version of Limbeck: {error}") from error
