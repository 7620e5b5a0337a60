"""Agreement of orders: labelled with true returns, captions with their swaps."""

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import DEFAULT, Bootstrap, Estimate, bootstrap


_ROWS = 1000


def kendall_tau(labelled: ArrayLike, true: ArrayLike, settings: Bootstrap = DEFAULT) -> Estimate:
    """Kendall's tau-b of labelled and true returns; items are drawn by the bootstrap.

    Args:
      labelled: returns by the reward model, `[M]`, one for each policy (or each episode).
      true: true returns of the same, `[M]`.
      settings: of the bootstrap.

    Returns:
      `Estimate`; NaN where all returns of one kind are equal. Work and time grow with M squared.

    Raises:
      ValueError: if the shapes do not agree, or a return is not finite.
    """
    x, y = np.asarray(labelled, np.float64), np.asarray(true, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"labelled and true returns must both be [M]; they are {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("returns must be finite: leave out what has no true return")

    def statistic(weights: np.ndarray) -> np.ndarray:
        # Sums over ordered pairs of items. An item that is drawn twice ties with itself, as it should.
        both, of_x, of_y = (np.zeros(len(weights)) for _ in range(3))
        for i in range(0, len(x), _ROWS):
            rows = slice(i, i + _ROWS)
            a, b = np.sign(x[rows, None] - x), np.sign(y[rows, None] - y)
            for total, signs in ((both, a * b), (of_x, a * a), (of_y, b * b)):
                total += np.einsum("ri,ri->r", weights[:, rows], weights @ signs.T)
        scale = np.sqrt(of_x * of_y)
        return np.divide(both, scale, out=np.full(len(both), np.nan), where=scale > 0)

    return bootstrap(statistic, len(x), settings)


def swapped_pair_accuracy(
    true_scores: ArrayLike, swapped_scores: ArrayLike, episodes: ArrayLike, settings: Bootstrap = DEFAULT
) -> Estimate:
    """Share of frames that score their true caption above its swap ("red key next to blue ball" above "blue key
    next to red ball"); a tie counts half. 0.5 is chance.

    Args:
      true_scores: `[P]`.
      swapped_scores: `[P]`.
      episodes: `[P]`, ids of the frames' episodes.
      settings: of the bootstrap.

    Raises:
      ValueError: if the shapes do not agree, or a score is NaN.
    """
    true, swapped, ids = np.asarray(true_scores), np.asarray(swapped_scores), np.asarray(episodes)
    if true.ndim != 1 or not true.shape == swapped.shape == ids.shape:
        raise ValueError(
            f"both scores and the episodes must be [P]; they are {true.shape}, {swapped.shape} and {ids.shape}"
        )
    if np.isnan(true).any() or np.isnan(swapped).any():
        raise ValueError("scores must not be NaN")
    right = (true > swapped) + 0.5 * (true == swapped)
    distinct, episode = np.unique(ids, return_inverse=True)
    won, of = np.bincount(episode, right), np.bincount(episode).astype(np.float64)
    return bootstrap(lambda weights: (weights @ won) / (weights @ of), len(distinct), settings)
