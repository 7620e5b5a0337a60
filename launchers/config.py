"""The settings of an Algorithm Distillation experiment: what `limbeck run` can be told."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Union

from ..agents import ALGORITHMS
from ..distillation import ModelConfig, WindowConfig
from ..encoders import TrainConfig


if TYPE_CHECKING:
    Settings = Any
else:
    Settings = Union[tuple(entry[1] for entry in ALGORITHMS.values())]  # noqa: UP007 (made at run time)


Preset = Literal["fast", "paper"]


@dataclasses.dataclass(frozen=True)
class TasksConfig:
    """Which tasks the source learns and which ones nothing may learn from.

    Attributes:
      train: tasks that the source learns; None takes all that are not held out. Where tasks cannot be
        counted, that many are drawn.
      held_out: tasks that no history has, chosen by hash with the salt `limbeck-<seed>`, or drawn
        where they cannot be counted.
      arguments: of the environment's constructor.
      held_out_arguments: what the constructor gets beside them for the held-out tasks.
    """

    train: int | None = None
    held_out: int = 8
    arguments: dict[str, int | float | str] = dataclasses.field(default_factory=dict)
    held_out_arguments: dict[str, int | float | str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """The source learner and the histories that it leaves.

    Attributes:
      algorithm: its name; `limbeck agents` lists them.
      settings: the algorithm's own.
      runs_per_task: learning runs on every training task.
      episodes: of every stream, from a new learner to a good one.
      streams: environment copies that share a learner; each leaves a history of its own.
      unroll: steps of every stream between two updates of the learner.
      runs_per_group: learning runs computed, sent and stored together, the histories of one chunk.
      steps_per_chunk: steps of a history that are one chunk on disk.
    """

    algorithm: str = "q_learning"
    settings: Settings = dataclasses.field(default_factory=lambda: ALGORITHMS["q_learning"][1]())
    runs_per_task: int = 30
    episodes: int = 200
    streams: int = 1
    unroll: int = 1
    runs_per_group: int = 64
    steps_per_chunk: int = 1000


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How the distilled agent is evaluated, weights frozen.

    Attributes:
      episodes: in one context.
      seeds: contexts played on every task.
      train_tasks: training tasks that are played; None plays as many as are held out.
      reference_seeds: runs of the reference agents on every task.
      windows: further summaries over episodes, first and last, counted from 1; those beyond `episodes` are
        left out.
      temperature: of the actions; 1 plays the distribution that the source is imitated by.
    """

    episodes: int = 150
    seeds: int = 20
    train_tasks: int | None = None
    reference_seeds: int = 50
    windows: tuple[tuple[int, int], ...] = ((36, 45),)
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Algorithm Distillation: a source learns, its histories are distilled, the result is evaluated.

    Attributes:
      preset: what the other settings begin from: `fast`, or `paper` for the paper's network.
      environment: its name; `limbeck envs` lists them.
      tasks: which tasks are for training and which are held out.
      source: the learner that is distilled.
      transport: how histories reach the store: `reverb`, `direct` (in this process), or `auto`, which is
        Reverb where it is installed. All leave the same store.
      keep_every: k keeps each k-th episode of the histories, so that the distilled agent learns in fewer.
      model: the network.
      window: how training sequences are cut from histories.
      train: the training loop.
      evaluation: in context, on training and held-out tasks, and under both controls.
      seed: of everything: the split, the histories, the network and the evaluation.
      seeds: how many experiments, with the seeds `seed`, `seed` + 1, ….
    """

    preset: Preset
    environment: str
    tasks: TasksConfig
    source: SourceConfig
    transport: Literal["auto", "reverb", "direct"]
    keep_every: int
    model: ModelConfig
    window: WindowConfig
    train: TrainConfig
    evaluation: EvaluationConfig
    seed: int = 0
    seeds: int = 1

    def __post_init__(self):
        least = {
            "keep_every": (self.keep_every, 1),
            "seeds": (self.seeds, 1),
            "seed": (self.seed, 0),
            "tasks.held_out": (self.tasks.held_out, 1),
            "source.runs_per_task": (self.source.runs_per_task, 1),
            "source.runs_per_group": (self.source.runs_per_group, 1),
            "source.steps_per_chunk": (self.source.steps_per_chunk, 1),
            "evaluation.episodes": (self.evaluation.episodes, 1),
            "evaluation.seeds": (self.evaluation.seeds, 1),
            "evaluation.reference_seeds": (self.evaluation.reference_seeds, 1),
        }
        if self.tasks.train is not None:
            least["tasks.train"] = (self.tasks.train, 1)
        if self.evaluation.train_tasks is not None:
            least["evaluation.train_tasks"] = (self.evaluation.train_tasks, 1)
        for name, (value, minimum) in least.items():
            if value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {value}.")
        if self.train.seed or self.window.seed:
            raise ValueError("train.seed and window.seed follow `seed` here: set --seed instead.")
        settings = ALGORITHMS[self.source.algorithm][1]
        if not isinstance(self.source.settings, settings):
            raise ValueError(
                f"source.settings are those of {type(self.source.settings).__name__}, but {self.source.algorithm} "
                f"takes {settings.__name__}."
            )


def from_settings(settings: Mapping[str, Any]) -> ExperimentConfig:
    """The inverse of `runs.as_settings`. ValueError where they are of another version of Limbeck."""
    try:
        algorithm = ALGORITHMS[settings["source"]["algorithm"]][1]
        return build_config(ExperimentConfig, settings, algorithm)
    except (KeyError, TypeError) as error:
        raise ValueError(f"these settings are not of this version of Limbeck: {error}") from error


def build_config(cls: type, values: Mapping[str, Any], settings: type) -> Any:
    """A configuration from JSON values.

    Args:
      cls: its dataclass.
      values: of its fields, dataclasses among them as dictionaries.
      settings: the class of fields that are called `settings`, whose own class the values do not tell.
    """
    hints = typing.get_type_hints(cls)
    built = {}
    for name, value in values.items():
        kind = settings if name == "settings" else hints.get(name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            built[name] = build_config(kind, value, settings)
        else:
            built[name] = _tuples(value)
    return cls(**built)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def with_seed(config: ExperimentConfig, seed: int) -> ExperimentConfig:
    """The experiment of one seed."""
    return dataclasses.replace(config, seed=seed, seeds=1)


def source_config(algorithm: str, settings: dict[str, dict[str, Any]], **fields: Any) -> SourceConfig:
    """A source whose algorithm has the settings given for it, and its own defaults where there are none.

    Raises ValueError for an unknown algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"There is no algorithm {algorithm!r}. Known: {', '.join(sorted(ALGORITHMS))}.")
    chosen = ALGORITHMS[algorithm][1](**settings.get(algorithm, {}))
    return SourceConfig(algorithm=algorithm, settings=chosen, **fields)
