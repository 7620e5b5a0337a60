"""Rank correlation against scipy, swapped pairs by hand."""

import numpy as np
import pytest
import scipy.stats
from limbeck.rewards import agreement
from limbeck.rewards.agreement import kendall_tau, swapped_pair_accuracy
from limbeck.rewards.bootstrap import Bootstrap


@pytest.mark.parametrize("rows", [1000, 7])
def test_tau_is_scipys(rows, monkeypatch):
    monkeypatch.setattr(agreement, "_ROWS", rows)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = rng.integers(6, size=30)
        y = x + rng.integers(4, size=30)
        expected = scipy.stats.kendalltau(x, y).statistic
        assert kendall_tau(x, y, Bootstrap(20)).value == pytest.approx(expected)


def test_intervals_of_tau_are_those_of_drawing_by_hand():
    rng = np.random.default_rng(1)
    x = rng.normal(size=25)
    y = x + rng.normal(size=25)
    estimate = kendall_tau(x, y, Bootstrap(4000))
    draws = (rng.integers(25, size=25) for _ in range(3000))
    drawn = [scipy.stats.kendalltau(x[i], y[i]).statistic for i in draws]
    np.testing.assert_allclose([estimate.low, estimate.high], np.quantile(drawn, [0.025, 0.975]), atol=0.04)


def test_tau_without_an_order_does_not_exist():
    assert np.isnan(kendall_tau([1.0, 1.0], [1.0, 2.0], Bootstrap(5)).value)
    assert kendall_tau([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], Bootstrap(5)).value == -1
    with pytest.raises(ValueError, match="must both be"):
        kendall_tau([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        kendall_tau([1.0, 2.0], [1.0, np.nan])


def test_swapped_pairs_by_hand():
    estimate = swapped_pair_accuracy([3, 2, 1, 5], [1, 2, 3, 4], ["a", "a", "b", "b"])
    assert estimate.value == (1 + 0.5 + 0 + 1) / 4
    # Two episodes with 0.75 and 0.5.
    assert (estimate.low, estimate.high) == (0.5, 0.75)
    with pytest.raises(ValueError, match="NaN"):
        swapped_pair_accuracy([np.nan], [1.0], [0])
    with pytest.raises(ValueError, match="must be"):
        swapped_pair_accuracy([1.0, 2.0], [1.0], [0])
