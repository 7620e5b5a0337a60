"""Probes: what can be read off frozen features.

Labels say what a probe learns. int `[N]` are classes, judged by accuracy; bool `[N, K]` are K tags of which several may
hold, judged by mean average precision over tags; int `[N, S]` are S slots that each have a class, and an example is
right where all of them are.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .batches import shuffled
from .heads import Mlp
from .retrieval import mean_average_precision
from .training import TrainConfig, train


PROBE = TrainConfig(
    steps=2000, learning_rate=1e-3, warmup_steps=100, b2=0.999, clip_norm=None, steps_per_call=100
)
"""A small probe's training. HARES's (arXiv 2111.12124, section 2.1) is 400 000 steps with 5000 of warm-up to 2e-4."""

HARES_SVM = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""The C's between the ends that HARES names for ESC-50."""


class Labelled(NamedTuple):
    """A split of a task.

    Attributes:
      features: float `[N, D]`, or `[N, C, D]` of C crops of each example: a probe is trained on every crop, and an
        example's scores are the mean over its crops.
      labels: `[N]`, `[N, K]` or `[N, S]`, see above.
    """

    features: Any
    labels: Any


@dataclasses.dataclass(frozen=True)
class Probed:
    """What a probe reached on the test split.

    Attributes:
      metric: "accuracy", "mean average precision" or "accuracy of all slots".
      score: in [0, 1].
      n: examples of the test split.
      chance: what the test split gives to a probe without features: to the training split's most frequent label, or
        as average precision the share of a tag's examples.
      outputs: float `[n, …]`, each example's scores: of classes, of tags, or of the slots' classes one after the other.
      chosen: what the validation split decided, by name.
    """

    metric: str
    score: float
    n: int
    chance: float
    outputs: np.ndarray
    chosen: dict[str, float] = dataclasses.field(default_factory=dict)


def linear(train: Labelled, test: Labelled, config: TrainConfig = PROBE, batch: int = 64) -> Probed:
    """A linear map, trained by `encoders.train` on features standardised by the training split's mean and deviation.

    Args:
      train: to learn from.
      test: to be judged on.
      config: of the training; its seed seeds parameters and batches.
      batch: crops of an update, or all there are if there are fewer.
    """
    return _trained((), train, test, config, batch)


def mlp(
    train: Labelled, test: Labelled, config: TrainConfig = PROBE, batch: int = 64, hidden: int = 512
) -> Probed:
    """As `linear`, with one hidden layer of ReLUs: of 512 on AudioSet in HARES (arXiv 2111.12124, appendix A)."""
    return _trained((hidden,), train, test, config, batch)


def svm(train: Labelled, validation: Labelled, test: Labelled, grid: Sequence[float] = HARES_SVM) -> Probed:
    """A linear support vector machine on standardised features, one class against the rest (scikit-learn's).

    Args:
      train: to learn from, for each C; classes only.
      validation: to choose C on, by accuracy; the smallest of equals.
      test: to be judged on, once.
      grid: the C's.

    Raises:
      ImportError: without scikit-learn.
    """
    try:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise ImportError("The SVM probe needs scikit-learn: pip install 'limbeck[probes]'") from error
    if any(np.asarray(split.labels).ndim != 1 for split in (train, validation, test)):
        raise ValueError("The SVM probe is for classes, int [N]; tags and slots have `linear` and `mlp`.")
    task = _Task(train.labels, validation.labels, test.labels)
    features, labels = _crops(train)
    best: tuple[float, float, Any] = (-1.0, 0.0, None)
    for c in sorted(grid):
        machine = make_pipeline(StandardScaler(), LinearSVC(C=c, max_iter=20_000, random_state=0))
        machine.fit(features, labels)
        reached = accuracy(_decisions(machine, task, validation), validation.labels)
        if reached > best[0]:
            best = (reached, c, machine)
    reached, c, machine = best
    chosen = {"C": c, "validation_accuracy": reached}
    return task.judge(_decisions(machine, task, test), train.labels, test.labels, chosen)


def _decisions(machine: Any, task: "_Task", split: Labelled) -> np.ndarray:
    """`[N, classes]`: the machine's, with minus infinity for classes that it never saw."""

    def decide(features):
        values = machine.decision_function(features)
        values = np.stack([-values, values], axis=1) if values.ndim == 1 else values
        scores = np.full((len(values), task.sizes[0]), -np.inf)
        scores[:, machine.classes_] = values
        return scores

    return _over_crops(decide, split.features)


def accuracy(scores: Any, labels: Any) -> float:
    """The share of examples `[N, K]` whose highest score is their label's, int `[N]`."""
    return float(np.mean(np.argmax(scores, axis=-1) == np.asarray(labels)))


