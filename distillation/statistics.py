"""Statistics of in-context learning: interquartile means, bootstrap intervals, and what to read beside them.

The interquartile mean and the stratified bootstrap follow Agarwal et al. 2021, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice"; the strata are ours.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ._types import Evaluation


_ELEMENTS = 5_000_000


class Strata(NamedTuple):
    """Evaluations of one or more training seeds in one array: a stratum is one task under one training seed.

    Attributes:
      returns: float64 `[stratum, seed, episode]`.
      task_ids: int `[stratum]`.
      training_seeds: int `[stratum]`, position of the evaluation that the stratum is from.
      random: float64 `[stratum]`, NaN where unknown.
      optimal: float64 `[stratum]`, NaN where unknown.
    """

    returns: np.ndarray
    task_ids: np.ndarray
    training_seeds: np.ndarray
    random: np.ndarray
    optimal: np.ndarray

    @property
    def has_bounds(self) -> bool:
        """Whether every stratum can be normalised."""
        return bool(
            np.all(np.isfinite(self.random) & np.isfinite(self.optimal) & (self.optimal > self.random))
        )


class Estimate(NamedTuple):
    """A statistic and its interval; floats, or arrays of one shape."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def strata(evaluations: Sequence[Evaluation]) -> Strata:
    """Joins the evaluations of several training seeds, which may be on different tasks.

    Raises:
      ValueError: if there is none, if the shapes within one do not agree, or if they differ in the number of
        evaluation seeds or episodes.
    """
    if not evaluations:
        raise ValueError("there is no evaluation to summarise")
    for evaluation in evaluations:
        shape, tasks = np.shape(evaluation.returns), len(evaluation.task_ids)
        if len(shape) != 3 or 0 in shape:
            raise ValueError(f"returns must be [task, seed, episode] and not empty; their shape is {shape}")
        if not shape[0] == tasks == len(evaluation.random) == len(evaluation.optimal):
            raise ValueError(
                f"an evaluation has returns of {shape[0]} tasks, {tasks} task ids, {len(evaluation.random)} "
                f"random and {len(evaluation.optimal)} optimal returns"
            )
    sizes = {np.shape(evaluation.returns)[1:] for evaluation in evaluations}
    if len(sizes) != 1:
        raise ValueError(
            f"the training seeds' evaluations must have as many seeds and episodes; they have {sorted(sizes)}"
        )
    return Strata(
        returns=np.concatenate([np.asarray(e.returns, np.float64) for e in evaluations]),
        task_ids=np.concatenate([np.asarray(e.task_ids, np.int64) for e in evaluations]),
        training_seeds=np.repeat(np.arange(len(evaluations)), [len(e.task_ids) for e in evaluations]),
        random=np.concatenate([np.asarray(e.random, np.float64) for e in evaluations]),
        optimal=np.concatenate([np.asarray(e.optimal, np.float64) for e in evaluations]),
    )


def normalise(returns: np.ndarray, random: np.ndarray, optimal: np.ndarray) -> np.ndarray:
    """`(returns - random) / (optimal - random)`: 0 is as good as chance, 1 is as good as can be.

    Args:
      returns: `[task, ...]`.
      random: `[task]`.
      optimal: `[task]`.

    Returns:
      float64, the shape of `returns`; NaN for tasks whose bounds are unknown or leave nothing to gain.
    """
    returns, random, optimal = (np.asarray(x, np.float64) for x in (returns, random, optimal))
    tail = (...,) + (None,) * (returns.ndim - random.ndim)
    gain = np.where(optimal > random, optimal - random, np.nan)
    return (returns - random[tail]) / gain[tail]


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean of what is left without the lowest and the highest quarter.

    Of `n` values `floor(n / 4)` are dropped at either end, as by `scipy.stats.trim_mean(values, 0.25)`, which
    published interquartile means use. NaN if any value is.
    """
    values = np.moveaxis(np.asarray(values, np.float64), axis, -1)
    count = values.shape[-1]
    cut = count // 4
    if cut:
        kept = np.partition(values, (cut, count - cut - 1), axis=-1)[..., cut : count - cut]
        # NaN sorts last, so trimming could hide it.
        return np.where(np.isnan(values).any(-1), np.nan, kept.mean(-1))
    return values.mean(-1)


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Arithmetic mean, with the signature of `iqm`."""
    return np.mean(np.asarray(values, np.float64), axis=axis)


def stratified_bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = iqm,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A statistic of all runs together, with a percentile bootstrap interval.

    Each resample draws, within every stratum, as many evaluation seeds as there are, with replacement; a seed
    is drawn with all that lies behind it (all episodes of a curve). Tasks and training seeds are never
    resampled: the interval says how well the evaluation is known for *these* trained models on *these* tasks,
    not how another training run would do. Read the results by training seed beside it for that.

    Args:
      values: `[stratum, seed, ...]`.
      statistic: of an array over its last axis, which holds the runs of all strata.
      resamples: how many.
      level: probability that the interval aims at.
      seed: of the draws; the same seed gives the same interval.

    Returns:
      `Estimate` of arrays of the trailing shape.
    """
    values = np.asarray(values, np.float64)
    num_strata, num_seeds = values.shape[:2]
    # [..., stratum * seed]: runs last, where the statistic works and memory is contiguous.
    flat = np.ascontiguousarray(np.moveaxis(values.reshape(-1, *values.shape[2:]), 0, -1))
    rng = np.random.default_rng(seed)
    first = np.arange(num_strata)[:, None] * num_seeds
    at_once = max(1, _ELEMENTS // flat.size)
    drawn = []
    for begin in range(0, resamples, at_once):
        count = min(at_once, resamples - begin)
        chosen = first + rng.integers(num_seeds, size=(count, num_strata, num_seeds))
        drawn.append(statistic(flat[..., chosen.reshape(count, -1)]))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(drawn, axis=-1), (tail, 1 - tail), axis=-1)
    return Estimate(np.asarray(statistic(flat)), low, high)


def area_under_curve(returns: np.ndarray) -> np.ndarray:
    """Mean over the episodes, `[..., episode]` to `[...]`: normalised, 1 is optimal from the start."""
    return np.mean(returns, axis=-1)


def episodes_to(curve: np.ndarray, threshold: float = 0.9) -> int | None:
    """First episode, counted from 1, at which a curve `[episode]` reaches the threshold; None if never."""
    reached = np.flatnonzero(np.asarray(curve) >= threshold)
    return int(reached[0]) + 1 if reached.size else None


def cumulative_regret(returns: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What was lost against a reference agent, summed over the episodes that both have.

    Args:
      returns: `[..., episode]`.
      reference: mean returns of the reference, `[..., episode]`, broadcast against `returns`.

    Returns:
      `[...]`, in units of return; negative where the reference was beaten.
    """
    episodes = min(returns.shape[-1], reference.shape[-1])
    return np.sum(reference[..., :episodes] - returns[..., :episodes], axis=-1)


def dead(normalised_last: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Which strata are dead: those whose mean over the seeds is under a fifth of the way from random to
    optimal.

    Args:
      normalised_last: normalised return of each run's last episodes, `[stratum, seed]`.
      threshold: share of the way.

    Returns:
      bool `[stratum]`.
    """
    return np.mean(normalised_last, axis=-1) < threshold
