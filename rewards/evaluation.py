"""The evaluation of a reward model on labelled frames: every metric in all, by stratum, by family and by goal."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..encoders import pages
from . import metrics
from .agreement import kendall_tau, swapped_pair_accuracy
from .bootstrap import DEFAULT, Bootstrap, Estimate
from .hits import false_success, first_hit_precision
from .pairs import Pairs


FORMAT = 1


class Example(NamedTuple):
    """A pair that is judged wrongly.

    Attributes:
      frame: row of the frame in the arrays evaluated.
      goal: the goal's name.
      episode: id of the episode.
      step: step in the episode.
      score: of the pair.
      threshold: of the goal.
    """

    frame: int
    goal: str
    episode: int | str
    step: int
    score: float
    threshold: float


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is measured.

    Attributes:
      max_fpr: false positives per frame up to which the ROC curve counts.
      frames: of an episode, within which a false success is looked for.
      tolerance: steps by which a first hit may come after the success (`first_hits`).
      bins: of the reliability diagram.
      examples: how many of the worst false positives and false negatives are kept, at most one for each goal of
        an episode.
      bootstrap: resamples, level and seed of all intervals.
    """

    max_fpr: float = 1e-2
    frames: int = 64
    tolerance: int = 0
    bins: int = 15
    examples: int = 12
    bootstrap: Bootstrap = DEFAULT

    def __post_init__(self):
        if self.examples < 0:
            raise ValueError(f"examples must be at least 0; it is {self.examples}")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results. Every metric is a mapping `value`, `low`, `high`, `defined`, as of an `Estimate`.

    Attributes:
      parts: "all" and each stratum, to its metrics.
      families: each family to its metrics, over all strata.
      by_goal: each goal to its metrics, over all strata.
      agreement: `kendall_tau` and `swapped_pair_accuracy`, where given what they need.
      thresholds: by goal; infinity where never rewarded.
      false_positives: the worst, highest above their threshold first.
      false_negatives: the worst, farthest below their threshold first.
      settings: the configuration.
    """

    parts: Mapping[str, Mapping[str, Any]]
    families: Mapping[str, Mapping[str, Any]]
    by_goal: Mapping[str, Mapping[str, Any]]
    agreement: Mapping[str, Any]
    thresholds: Mapping[str, float]
    false_positives: tuple[Example, ...]
    false_negatives: tuple[Example, ...]
    settings: Mapping[str, Any]

    def to_json(self) -> str:
        """All of it, with null where a number does not exist (and for the threshold of a goal never rewarded)."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("false_positives", "false_negatives"):
            content[name] = [example._asdict() for example in content[name]]
        return json.dumps({"format": FORMAT, **pages.without_nan(content)}, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """One row for each number with its interval: kind of part, its name, metric, value, low, high, defined."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("kind", "name", "metric", "value", "low", "high", "defined"))
        tables = [("part", self.parts), ("family", self.families), ("goal", self.by_goal)]
        for kind, table in [*tables, ("agreement", {"all": self.agreement})]:
            for name, part in table.items():
                for metric, number in part.items():
                    if isinstance(number, Mapping):
                        if "defined" not in number:
                            continue
                        cells = [number[key] for key in ("value", "low", "high", "defined")]
                    else:
                        cells = [number, math.nan, math.nan, math.nan]
                    shown = ["" if x is None or not math.isfinite(x) else f"{x:.6g}" for x in cells]
                    writer.writerow((kind, name, metric, *shown))
        return file.getvalue()


def evaluate(
    scores: ArrayLike,
    truth: ArrayLike,
    episodes: ArrayLike,
    steps: ArrayLike,
    strata: ArrayLike,
    goals: Sequence[str],
    thresholds: ArrayLike,
    *,
    goal: ArrayLike | None = None,
    families: Mapping[str, str] | None = None,
    returns: tuple[ArrayLike, ArrayLike] | None = None,
    swaps: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    config: EvaluationConfig | None = None,
) -> Evaluation:
    """Measures scores against the truth.

    Args:
      scores: `[N, G]`, of each frame and goal; or `[N]`, with `goal`. As the head gives them without a threshold.
      truth: bool, the shape of `scores`.
      episodes: `[N]`, ids of the frames' episodes; whole episodes are drawn by the bootstrap.
      steps: `[N]` integers, step in the episode.
      strata: `[N]` names of what the frames are from ("reset", "random walk", "near miss", "on policy").
      goals: names `[G]`.
      thresholds: one, or one for each goal `[G]`; infinity where never rewarded.
      goal: `[N]` integers, each row's goal, where scores are `[N]`.
      families: goal -> name of its family, for metrics by family.
      returns: labelled and true returns `[M]` of policies (or episodes), for Kendall's tau-b.
      swaps: scores of true captions `[P]`, of their swaps `[P]`, and episode ids `[P]`.
      config: what is measured.

    Raises:
      ValueError: if shapes do not agree, a stratum is called "all", or a goal has no family.
    """
    config = config or EvaluationConfig()
    pairs = Pairs.of(scores, truth, episodes, steps, goals, goal)
    margins = metrics.margins(pairs, thresholds)
    cuts = np.broadcast_to(np.asarray(thresholds, np.float64), len(pairs.goals))
    names = np.asarray(strata).astype(str)
    if names.shape != (pairs.frame[-1] + 1,):
        raise ValueError(
            f"strata must have a name for each of {pairs.frame[-1] + 1} frames; their shape is {names.shape}"
        )
    if "all" in names:
        raise ValueError("no stratum may be called 'all': that is what all of them together are called")
    parts = {"all": _measure(pairs, cuts, config)}
    for name in dict.fromkeys(names.tolist()):
        parts[name] = _measure(pairs.select((names == name)[pairs.frame]), cuts, config)
    by_family = {}
    if families is not None:
        if missing := [name for name in pairs.goals if name not in families]:
            raise ValueError(f"families has no entry for the goals {missing}; give one for every goal")
        of = np.array([families[name] for name in pairs.goals])
        for name in dict.fromkeys(of.tolist()):
            if (chosen := (of == name)[pairs.goal]).any():
                by_family[name] = _measure(pairs.select(chosen), cuts, config)
    agreement = {}
    if returns is not None:
        agreement["kendall_tau"] = _number(kendall_tau(*returns, config.bootstrap))
    if swaps is not None:
        agreement["swapped_pair_accuracy"] = _number(swapped_pair_accuracy(*swaps, config.bootstrap))
    return Evaluation(
        parts=parts,
        families=by_family,
        by_goal=_by_goal(pairs, cuts, config),
        agreement=agreement,
        thresholds=dict(zip(pairs.goals, cuts.tolist())),
        false_positives=_worst(pairs, cuts, np.where(pairs.truth | (margins < 0), np.nan, -margins), config),
        false_negatives=_worst(pairs, cuts, np.where(~pairs.truth | (margins >= 0), np.nan, margins), config),
        settings={**dataclasses.asdict(config), "bootstrap": config.bootstrap._asdict()},
    )


def _measure(pairs: Pairs, thresholds: np.ndarray, config: EvaluationConfig) -> dict[str, Any]:
    settings = config.bootstrap
    point = metrics.operating_point(pairs, thresholds, settings)
    hits = first_hit_precision(pairs, thresholds, config.tolerance, settings)
    curve = metrics.precision_recall(pairs, settings=settings)
    result: dict[str, Any] = {
        "frames": len(np.unique(pairs.frame)),
        "pairs": len(pairs.scores),
        "episodes": pairs.num_episodes,
        "positives": int(pairs.truth.sum()),
        "prevalence": float(pairs.truth.mean()),
        "average_precision": _number(metrics.average_precision(pairs, settings)),
        "partial_auroc": _number(metrics.partial_auroc(pairs, config.max_fpr, settings)),
        **{name: _number(estimate) for name, estimate in point._asdict().items()},
        "first_hit_precision": _number(hits.precision),
        "episodes_with_hit": hits.hits,
        "episodes_without_hit": hits.without,
        "false_success": _number(false_success(pairs, thresholds, config.frames, config.tolerance, settings)),
        "expected_calibration_error": None,
        "epic_distance": _number(metrics.epic_distance(pairs, settings)),
        "curve": {
            "thresholds": curve.thresholds.tolist(),
            **{name: _number(estimate) for name, estimate in curve.points._asdict().items()},
        },
        "reliability": None,
    }
    if pairs.scores.min() >= 0 and pairs.scores.max() <= 1:
        found = metrics.reliability(pairs, config.bins, settings)
        result["expected_calibration_error"] = _number(found.error)
        result["reliability"] = {
            "edges": found.edges.tolist(),
            "counts": found.counts.tolist(),
            "confidence": found.confidence.tolist(),
            "frequency": _number(found.frequency),
        }
    return result


def _by_goal(pairs: Pairs, thresholds: np.ndarray, config: EvaluationConfig) -> dict[str, dict[str, Any]]:
    points = metrics.operating_points_by_goal(pairs, thresholds, config.bootstrap)
    result = {}
    for i, name in enumerate(pairs.goals):
        if not (chosen := pairs.goal == i).any():
            continue
        part = pairs.select(chosen)
        result[name] = {
            "pairs": len(part.scores),
            "positives": int(part.truth.sum()),
            "average_precision": _number(metrics.average_precision(part, config.bootstrap)),
            **{
                metric: _number(Estimate(*(x[i] for x in estimate)))
                for metric, estimate in points._asdict().items()
            },
        }
    return result


def _worst(
    pairs: Pairs, thresholds: np.ndarray, badness: np.ndarray, config: EvaluationConfig
) -> tuple[Example, ...]:
    """The lowest of `badness` `[P]`, where it is finite: a goal that is never rewarded has no worst miss."""
    found: dict[tuple[int, int], Example] = {}
    rows = np.flatnonzero(np.isfinite(badness))
    for i in rows[np.argsort(badness[rows], kind="stable")]:
        if len(found) == config.examples:
            break
        goal, episode = int(pairs.goal[i]), int(pairs.episode[i])
        example = Example(
            frame=int(pairs.frame[i]),
            goal=pairs.goals[goal],
            episode=pairs.episode_ids[episode].item(),
            step=int(pairs.step[i]),
            score=float(pairs.scores[i]),
            threshold=float(thresholds[goal]),
        )
        found.setdefault((episode, goal), example)
    return tuple(found.values())


def _number(estimate: Estimate) -> dict[str, Any]:
    return {name: np.asarray(x).tolist() for name, x in estimate._asdict().items()}
