"""How well scores tell truth from falsehood: ranking, operating points, calibration, distance to the true reward.

All take `Pairs` and give an `Estimate` with a bootstrap interval over episodes. Pairs of all goals are
pooled unless said otherwise. A pair is rewarded where `score >= threshold`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import DEFAULT, Bootstrap, Estimate, bootstrap
from .pairs import Pairs


# Of distinct scores of positives that the interval of a ranking metric looks at; its value looks at all.
_LEVELS = 1024


class OperatingPoint(NamedTuple):
    """What rewarding at a threshold does; each an `Estimate`.

    Attributes:
      precision: share of the rewarded pairs that are true; NaN where none is rewarded.
      recall: share of the true pairs that are rewarded.
      false_positive_rate: false positives per frame: share of the false pairs that are rewarded.
    """

    precision: Estimate
    recall: Estimate
    false_positive_rate: Estimate


class Curve(NamedTuple):
    """Operating points over thresholds.

    Attributes:
      thresholds: `[K]`.
      points: `OperatingPoint` of Estimates `[K]`.
    """

    thresholds: np.ndarray
    points: OperatingPoint


class Reliability(NamedTuple):
    """Scores as probabilities.

    Attributes:
      edges: of the bins of equal width over [0, 1], `[B + 1]`.
      counts: pairs in each bin, `[B]`; a bin holds its lower edge, the last its upper one too.
      confidence: mean score in each bin, `[B]`; NaN where empty.
      frequency: `Estimate` of the share of true pairs in each bin, `[B]`.
      error: `Estimate` of the expected calibration error (Guo et al. 2017): |confidence - frequency| averaged
        over the pairs.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    frequency: Estimate
    error: Estimate


def margins(pairs: Pairs, thresholds: ArrayLike) -> np.ndarray:
    """Scores less the threshold of their goal, float64 `[P]`: rewarded where at least 0.

    Args:
      pairs: P pairs of G goals.
      thresholds: one for all goals, or `[G]`; infinity for a goal that is never rewarded.

    Raises:
      ValueError: if there is not one threshold or one for each goal, or one is NaN.
    """
    thresholds = np.asarray(thresholds, np.float64)
    if thresholds.shape not in ((), (len(pairs.goals),)) or np.isnan(thresholds).any():
        raise ValueError(
            f"give one threshold, or one for each of the {len(pairs.goals)} goals, none NaN; given {thresholds}"
        )
    return pairs.scores - np.broadcast_to(thresholds, len(pairs.goals))[pairs.goal]


def operating_point(pairs: Pairs, thresholds: ArrayLike, settings: Bootstrap = DEFAULT) -> OperatingPoint:
    """Precision, recall and false positives per frame at one threshold, or one for each goal `[G]`."""
    hit = margins(pairs, thresholds) >= 0
    # Slots: false and left, false and rewarded, true and left, true and rewarded.
    counts = pairs.sums(1, 2 * pairs.truth + hit, 4)
    left, wrong, missed, found = (counts[:, slot, None] for slot in range(4))
    return _operating_point(found, wrong, missed, left, settings, scalar=True)


def precision_recall(
    pairs: Pairs, thresholds: ArrayLike | None = None, settings: Bootstrap = DEFAULT
) -> Curve:
    """Operating points at thresholds common to all goals.

    Args:
      pairs: the pairs.
      thresholds: `[K]`; if None, all distinct scores of true pairs, thinned to at most 100.
      settings: of the bootstrap.

    Returns:
      `Curve` in the order of the thresholds, which are made ascending.
    """
    if thresholds is None:
        thresholds = _thinned(np.unique(pairs.scores[pairs.truth]), 100)
    cuts = np.unique(np.asarray(thresholds, np.float64))
    # A pair in slot k is at or above the k lowest thresholds.
    slot = np.searchsorted(cuts, pairs.scores, side="right")
    positives, negatives = _split(pairs, slot, len(cuts) + 1)
    above = [np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] for counts in (positives, negatives)]
    rewarded_true, rewarded_false = (counts[:, 1:] for counts in above)
    missed, left = above[0][:, :1] - rewarded_true, above[1][:, :1] - rewarded_false
    return Curve(cuts, _operating_point(rewarded_true, rewarded_false, missed, left, settings))


