"""Exact bounds on a probability from counts (Clopper and Pearson 1934)."""

import numpy as np
import scipy.special
from numpy.typing import ArrayLike


def upper_bound(successes: ArrayLike, trials: ArrayLike, delta: float) -> np.ndarray:
    """The probability above which so few successes, or fewer, come with a chance of less than `delta`.

    The true probability is above the bound in at most `delta` of samples of independent trials. 1 where all
    trials succeeded, or there was none.
    """
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    return np.where(k < n, scipy.special.betaincinv(k + 1, np.maximum(n - k, 1e-300), 1 - delta), 1.0)[()]


def lower_bound(successes: ArrayLike, trials: ArrayLike, delta: float) -> np.ndarray:
    """The probability below which so many successes, or more, come with a chance of less than `delta`; 0 where
    there was no success."""
    return 1 - upper_bound(np.asarray(trials) - np.asarray(successes), trials, delta)


def most_successes(trials: int, target: float, delta: float) -> int:
    """The largest number of successes whose `upper_bound` is at most `target`, for `delta` at most 0.5; -1 if
    even none is too many."""
    # The bound is at most the target exactly where P(X <= k) <= delta at the target, which is below the median.
    k = np.arange(int(np.ceil(trials * target)) + 1)
    k = k[k < trials]
    return int(np.count_nonzero(scipy.special.bdtr(k, trials, target) <= delta)) - 1
