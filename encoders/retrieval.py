"""Retrieval: how well a matrix of scores finds what belongs together.

Scores are whatever ranks: cosines of embeddings, or log-likelihoods of texts under graphs. Ties count as if they were
broken at random, so a collapsed encoder that scores all alike is at chance and not at the mercy of an order.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """What queries found among candidates.

    Attributes:
      queries: how many.
      candidates: how many, for each query.
      recall: by k, the share of queries with a right answer among the k best.
      mean_average_precision: over queries.
      chance_recall: by k, what random scores would have in the mean.
      chance_mean_average_precision: the same.
    """

    queries: int
    candidates: int
    recall: dict[int, float]
    mean_average_precision: float
    chance_recall: dict[int, float]
    chance_mean_average_precision: float


def cosines(queries: Any, candidates: Any) -> np.ndarray:
    """float64 `[Q, K]` of embeddings `[Q, D]` and `[K, D]` of any length; that of a zero vector is 0."""

    def unit(x):
        x = np.asarray(x, np.float64)
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)

    return unit(queries) @ unit(candidates).T


def retrieve(scores: Any, relevant: Any, ks: Sequence[int] = (1, 5, 10)) -> Retrieval:
    """Ranks the candidates of each query by descending score.

    Args:
      scores: `[Q, K]`, no NaN.
      relevant: bool `[Q, K]`, the right answers, one or more for each query.
      ks: of the recalls; those above K are left out.
    """
    scores, relevant = _checked(scores, relevant)
    if not relevant.any(axis=1).all():
        none = int(np.argmin(relevant.any(axis=1)))
        raise ValueError(
            f"Query {none} has no right answer among the candidates; leave such queries out before."
        )
    count, ks = scores.shape[1], [k for k in ks if k <= scores.shape[1]]
    right = relevant.sum(axis=1)
    nobody = np.zeros(len(scores), int)
    return Retrieval(
        queries=len(scores),
        candidates=count,
        recall={k: float(np.mean(_hit(*_around_the_best(scores, relevant), k))) for k in ks},
        mean_average_precision=mean_average_precision(scores, relevant),
        chance_recall={k: float(np.mean(_hit(nobody, count - right, right, k))) for k in ks},
        chance_mean_average_precision=float(np.mean(_random_average_precision(right, count))),
    )


def both_ways(
    scores: Any, row_ids: Any = None, column_ids: Any = None, ks: Sequence[int] = (1, 5, 10)
) -> tuple[Retrieval, Retrieval]:
    """Retrieval of columns by rows, and of rows by columns.

    Args:
      scores: `[N, M]`.
      row_ids: `[N]`, what each row is of; rows and columns with one id belong together, be they several. None for a
        square matrix whose diagonal holds the pairs.
      column_ids: `[M]`.
      ks: as in `retrieve`.
    """
    scores = np.asarray(scores)
    if (row_ids is None) != (column_ids is None):
        raise ValueError("Give the ids of rows and columns, or none of them.")
    if row_ids is None:
        if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
            raise ValueError(f"Without ids the scores are square, [N, N], not {list(scores.shape)}.")
        relevant = np.eye(len(scores), dtype=bool)
    else:
        relevant = np.asarray(row_ids)[:, None] == np.asarray(column_ids)[None]
    return retrieve(scores, relevant, ks), retrieve(scores.T, relevant.T, ks)


def mean_average_precision(scores: Any, relevant: Any) -> float:
    """The mean over rows of the average precision; rows without a right answer are left out.

    Args:
      scores: `[Q, K]`, no NaN. Equal ones are one threshold, as in scikit-learn, so all equal gives the share of right
        answers.
      relevant: bool `[Q, K]`.
    """
    scores, relevant = _checked(scores, relevant)
    rows = [_average_precision(s, r) for s, r in zip(scores, relevant) if r.any()]
    if not rows:
        raise ValueError("No row has a right answer.")
    return float(np.mean(rows))


def _checked(scores: Any, relevant: Any) -> tuple[np.ndarray, np.ndarray]:
    scores, relevant = np.asarray(scores, np.float64), np.asarray(relevant)
    if scores.ndim != 2 or scores.shape != relevant.shape or relevant.dtype != bool or not scores.size:
        raise ValueError(
            f"Scores [Q, K] and bool right answers [Q, K] are needed, not {list(scores.shape)} and {relevant.dtype} "
            f"{list(relevant.shape)}."
        )
    if np.isnan(scores).any():
        raise ValueError("Some scores are NaN, which have no rank.")
    return scores, relevant


def _average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(relevant[order])
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    return float(np.sum(np.diff(hits[ends], prepend=0) * hits[ends] / (ends + 1)) / hits[-1])


def _around_the_best(scores: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each query the wrong answers above its best right one, and the wrong and the right ones level with that."""
    best = np.max(np.where(relevant, scores, -np.inf), axis=1, keepdims=True)
    level = scores == best
    return (scores > best).sum(axis=1), (level & ~relevant).sum(axis=1), (level & relevant).sum(axis=1)


def _hit(above: np.ndarray, wrong: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """The chance that k places, the first `above` of them taken, get one of `right` among `wrong` in random order."""
    missed = np.ones(len(above))
    for taken in range(k):
        draws = taken >= above
        drawn = np.where(draws, taken - above, 0)
        left = np.maximum(wrong + right - drawn, 1)
        missed = np.where(draws, missed * np.maximum(wrong - drawn, 0) / left, missed)
    return 1 - missed


def _random_average_precision(right: np.ndarray, count: int) -> np.ndarray:
    """Mean average precision of `right` among `count` in random order.

    The right answer at rank i has (i - 1) (right - 1) / (count - 1) others before it in the mean.
    """
    if count == 1:
        return np.ones(len(right))
    harmonic = np.sum(1 / np.arange(1, count + 1))
    return (harmonic + (count - harmonic) * (right - 1) / (count - 1)) / count
