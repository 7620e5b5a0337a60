"""Numbers over seeds, with their intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from limbeck.rewards import Estimate
from limbeck.rewards.bootstrap import bootstrap


def ratio(above: np.ndarray, below: np.ndarray) -> Estimate:
    """Sum over sum, with an interval over seeds."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        of = weights @ below
        return np.divide(weights @ above, of, out=np.full(len(of), np.nan), where=of > 0)

    return bootstrap(statistic, len(above))


def over_seeds(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """The mean over seeds and its interval, as JSON values."""
    return ratio(np.asarray(values), np.ones(len(values))).rounded()
