"""Trends of short series: the Mann-Kendall test and the Theil-Sen slope."""

import numpy as np
import scipy.special
from numpy.typing import ArrayLike


def mann_kendall(values: ArrayLike) -> float:
    """One-sided p-value of a rise (Mann 1945, Kendall 1955), by the normal approximation.

    Variance corrected for ties, S for continuity. 1 minus it is nearly the p-value of a fall; for that, give
    the negated values. The approximation is good from some eight values on; beyond three deviations it errs on
    the cautious side.

    Args:
      values: in order of time, `[n]`.

    Returns:
      The probability of so large an S without a trend; 1 where all values are equal or there are fewer than 3.
    """
    x = np.asarray(values, np.float64)
    n = len(x)
    if n < 3:
        return 1.0
    s = np.sign(x[None, :] - x[:, None])[np.triu_indices(n, 1)].sum()
    _, ties = np.unique(x, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - np.sum(ties * (ties - 1) * (2 * ties + 5))) / 18
    if variance <= 0:
        return 1.0
    return float(scipy.special.ndtr(-(s - 1) / np.sqrt(variance)))


def theil_sen(values: ArrayLike) -> float:
    """The median slope over all pairs of values (Theil 1950, Sen 1968), by step; NaN for fewer than 2."""
    x = np.asarray(values, np.float64)
    first, second = np.triu_indices(len(x), 1)
    return float(np.median((x[second] - x[first]) / (second - first))) if len(first) else float("nan")