def all_slots_accuracy(scores: Sequence[Any], labels: Any) -> float:
    """The share of examples that are right in every slot: `scores` are S arrays `[N, K_s]`, `labels` int `[N, S]`."""
    guesses = np.stack([np.argmax(slot, axis=-1) for slot in scores], axis=1)
    return float(np.mean(np.all(guesses == np.asarray(labels), axis=1)))


class _Task:
    """What kind of labels there are, and what follows from that."""

    def __init__(self, *splits: Any):
        arrays = [np.asarray(labels) for labels in splits]
        kinds = {(labels.ndim, labels.dtype == bool, labels.shape[1:]) for labels in arrays}
        (ndim, tags, _), *others = kinds
        whole = tags or all(np.issubdtype(labels.dtype, np.integer) for labels in arrays)
        if others or not whole or ndim != 2 and (tags or ndim != 1) or not min(map(len, arrays)):
            shapes = ", ".join(f"{labels.dtype} {list(labels.shape)}" for labels in arrays)
            raise ValueError(
                f"Labels are int [N] (classes), bool [N, K] (tags) or int [N, S] (slots), alike in every split; got "
                f"{shapes}."
            )
        self.kind = "tags" if tags else "classes" if ndim == 1 else "slots"
        largest = np.max([labels.max(axis=0) for labels in arrays], axis=0)
        if not tags and min(labels.min() for labels in arrays) < 0:
            raise ValueError("Classes are counted from 0; some labels are negative.")
        self.sizes = [arrays[0].shape[1]] if tags else (np.atleast_1d(largest) + 1).tolist()

    def loss(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
        if self.kind == "tags":
            return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(outputs, labels.astype(jnp.float32)))
        slots = jnp.split(outputs, self._cuts(), axis=-1)
        labels = labels.reshape(len(labels), -1)
        cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
        return sum(jnp.mean(cross_entropy(slot, labels[:, i])) for i, slot in enumerate(slots))  # pyright: ignore[reportReturnType]

    def judge(self, outputs: np.ndarray, train: Any, test: Any, chosen: dict[str, float]) -> Probed:
        train, test = np.asarray(train), np.asarray(test)
        if self.kind == "tags":
            score = mean_average_precision(outputs.T, test.T)
            chance = mean_average_precision(np.zeros(test.T.shape), test.T)
            return Probed("mean average precision", score, len(test), chance, outputs, chosen)
        found, counts = np.unique(train, axis=0, return_counts=True)
        same = test == found[np.argmax(counts)]
        if self.kind == "classes":
            return Probed(
                "accuracy", accuracy(outputs, test), len(test), float(np.mean(same)), outputs, chosen
            )
        score = all_slots_accuracy(np.split(outputs, self._cuts(), axis=-1), test)
        chance = float(np.mean(same.all(axis=1)))
        return Probed("accuracy of all slots", score, len(test), chance, outputs, chosen)

    def _cuts(self) -> list[int]:
        return np.cumsum(self.sizes)[:-1].tolist()


def _trained(
    hidden: tuple[int, ...], learned: Labelled, test: Labelled, config: TrainConfig, batch: int
) -> Probed:
    task = _Task(learned.labels, test.labels)
    features, labels = _crops(learned)
    features = features.astype(np.float32)
    mean, deviation = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    network = hk.without_apply_rng(
        hk.transform(lambda x: Mlp((*hidden, sum(task.sizes)), name="probe")((x - mean) / deviation, True))
    )

    def loss(params, key, rows):
        return task.loss(network.apply(params, rows["features"]), rows["labels"]), {}

    params = network.init(jax.random.key(config.seed), features[:1])
    batches = shuffled({"features": features, "labels": labels}, min(batch, len(features)), seed=config.seed)
    params = train(loss, params, batches, config, devices=jax.local_devices()[:1]).params
    outputs = _over_crops(
        lambda x: np.asarray(network.apply(params, jnp.asarray(x, jnp.float32))), test.features
    )
    return task.judge(outputs, learned.labels, test.labels, {})


def _crops(split: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Features `[N C, D]`, and labels repeated for the crops."""
    features, labels = np.asarray(split.features), np.asarray(split.labels)
    if features.ndim not in (2, 3) or len(features) != len(labels):
        raise ValueError(
            f"Features are [N, D] or [N, C, D] and labels as many, not {list(features.shape)} and "
            f"{list(labels.shape)}."
        )
    crops = features.shape[1] if features.ndim == 3 else 1
    return features.reshape(-1, features.shape[-1]), np.repeat(labels, crops, axis=0)


def _over_crops(function: Any, features: Any) -> np.ndarray:
    """The mean of a function's scores `[N, K]` over an example's crops."""
    features = np.asarray(features)
    scores = function(features.reshape(-1, features.shape[-1]))
    return scores.reshape(len(features), -1, scores.shape[-1]).mean(axis=1)
