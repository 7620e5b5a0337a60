"""Thresholds per goal that bound the false positives, frozen into a card.

A reward that ends the episode makes every false positive an episode lost, so a threshold is chosen for its
false-positive rate among the frames where the goal is false, with a bound that holds beyond the sample; a goal
of which too little is known is never rewarded.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .binomial import lower_bound, most_successes, upper_bound
from .card import Calibration, Threshold
from .pairs import Pairs


_UNITS = {"frame": "frames", "episode": "episodes", "first_hit": "episodes"}


@dataclasses.dataclass(frozen=True)
class CalibrationConfig:
    """What thresholds must hold.

    Attributes:
      target: highest rate of what `unit` counts, in (0, 1): per false frame, or per episode.
      delta: probability, at most 0.5, for each group of goals, that the true rate is above the target all the same. All
        bounds of a card hold together with probability at least 1 - delta times the number of groups.
      min_positives: fewest true frames of a group that is not abstained from.
      unit: what is counted as a trial. "frame": each frame where the goal is false. The bound takes them to be
        independent, and frames of an episode are not. "episode": each (episode, goal) with such frames, which
        fails where any of them reaches the threshold. Its bound needs nothing but independent episodes, and
        limits the false successes per episode; it needs some log(1 / delta) / target episodes. "first_hit": each
        (episode, goal), which fails where the first frame to reach the threshold is a false one: what a reward that
        ends the episode suffers from, on episodes like those at hand. Give episodes of the agents that will be paid,
        each with its own goal.
    """

    target: float = 1e-3
    delta: float = 0.05
    min_positives: int = 10
    unit: Literal["frame", "episode", "first_hit"] = "frame"

    def __post_init__(self):
        if not 0 < self.target < 1:
            raise ValueError(f"target is a rate above 0 and below 1; it is {self.target}")
        if not 0 < self.delta <= 0.5:
            raise ValueError(f"delta is a probability above 0 and at most 0.5; it is {self.delta}")
        if self.min_positives < 1:
            raise ValueError(f"min_positives must be at least 1; it is {self.min_positives}")
        if self.unit not in ("frame", "episode", "first_hit"):
            raise ValueError(f"unit must be 'frame', 'episode' or 'first_hit'; it is {self.unit!r}")


class Recheck(dict[str, "Rechecked"]):
    """Results of `recheck` by group; abstained ones are left out."""

    @property
    def failing(self) -> list[str]:
        """The groups whose rate is above the target beyond doubt."""
        return [name for name, result in self.items() if result.verdict == "fails"]

    @property
    def open(self) -> list[str]:
        """The groups for which this split says neither."""
        return [name for name, result in self.items() if result.verdict == "open"]


@dataclasses.dataclass(frozen=True)
class Rechecked:
    """One group on a disjoint split.

    Attributes:
      verdict: "holds" where the upper bound of the rate is at most the target, "fails" where the lower one is
        above it, "open" where the data are too few to say.
      trials: frames or episodes, as in the card.
      false_trials: those that reached the threshold.
      low: Clopper-Pearson lower bound of the rate at confidence 1 - delta.
      high: the upper one.
      recall: share of the true frames that are rewarded; NaN without any.
    """

    verdict: Literal["holds", "fails", "open"]
    trials: int
    false_trials: int
    low: float
    high: float
    recall: float


def calibrate(
    pairs: Pairs,
    fingerprint: str,
    head: Mapping[str, Any],
    config: CalibrationConfig | None = None,
    families: Mapping[str, str] | None = None,
    prevalence: float | Mapping[str, float] | None = None,
) -> Calibration:
    """Chooses thresholds on a labelled split.

    A threshold is the lowest at which, and above which everywhere, the Clopper-Pearson upper bound (confidence
    1 - delta) of the rate of failing trials is at most the target. For frames and episodes rate and bound fall with
    the threshold; for first hits they need not, and thresholds are tested from the highest down until one fails
    (fixed-sequence testing, as in Angelopoulos et al., arXiv 2110.01052). Either way choosing it on the same data
    leaves the confidence as it is. It lies halfway between the two scores of the split that it parts,
    so `>` and `>=` agree and rounding does no harm.

    Args:
      pairs: scores of the head without a threshold, and the truth.
      fingerprint: of the encoder that gave the scores.
      head: settings of the head that gave them, JSON values (`head_settings`).
      config: what thresholds must hold.
      families: goal -> name of its family, for every goal: a family shares a threshold and its counts are
        pooled; the rate is then bounded over the family, not for each goal of it. If None, each goal is its own.
      prevalence: share of true frames where the reward will be used, one or by group; if None, that of the
        split. Precision is given at this prevalence.

    Raises:
      ValueError: if families or prevalence leave a goal out, or a prevalence is not in [0, 1].
    """
    config = config or CalibrationConfig()
    groups: dict[str, list[str]] = {}
    for goal in pairs.goals:
        if families is not None and goal not in families:
            raise ValueError(f"families has no entry for the goal {goal!r}; give one for every goal")
        groups.setdefault(families[goal] if families is not None else goal, []).append(goal)
    thresholds = []
    for name, goals in groups.items():
        part = _of_goals(pairs, goals)
        if isinstance(prevalence, Mapping) and name not in prevalence:
            raise ValueError(f"prevalence has no entry for {name!r}; it has {sorted(prevalence)}")
        share = prevalence[name] if isinstance(prevalence, Mapping) else prevalence
        if share is None:
            share = float(part.truth.mean()) if len(part.truth) else 0.0
        if not 0 <= share <= 1:
            raise ValueError(f"the prevalence of {name!r} must be from 0 to 1; it is {share}")
        thresholds.append(_threshold(name, tuple(goals), part, float(share), config))
    return Calibration(
        fingerprint=fingerprint,
        head=dict(head),
        target=config.target,
        delta=config.delta,
        unit=config.unit,
        min_positives=config.min_positives,
        thresholds=tuple(thresholds),
        episodes=tuple(pairs.episode_ids.tolist()),
    )


def recheck(card: Calibration, pairs: Pairs) -> Recheck:
    """Measures a card's thresholds on another split.

    Args:
      card: the card; the goals of the split must be among its own.
      pairs: scores by the same encoder and head, on episodes that the card was not made from.

    Raises:
      CalibrationError: if the split shares episodes with the card's, or has a goal that the card has not.
    """
    card.check_apart(pairs)
    card.levels(pairs.goals)
    results = Recheck()
    for threshold in card.thresholds:
        part = _of_goals(pairs, threshold.goals)
        if threshold.threshold is None or not len(part.truth):
            continue
        trials = _trials(part, card.unit)
        false = trials.failing(threshold.threshold)
        low, high = (float(f(false, trials.count, card.delta)) for f in (lower_bound, upper_bound))
        recalled = part.scores[part.truth] >= threshold.threshold
        results[threshold.name] = Rechecked(
            verdict="holds" if high <= card.target else "fails" if low > card.target else "open",
            trials=trials.count,
            false_trials=false,
            low=low,
            high=high,
            recall=float(recalled.mean()) if len(recalled) else float("nan"),
        )
    return results


def precision_at(prevalence: float, recall: float, false_positive_rate: float) -> float | None:
    """Share of rewarded frames that are true, where `prevalence` of all frames are; None where none is rewarded."""
    right, wrong = prevalence * recall, (1 - prevalence) * false_positive_rate
    return right / (right + wrong) if right + wrong else None


def _threshold(
    name: str, goals: tuple[str, ...], pairs: Pairs, prevalence: float, config: CalibrationConfig
) -> Threshold:
    trials = _trials(pairs, config.unit)
    positives = pairs.scores[pairs.truth]
    allowed = most_successes(trials.count, config.target, config.delta)
    entry = Threshold(
        name=name,
        goals=goals,
        positives=len(positives),
        negatives=len(pairs.truth) - len(positives),
        trials=trials.count,
        prevalence=prevalence,
    )
    if len(positives) < config.min_positives:
        reason = f"{len(positives)} true frames, fewer than {config.min_positives}"
        return dataclasses.replace(entry, reason=reason)
    if allowed < 0:
        need = int(np.ceil(np.log(config.delta) / np.log1p(-config.target)))
        reason = f"{trials.count} {_UNITS[config.unit]} to bound the rate with, fewer than {need}"
        return dataclasses.replace(entry, reason=reason)
    # From this score on down one failing trial would be too many: the threshold must lie above it.
    barred = trials.highest_with_more_than(allowed)
    above = pairs.scores[pairs.scores > barred]
    threshold = float(above.min()) if len(above) else float("inf")
    if np.isfinite(threshold) and np.isfinite(barred):
        threshold = float(barred + (threshold - barred) / 2)
    recalled = int(np.count_nonzero(positives >= threshold))
    if not recalled:
        return dataclasses.replace(
            entry, reason="no true frame is rewarded at a threshold that keeps the bound"
        )
    wrong = int(np.count_nonzero(pairs.scores[~pairs.truth] >= threshold))
    failed = trials.failing(threshold)
    least = float(lower_bound(recalled, entry.positives, config.delta))
    most = float(upper_bound(wrong, entry.negatives, config.delta))
    recall = recalled / entry.positives
    return dataclasses.replace(
        entry,
        threshold=threshold,
        true_positives=recalled,
        false_positives=wrong,
        false_trials=failed,
        bound=float(upper_bound(failed, trials.count, config.delta)),
        recall=recall,
        recall_low=least,
        precision=precision_at(prevalence, recall, wrong / entry.negatives),
        precision_low=precision_at(prevalence, least, most),
    )


def _of_goals(pairs: Pairs, goals: Sequence[str]) -> Pairs:
    wanted = [i for i, goal in enumerate(pairs.goals) if goal in set(goals)]
    return pairs.select(np.isin(pairs.goal, wanted))


def _trials(pairs: Pairs, unit: str) -> "_Trials":
    if unit == "frame":
        scores = pairs.scores[~pairs.truth]
        return _Trials(np.full(len(scores), -np.inf), scores, len(scores))
    key = pairs.episode.astype(np.int64) * len(pairs.goals) + pairs.goal
    if unit == "episode":
        _, which = np.unique(key[~pairs.truth], return_inverse=True)
        highest = np.full(which.max(initial=-1) + 1, -np.inf)
        np.maximum.at(highest, which, pairs.scores[~pairs.truth])
        return _Trials(np.full(len(highest), -np.inf), highest, len(highest))
    order = np.lexsort((pairs.step, key))
    _, start, which = np.unique(key[order], return_index=True, return_inverse=True)
    column = np.arange(len(order)) - start[which]
    scores = np.full((len(start), column.max(initial=-1) + 1), -np.inf)
    false = np.zeros(scores.shape, bool)
    scores[which, column], false[which, column] = pairs.scores[order], ~pairs.truth[order]
    # A frame is the first hit at the thresholds up to its score that are above all scores before it.
    highest = np.maximum.accumulate(scores, axis=1)
    before = np.pad(highest[:, :-1], ((0, 0), (1, 0)), constant_values=-np.inf)
    fails = false & (scores > before)
    return _Trials(before[fails], scores[fails], len(start))


@dataclasses.dataclass(frozen=True)
class _Trials:
    """Trials, and the thresholds at which they fail: in intervals (low, high], those of one trial disjoint.

    Attributes:
      low, high: `[K]`.
      count: of trials, some of which may never fail.
    """

    low: np.ndarray
    high: np.ndarray
    count: int

    def failing(self, threshold: float) -> int:
        """How many fail at a threshold."""
        return int(np.count_nonzero((self.low < threshold) & (threshold <= self.high)))

    def highest_with_more_than(self, allowed: int) -> float:
        """The highest threshold at which more than `allowed` fail; minus infinity if there is none."""
        ends = np.concatenate([self.high, self.low])
        change = np.repeat([1, -1], [len(self.high), len(self.low)])
        places, which = np.unique(-ends, return_inverse=True)
        failing = np.cumsum(np.bincount(which, change, len(places)))
        more = np.flatnonzero(failing > allowed)
        return float(-places[more[0]]) if len(more) else float("-inf")