def average_precision(pairs: Pairs, settings: Bootstrap = DEFAULT) -> Estimate:
    """Sum over falling thresholds of the gain in recall times the precision there, without interpolation.

    This is scikit-learn's `average_precision_score`. NaN without a true pair. The interval comes from at most
    1,024 distinct scores of true pairs (between which others are rounded down), the value from all.
    """

    def statistic(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        found, wrong = np.cumsum(positives, axis=1), np.cumsum(negatives, axis=1)
        gained = _divide(positives, found[:, -1:])
        return np.sum(gained * _divide(found, found + wrong, nothing=0.0), axis=1)

    return _ranking(pairs, statistic, settings)


def partial_auroc(pairs: Pairs, max_fpr: float = 1e-2, settings: Bootstrap = DEFAULT) -> Estimate:
    """Area under the ROC curve (straight between ties) where false positives per frame are at most `max_fpr`.

    Standardised after McClish 1989, as by scikit-learn's `roc_auc_score(max_fpr=...)`: 0.5 is chance, 1 is
    perfect. NaN without both true and false pairs. The interval is made as that of `average_precision`.

    Raises:
      ValueError: if `max_fpr` is not above 0 and at most 1.
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must be above 0 and at most 1; it is {max_fpr}")

    def statistic(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        tpr, fpr = (np.cumsum(counts, axis=1) for counts in (positives, negatives))
        tpr, fpr = (np.pad(_divide(x, x[:, -1:]), ((0, 0), (1, 0))) for x in (tpr, fpr))
        width, rise = np.diff(fpr, axis=1), np.diff(tpr, axis=1)
        inside = np.clip(max_fpr - fpr[:, :-1], 0, width)
        share = _divide(inside, width, nothing=0.0)
        area = np.sum(inside * (tpr[:, :-1] + 0.5 * share * rise), axis=1)
        # NaN where either class is missing.
        area = area + 0 * (tpr[:, -1] + fpr[:, -1])
        chance = max_fpr**2 / 2
        return 0.5 * (1 + (area - chance) / (max_fpr - chance))

    return _ranking(pairs, statistic, settings)


def reliability(pairs: Pairs, bins: int = 15, settings: Bootstrap = DEFAULT) -> Reliability:
    """How far scores, read as probabilities, are from frequencies.

    Args:
      pairs: with scores in [0, 1].
      bins: number of bins of equal width.
      settings: of the bootstrap.

    Raises:
      ValueError: if a score is outside [0, 1], or there is no bin.
    """
    if bins < 1:
        raise ValueError(f"there must be at least one bin; bins is {bins}")
    if pairs.scores.min() < 0 or pairs.scores.max() > 1:
        raise ValueError(
            f"only scores in [0, 1] can be read as probabilities; these are from {pairs.scores.min():.3g} to "
            f"{pairs.scores.max():.3g}"
        )
    edges = np.linspace(0, 1, bins + 1)
    slot = np.searchsorted(edges[1:-1], pairs.scores, side="right")
    counts, scores, true = (pairs.sums(x, slot, bins) for x in (1, pairs.scores, pairs.truth))

    def error(weights: np.ndarray) -> np.ndarray:
        gap = np.abs(weights @ (scores - true)).sum(axis=1)
        return gap / (weights @ counts).sum(axis=1)

    frequency = bootstrap(lambda w: _divide(w @ true, w @ counts), pairs.num_episodes, settings)
    total = counts.sum(axis=0)
    return Reliability(
        edges,
        total.astype(np.int64),
        _divide(scores.sum(axis=0), total),
        frequency,
        bootstrap(error, pairs.num_episodes, settings),
    )


def epic_distance(pairs: Pairs, settings: Bootstrap = DEFAULT) -> Estimate:
    """EPIC distance of the scores from the goals' indicators, each goal's own, averaged over the goals.

    `sqrt(1 - rho) / sqrt(2)` with Pearson's rho: for a reward that depends on the state reached alone, the
    canonicalisation of EPIC (Gleave et al. 2021) cancels (Rocamonde et al. 2023, appendix A). 0 is the true
    reward up to scale, sqrt(1/2) is unrelated, 1 is its opposite. Goals that are always or never true, or
    whose score never changes, are left out; NaN if all are.
    """
    goals = len(pairs.goals)
    # Centred, so that the differences of sums below stay exact.
    scores = pairs.scores - pairs.scores.mean()
    columns = (1, scores, scores**2, pairs.truth, scores * pairs.truth)
    sums = [pairs.sums(column, pairs.goal, goals) for column in columns]

    def statistic(weights: np.ndarray) -> np.ndarray:
        n, s, ss, t, st = (weights @ x for x in sums)
        spread = np.maximum(n * ss - s * s, 0)
        # What rounding leaves of a score that is constant.
        spread[spread <= 1e-12 * n * ss] = 0
        rho = _divide(n * st - s * t, np.sqrt(spread * (n * t - t * t)))
        distance = np.sqrt((1 - np.clip(rho, -1, 1)) / 2)
        known = np.isfinite(distance)
        return _divide(np.where(known, distance, 0).sum(axis=1), known.sum(axis=1))

    return bootstrap(statistic, pairs.num_episodes, settings)


def _operating_point(found, wrong, missed, left, settings: Bootstrap, scalar: bool = False) -> OperatingPoint:
    """From counts `[E, K]` of each episode; without the axis K where `scalar`."""

    def share(part: np.ndarray, rest: np.ndarray) -> Estimate:
        def statistic(weights: np.ndarray) -> np.ndarray:
            value = _divide(weights @ part, weights @ (part + rest))
            return value[:, 0] if scalar else value

        return bootstrap(statistic, len(part), settings)

    return OperatingPoint(share(found, wrong), share(found, missed), share(wrong, left))


def _ranking(pairs: Pairs, statistic, settings: Bootstrap) -> Estimate:
    """A statistic of counts of true and false pairs by level of score, `[R, levels]`, highest score first."""
    exact = np.unique(pairs.scores[pairs.truth])
    levels = _thinned(exact, _LEVELS)
    # Pairs that tie with a true one, and those between two such scores, are apart: nothing is rounded.
    ranks = np.searchsorted(exact, pairs.scores, side="left") + np.searchsorted(
        exact, pairs.scores, side="right"
    )
    slots = 2 * len(exact) + 1
    if len(levels) == len(exact):
        positives, negatives = (x[:, ::-1] for x in _split(pairs, ranks, slots))
        return bootstrap(lambda w: statistic(w @ positives, w @ negatives), pairs.num_episodes, settings)
    slot = np.searchsorted(levels, pairs.scores, side="right")
    positives, negatives = (x[:, ::-1] for x in _split(pairs, slot, len(levels) + 1))
    estimate = bootstrap(lambda w: statistic(w @ positives, w @ negatives), pairs.num_episodes, settings)
    counts = (np.bincount(ranks[pairs.truth == kind], minlength=slots) for kind in (True, False))
    return estimate._replace(value=statistic(*(x[None, ::-1].astype(np.float64) for x in counts))[0])


def _split(pairs: Pairs, slot: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of true and of false pairs by episode and slot, each `[E, slots]`."""
    return pairs.sums(pairs.truth, slot, slots), pairs.sums(~pairs.truth, slot, slots)


def _thinned(ascending: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of them, evenly by rank, both ends kept."""
    if len(ascending) <= most:
        return ascending
    return ascending[np.linspace(0, len(ascending) - 1, most).round().astype(int)]


def _divide(a: np.ndarray, b: np.ndarray, nothing: float = np.nan) -> np.ndarray:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, nothing), where=b != 0)
