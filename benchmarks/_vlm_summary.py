"""Numbers of `vlm_rewards` with their intervals, of trainings and of models: plain JSON values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from limbeck.rewards import (
    Pairs,
    average_precision,
    first_hit_precision,
    operating_point,
    partial_auroc,
    precision_recall,
)
from limbeck.rewards.binomial import lower_bound, upper_bound
from limbeck.rewards.bootstrap import Bootstrap, bootstrap

from ._seeds import over_seeds, ratio


Run = Mapping[str, Any]
_LAST = 3  # Evaluations that the success at the end is the mean of.
_FEW = Bootstrap(resamples=300)
_POINTS = 41  # Of a curve.


def success(run: Run) -> float:
    """True success on held-out goals at the end of a training."""
    return float(np.mean([x for x in run["held_out"] if x == x][-_LAST:]))


def agents(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Of each reward: success on held-out goals, first hits, and whether labelled and true return rise together.

    Args:
      runs: by reward, in the order of the seeds, which are the same for all; `truth` among them.
    """
    truth = np.array([success(run) for run in runs["truth"]])
    return {reward: _reward(seeds, truth) for reward, seeds in runs.items()}


def _reward(seeds: Sequence[Run], truth: np.ndarray) -> dict[str, Any]:
    held_out = np.array([success(run) for run in seeds])
    late = [len(run["steps"]) * 3 // 4 for run in seeds]

    def at_the_end(name: str) -> np.ndarray:
        return np.array([np.mean(run[name][start:]) for run, start in zip(seeds, late)])

    right, hits = (
        np.array([sum(run[name][start:]) for run, start in zip(seeds, late)])
        for name in ("right_hits", "first_hits")
    )
    delta = 0.025
    return {
        "held_out_success": over_seeds(held_out),
        "held_out_by_seed": held_out.round(4).tolist(),
        "share_of_truth": ratio(held_out, truth).rounded(),
        "labelled_at_the_end": over_seeds(at_the_end("labelled")),
        "true_at_the_end": over_seeds(at_the_end("true")),
        "first_hit_precision": ratio(right, hits).rounded()
        | {
            "episodes": int(hits.sum()),
            "ci_over_episodes": [
                round(float(bound(right.sum(), hits.sum(), delta)), 4) for bound in (lower_bound, upper_bound)
            ],
        },
        "labelled_and_true_in_time": [round(spearman(run["labelled"], run["true"]), 3) for run in seeds],
        "seconds": [run["seconds"][-1] for run in seeds],
    }


def offline(pairs: Pairs, levels: Sequence[float]) -> dict[str, Any]:
    """What a model's scores are worth on some frames, and its thresholds there."""
    point = operating_point(pairs, levels, _FEW)
    hits = first_hit_precision(pairs, levels, settings=_FEW)
    curve = precision_recall(pairs, settings=Bootstrap(resamples=2))
    return {
        "pairs": len(pairs.scores),
        "episodes": pairs.num_episodes,
        "prevalence": round(float(pairs.truth.mean()), 5),
        "average_precision": average_precision(pairs, _FEW).rounded(),
        "partial_auroc": partial_auroc(pairs, settings=_FEW).rounded(),
        "precision": point.precision.rounded(),
        "recall": point.recall.rounded(),
        "false_positive_rate": point.false_positive_rate.rounded(6),
        "first_hit_precision": hits.precision.rounded(),
        "curve": {
            name: _thinned(np.asarray(getattr(curve.points, name).value)).round(4).tolist()
            for name in ("precision", "recall")
        },
    }


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most `_POINTS`, the first and the last among them."""
    return values[np.linspace(0, len(values) - 1, min(len(values), _POINTS)).round().astype(int)]


def trend(values: Mapping[str, float]) -> dict[str, Any]:
    """Whether larger is better, of values by size from the smallest to the largest, and where not."""
    sizes = list(values)
    worse = [f"{a} to {b}" for a, b in zip(sizes, sizes[1:]) if not values[b] >= values[a]]
    return {
        "values": {size: round(x, 4) for size, x in values.items()},
        "monotone": not worse,
        "worse": worse,
    }


def rank_correlations(offline_scores: np.ndarray, online: np.ndarray) -> dict[str, Any]:
    """Spearman's and Kendall's rank correlation of offline scores with true success, with intervals over seeds.

    Args:
      offline_scores: `[F, S]`, of S models in each of F families.
      online: `[F, S, K]`, true success of K seeds. Each family's points are its (model, seed) pairs; over families
        the correlations are averaged, for their levels differ.
    """
    seeds = online.shape[-1]
    found = {}
    for name, correlate in (("spearman", spearman), ("kendall", kendall)):

        def statistic(weights: np.ndarray, correlate=correlate) -> np.ndarray:
            drawn = [np.repeat(np.arange(seeds), row.astype(int)) for row in weights]
            values = [
                np.mean([
                    correlate(np.repeat(scores, seeds), by_seed[:, rows].reshape(-1))
                    for scores, by_seed in zip(offline_scores, online)
                ])
                for rows in drawn
            ]  # fmt: skip
            return np.array(values)

        found[name] = bootstrap(statistic, seeds, _FEW).rounded()
    return found


def spearman(x: Any, y: Any) -> float:
    """NaN where one of them is constant."""
    if len(set(np.asarray(x).tolist())) < 2 or len(set(np.asarray(y).tolist())) < 2:
        return float("nan")
    result: Any = scipy.stats.spearmanr(x, y)
    return float(result.statistic)


def kendall(x: Any, y: Any) -> float:
    """Tau-b; NaN where one of them is constant."""
    if len(set(np.asarray(x).tolist())) < 2 or len(set(np.asarray(y).tolist())) < 2:
        return float("nan")
    result: Any = scipy.stats.kendalltau(x, y)
    return float(result.statistic)
