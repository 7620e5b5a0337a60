"""Bootstrap intervals over episodes: frames of one episode are alike, so whole episodes are drawn, never frames."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


_ROWS = 125


class Estimate(NamedTuple):
    """A statistic with its interval: floats, or arrays of one shape.

    Attributes:
      value: the statistic of the whole data; NaN where it does not exist (no positives, no hit).
      low: lower end of the interval.
      high: upper end of the interval.
      defined: share of the resamples in which the statistic exists; the others do not count in the interval.
        Well below 1 the interval is that of a rare event, and too narrow.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    defined: np.ndarray

    def rounded(self, digits: int = 4) -> dict[str, Any]:
        """`value` and its interval `ci` of a single estimate as JSON values, None where there is none."""
        value, low, high = (
            round(float(x), digits) if np.isfinite(x) else None for x in (self.value, self.low, self.high)
        )
        return {"value": value, "ci": [low, high]}


class Bootstrap(NamedTuple):
    """How intervals are made.

    Attributes:
      resamples: number of resamples.
      level: probability that an interval aims at.
      seed: of the draws. Statistics of the same number of episodes see the same resamples, so that their
        intervals can be compared.
    """

    resamples: int = 1000
    level: float = 0.95
    seed: int = 0


DEFAULT = Bootstrap()


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], episodes: int, settings: Bootstrap = DEFAULT
) -> Estimate:
    """A statistic of episodes with its percentile bootstrap interval (Efron 1979).

    A resample draws as many episodes as there are, with replacement; it is given to the statistic as the
    number of times that each episode was drawn. A statistic that is a function of sums over episodes is then
    one matrix product for all resamples.

    Args:
      statistic: of weights `[R, E]` float64 (how often each episode counts) to `[R, ...]`; NaN where it does
        not exist.
      episodes: number of episodes E, at least 1.
      settings: number of resamples, level and seed.

    Raises:
      ValueError: if there is no episode, or a setting is out of range.
    """
    if episodes < 1:
        raise ValueError("there is no episode to draw: give at least one frame")
    if settings.resamples < 1 or not 0 < settings.level < 1:
        raise ValueError(f"resamples must be at least 1 and the level between 0 and 1; they are {settings}")
    value = np.asarray(statistic(np.ones((1, episodes))), np.float64)[0]
    weights = _weights(episodes, settings.resamples, settings.seed)
    drawn = np.concatenate(
        [
            np.asarray(statistic(weights[i : i + _ROWS].astype(np.float64)), np.float64)
            for i in range(0, len(weights), _ROWS)
        ]
    )
    return Estimate(value, *percentiles(drawn, settings.level), np.isfinite(drawn).mean(axis=0))


def percentiles(drawn: ArrayLike, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the central interval of `[R, ...]` numbers, NaN ones left out; NaN where all are."""
    drawn = np.asarray(drawn, np.float64)
    tails = ((1 - level) / 2, (1 + level) / 2)
    nothing = ~np.isfinite(drawn).any(axis=0)
    # `nanquantile` is slow and warns of columns without a number: only where it is needed.
    whole = bool(np.isfinite(drawn).all())
    low, high = (np.quantile if whole else np.nanquantile)(np.where(nothing, 0.0, drawn), tails, axis=0)
    return np.where(nothing, np.nan, low)[()], np.where(nothing, np.nan, high)[()]


@functools.lru_cache(maxsize=2)
def _weights(episodes: int, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples).astype(np.uint16)
    drawn.setflags(write=False)
    return drawn
