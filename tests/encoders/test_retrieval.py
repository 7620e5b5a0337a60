"""Retrieval against scikit-learn, brute force over orders, and small cases by hand."""

import itertools

import numpy as np
import pytest
from limbeck.encoders import both_ways, cosines, retrieve
from limbeck.encoders.retrieval import mean_average_precision


RNG = np.random.default_rng(0)


def test_a_small_case_by_hand():
    # Row 0 ranks its answer first, row 1 second, row 2 last.
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.3, 0.2, 0.1]])
    forward, backward = both_ways(scores, ks=(1, 2, 5))
    assert forward.recall == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3)}
    assert forward.mean_average_precision == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert (forward.queries, forward.candidates) == (3, 3)
    # Columns: 0.9 is first of its column, 0.5 first of its, 0.1 level with another for places 2 and 3.
    assert backward.recall == {1: pytest.approx(2 / 3), 2: pytest.approx((2 + 0.5) / 3)}
    assert forward.chance_recall == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3)}
    assert forward.chance_mean_average_precision == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_several_right_answers_by_ids():
    scores = np.log([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
    forward, backward = both_ways(scores, ["cat", "dog"], ["dog", "cat", "cat"], ks=(1, 2))
    assert forward.recall == {1: 0.0, 2: 0.5}
    # The cat's answers are ranked 2 and 3, the dog's 3.
    assert forward.mean_average_precision == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 3) / 2)
    assert (backward.queries, backward.candidates) == (3, 2)
    assert backward.recall[2] == 1.0


def test_average_precision_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    # Rounded, so that there are ties.
    scores = RNG.normal(size=(20, 30)).round(1)
    relevant = RNG.uniform(size=(20, 30)) < 0.2
    relevant[3] = False
    expected = [metrics.average_precision_score(r, s) for s, r in zip(scores, relevant) if r.any()]
    assert mean_average_precision(scores, relevant) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("right", [1, 2, 4])
def test_ties_and_chance_are_means_over_all_orders(right):
    scores, relevant = np.array([3.0, 2, 2, 2, 1]), np.zeros(5, bool)
    relevant[1 : 1 + right] = True
    found = retrieve(scores[None], relevant[None], ks=(1, 2, 3, 4, 5))

    def over(orders):
        hits, precisions = [], []
        for order in orders:
            row = relevant[list(order)]
            hits.append([row[:k].any() for k in (1, 2, 3, 4, 5)])
            precisions.append(np.mean([row[: i + 1].mean() for i in np.flatnonzero(row)]))
        return np.mean(hits, axis=0), np.mean(precisions)

    orders = list(itertools.permutations(range(5)))
    level = [order for order in orders if (np.diff(scores[list(order)]) <= 0).all()]
    np.testing.assert_allclose(list(found.recall.values()), over(level)[0], rtol=1e-9)
    chance, precision = over(orders)
    np.testing.assert_allclose(list(found.chance_recall.values()), chance, rtol=1e-9)
    assert found.chance_mean_average_precision == pytest.approx(precision)


def test_a_collapsed_encoder_is_at_chance():
    embeddings = np.ones((50, 8))
    for found in both_ways(cosines(embeddings, embeddings)):
        assert found.recall == pytest.approx({1: 0.02, 5: 0.1, 10: 0.2})
        assert found.recall == pytest.approx(found.chance_recall)
        assert found.mean_average_precision == pytest.approx(0.02)


def test_cosines():
    found = cosines([[3.0, 4.0], [0.0, 0.0]], [[6.0, 8.0], [-4.0, 3.0], [1.0, 0.0]])
    np.testing.assert_allclose(found, [[1, 0, 0.6], [0, 0, 0]], atol=1e-12)


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match="Query 1 has no right answer"):
        both_ways(np.zeros((2, 1)), ["a", "b"], ["a"])
    with pytest.raises(ValueError, match=r"square, \[N, N\], not \[2, 3\]"):
        both_ways(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="both|none of them"):
        both_ways(np.zeros((2, 2)), row_ids=[1, 2])
    with pytest.raises(ValueError, match="NaN"):
        both_ways(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="bool right answers"):
        retrieve(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="No row has"):
        mean_average_precision(np.zeros((2, 2)), np.zeros((2, 2), bool))
