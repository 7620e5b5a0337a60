"""Statistics against scipy and against numbers worked out by hand."""

import numpy as np
import pytest
import scipy.stats
from limbeck.distillation import Evaluation
from limbeck.distillation import statistics as st


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 13, 100])
def test_iqm_is_scipys_trimmed_mean(count):
    values = np.random.default_rng(count).normal(size=(3, count, 2)).astype(np.float32)
    expected = scipy.stats.trim_mean(values.astype(np.float64), 0.25, axis=1)
    np.testing.assert_allclose(st.iqm(values, axis=1), expected, rtol=1e-12)


def test_iqm_by_hand_and_with_nan():
    assert st.iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -90])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert np.isnan(st.iqm(np.array([1.0, 2, 3, np.nan])))


def test_normalise_by_hand():
    returns = np.array([[[0.0, 5.0]], [[3.0, 1.0]]])
    normalised = st.normalise(returns, np.array([0.0, 1.0]), np.array([10.0, 3.0]))
    np.testing.assert_allclose(normalised, [[[0.0, 0.5]], [[1.0, 0.0]]])
    assert np.isnan(st.normalise(np.ones(2), np.zeros(2), np.array([np.nan, 0.0]))).all()


def test_strata_of_seeds_with_different_tasks():
    def one(ids, value):
        shape = (len(ids), 2, 3)
        return Evaluation(
            np.full(shape, value, np.float32), np.array(ids), np.zeros(len(ids)), np.ones(len(ids))
        )

    joined = st.strata([one([5, 7], 1), one([7, 8, 9], 2)])
    assert joined.task_ids.tolist() == [5, 7, 7, 8, 9]
    assert joined.training_seeds.tolist() == [0, 0, 1, 1, 1]
    assert joined.returns.shape == (5, 2, 3)
    assert joined.has_bounds
    assert not joined._replace(optimal=np.array([1, 1, 1, 1, np.nan])).has_bounds
    with pytest.raises(ValueError, match="no evaluation"):
        st.strata([])
    with pytest.raises(ValueError, match="as many seeds and episodes"):
        st.strata([one([1], 0), Evaluation(np.zeros((1, 2, 4)), np.array([1]), np.zeros(1), np.ones(1))])
    with pytest.raises(ValueError, match="3 task ids"):
        st.strata([Evaluation(np.zeros((2, 2, 4)), np.arange(3), np.zeros(2), np.ones(2))])


def test_bootstrap_of_two_values_is_the_binomial():
    # One stratum with the seeds 0 and 1: the mean of a resample is 0, 1/2 or 1 with probabilities 1/4, 1/2,
    # 1/4.
    drawn = []

    def mean(x):
        drawn.append(np.atleast_1d(x.mean(-1)))
        return x.mean(-1)

    estimate = st.stratified_bootstrap(np.array([[0.0, 1.0]]), mean, resamples=40_000)
    values, counts = np.unique(drawn[0], return_counts=True)
    np.testing.assert_allclose(values, [0, 0.5, 1])
    np.testing.assert_allclose(counts / 40_000, [0.25, 0.5, 0.25], atol=0.01)
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_bootstrap_draws_within_strata():
    # Strata that are far apart, with no spread inside: nothing to draw differently, so no width.
    values = np.repeat(np.array([[0.0], [10.0], [20.0], [30.0]]), 6, axis=1)
    estimate = st.stratified_bootstrap(values)
    assert (estimate.value, estimate.low, estimate.high) == (15.0, 15.0, 15.0)


def test_bootstrap_interval_is_the_normal_one_for_many_seeds():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(4, 400)) + np.arange(4)[:, None]
    estimate = st.stratified_bootstrap(values, st.mean, resamples=4000)
    # Standard error of a stratified mean: only the spread within strata counts.
    error = np.sqrt(values.var(axis=1).mean() / values.size)
    np.testing.assert_allclose(estimate.value, values.mean())
    np.testing.assert_allclose(estimate.high - estimate.low, 2 * 1.96 * error, rtol=0.05)


def test_bootstrap_of_curves_is_seeded_and_split_evenly_over_memory(monkeypatch):
    values = np.random.default_rng(0).normal(size=(3, 5, 7))
    whole = st.stratified_bootstrap(values, resamples=300)
    assert whole.value.shape == whole.low.shape == (7,)
    np.testing.assert_allclose(whole.value, scipy.stats.trim_mean(values.reshape(15, 7), 0.25))
    assert np.all((whole.low <= whole.value) & (whole.value <= whole.high))
    monkeypatch.setattr(st, "_ELEMENTS", 1000)
    np.testing.assert_array_equal(st.stratified_bootstrap(values, resamples=300), whole)
    other = st.stratified_bootstrap(values, resamples=300, seed=1)
    assert not np.array_equal(other.low, whole.low)


def test_episodes_to_area_and_regret_by_hand():
    curve = np.array([0.1, 0.5, 0.95, 0.7, 0.99])
    assert st.episodes_to(curve) == 3
    assert st.episodes_to(curve, 0.995) is None
    assert st.area_under_curve(curve) == pytest.approx(0.648)
    # 2 - 1, 5 - 5, 8 - 10; the fourth episode has no reference.
    assert st.cumulative_regret(np.array([[1.0, 5, 10, 3]]), np.array([2.0, 5, 8])).tolist() == [-1.0]


def test_dead_strata_are_under_a_fifth():
    assert st.dead(np.array([[0.0, 0.5], [0.1, 0.25], [0.2, 0.2]])).tolist() == [False, True, False]
