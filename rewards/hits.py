"""First hits: what a reward that ends the episode does. Its first error is the whole episode's.

A unit is one goal in one episode, its frames in the order of their steps. The first frame whose score
reaches the threshold is the unit's first hit; in training the episode would end there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import DEFAULT, Bootstrap, Estimate, bootstrap
from .metrics import margins
from .pairs import Pairs


class FirstHits(NamedTuple):
    """The first hit of every unit.

    Attributes:
      episode: int `[U]`, index of the unit's episode.
      goal: int `[U]`, index of its goal.
      frames: int `[U]`, number of its frames.
      first: int `[U]`, position of the first hit among its frames, from 0; -1 where there is none.
      right: bool `[U]`, whether the goal was true at the first hit, or at most `tolerance` steps before it.
    """

    episode: np.ndarray
    goal: np.ndarray
    frames: np.ndarray
    first: np.ndarray
    right: np.ndarray


class HitPrecision(NamedTuple):
    """First-hit precision and what it rests on.

    Attributes:
      precision: `Estimate`; NaN without a hit.
      hits: number of units with a hit.
      without: number of units without one, which do not count.
    """

    precision: Estimate
    hits: int
    without: int


def first_hits(pairs: Pairs, thresholds: ArrayLike, tolerance: int = 0) -> FirstHits:
    """Finds the first hits.

    Args:
      pairs: frames of whole episodes, or of their beginnings.
      thresholds: one, or one for each goal `[G]`.
      tolerance: k, in steps. A first hit at step h is right if the goal is true at some step from h - k to h:
        a hit after the success may be late, one before it is wrong however near.

    Raises:
      ValueError: if the tolerance is negative or thresholds have another shape.
    """
    if tolerance < 0:
        raise ValueError(f"the tolerance is a number of steps, at least 0; it is {tolerance}")
    hit = margins(pairs, thresholds) >= 0
    unit = pairs.episode.astype(np.int64) * len(pairs.goals) + pairs.goal
    order = np.lexsort((pairs.step, unit))
    unit, hit, truth, step = unit[order], hit[order], pairs.truth[order], pairs.step[order]
    units, start, frames = np.unique(unit, return_index=True, return_counts=True)
    rows = np.flatnonzero(hit)
    hit_units, at = np.unique(unit[rows], return_index=True)
    row, which = rows[at], np.searchsorted(units, hit_units)
    first = np.full(len(units), -1)
    first[which] = row - start[which]
    # The last row up to each where the goal was true; it counts if it is of the same unit.
    last_true = np.maximum.accumulate(np.where(truth, np.arange(len(unit)), -1))[row]
    right = np.zeros(len(units), bool)
    right[which] = (last_true >= start[which]) & (step[row] - step[last_true] <= tolerance)
    return FirstHits(units // len(pairs.goals), units % len(pairs.goals), frames, first, right)


def first_hit_precision(
    pairs: Pairs, thresholds: ArrayLike, tolerance: int = 0, settings: Bootstrap = DEFAULT
) -> HitPrecision:
    """Share of the first hits that are right (see `first_hits`), over the units that have one."""
    found = first_hits(pairs, thresholds, tolerance)
    hit = found.first >= 0
    right, hits = (np.bincount(found.episode, x, pairs.num_episodes) for x in (found.right, hit))

    def statistic(weights: np.ndarray) -> np.ndarray:
        of = weights @ hits
        return np.divide(weights @ right, of, out=np.full(len(of), np.nan), where=of > 0)

    estimate = bootstrap(statistic, pairs.num_episodes, settings)
    return HitPrecision(estimate, int(hit.sum()), int((~hit).sum()))


def false_success(
    pairs: Pairs, thresholds: ArrayLike, frames: int = 64, tolerance: int = 0, settings: Bootstrap = DEFAULT
) -> Estimate:
    """Probability that a unit ends on a wrong first hit within its first `frames` frames.

    A right first hit ends the unit too, without a false success; a unit whose data end before either is
    censored there. This is the Aalen-Johansen estimate of the cumulative incidence (1978); without censoring
    it is the plain share of the units. NaN where no data go as far.

    Raises:
      ValueError: if `frames` is below 1, and as `first_hits`.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1; it is {frames}")
    found = first_hits(pairs, thresholds, tolerance)
    hit = found.first >= 0
    last = np.where(hit, found.first, found.frames - 1)
    slot = found.episode * (frames + 1) + np.minimum(last, frames)
    # By episode and position `[E, frames + 1]`; the last slot is all that is later.
    leave, ends, wrong = (
        np.bincount(slot, x, pairs.num_episodes * (frames + 1)).reshape(-1, frames + 1)
        for x in (np.ones(len(slot)), hit, hit & ~found.right)
    )
    at_risk = np.cumsum(leave[:, ::-1], axis=1)[:, ::-1]

    def statistic(weights: np.ndarray) -> np.ndarray:
        n, ended, bad = ((weights @ x)[:, :frames] for x in (at_risk, ends, wrong))
        none = n == 0
        n = np.where(none, 1, n)
        # Share of units without a hit before each position.
        free = np.cumprod(1 - ended / n, axis=1)
        free = np.pad(free[:, :-1], ((0, 0), (1, 0)), constant_values=1.0)
        unknown = np.any(none & (free > 1e-12), axis=1)
        return np.where(unknown, np.nan, np.sum(free * bad / n, axis=1))

    return bootstrap(statistic, pairs.num_episodes, settings)
