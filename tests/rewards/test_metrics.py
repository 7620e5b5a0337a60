"""Metrics against brute force over thresholds and against numbers worked out by hand."""

import numpy as np
import pytest
import scipy.integrate
from limbeck.rewards import metrics as m
from limbeck.rewards.bootstrap import Bootstrap, bootstrap, percentiles
from limbeck.rewards.pairs import Pairs


FEW = Bootstrap(resamples=50)


def random_pairs(seed=0, episodes=6, length=10, goals=3, digits=1, share=0.2):
    """Scores of few digits, so that many tie."""
    rng = np.random.default_rng(seed)
    n = episodes * length
    truth = rng.random((n, goals)) < share
    scores = np.clip(rng.normal(0.4, 0.2, (n, goals)) + 0.3 * truth, 0, 1).round(digits)
    return Pairs.of(
        scores,
        truth,
        np.repeat(np.arange(episodes), length),
        np.tile(np.arange(length), episodes),
        [f"goal {i}" for i in range(goals)],
    )


def brute_average_precision(scores, truth):
    """The definition, threshold by threshold."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        hit = scores >= threshold
        recall = (truth & hit).sum() / truth.sum()
        total += (recall - before) * (truth & hit).sum() / hit.sum()
        before = recall
    return total


def brute_partial_auroc(scores, truth, max_fpr):
    """Points of the ROC curve, joined by straight lines and integrated finely, then standardised."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        hit = scores >= threshold
        points.append(((hit & ~truth).sum() / (~truth).sum(), (hit & truth).sum() / truth.sum()))
    x, y = np.array(points).T
    # Corners of the curve are never missed: `interp` needs rising x, so each is moved by next to nothing.
    at = np.unique(np.concatenate([np.linspace(0, max_fpr, 200_001), x[x <= max_fpr]]))
    rising = x + np.arange(len(x)) * 1e-13
    area = scipy.integrate.trapezoid(np.interp(at, rising, y), at)
    least = max_fpr**2 / 2
    return 0.5 * (1 + (area - least) / (max_fpr - least))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [1, 6])
def test_ranking_against_brute_force(seed, digits):
    pairs = random_pairs(seed, digits=digits)
    expected = brute_average_precision(pairs.scores, pairs.truth)
    assert m.average_precision(pairs, FEW).value == pytest.approx(expected, abs=1e-12)
    for max_fpr in (0.01, 0.1, 1.0):
        expected = brute_partial_auroc(pairs.scores, pairs.truth, max_fpr)
        assert m.partial_auroc(pairs, max_fpr, FEW).value == pytest.approx(expected, abs=1e-4)


def test_average_precision_of_scikit_learns_example():
    # The example in scikit-learn's documentation of average_precision_score: 0.83.
    pairs = Pairs.of(
        [0.1, 0.4, 0.35, 0.8], np.array([False, False, True, True]), [0] * 4, range(4), ["a"], [0] * 4
    )
    # Rewarding from 0.8: precision 1, recall 1/2. From 0.35: precision 2/3, recall 1.
    assert m.average_precision(pairs, FEW).value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # ROC: (0, 1/2), (1/2, 1/2), (1/2, 1), (1, 1): area 3/4.
    assert m.partial_auroc(pairs, 1.0, FEW).value == pytest.approx(0.75)


def test_ranking_bounds():
    truth = np.array([[False], [True], [False], [True]])
    for scores, ap, auroc in ((truth * 1.0, 1.0, 1.0), (np.zeros((4, 1)), 0.5, 0.5)):
        pairs = Pairs.of(scores, truth, [0, 0, 1, 1], [0, 1, 0, 1], ["a"])
        assert m.average_precision(pairs, FEW).value == pytest.approx(ap)
        assert m.partial_auroc(pairs, 0.01, FEW).value == pytest.approx(auroc)
    nothing = Pairs.of(np.zeros((2, 1)), np.zeros((2, 1), bool), [0, 1], [0, 0], ["a"])
    assert np.isnan(m.average_precision(nothing, FEW).value)
    assert np.isnan(m.partial_auroc(nothing, 0.01, FEW).value)
    assert m.average_precision(nothing, FEW).defined == 0
    with pytest.raises(ValueError, match="max_fpr"):
        m.partial_auroc(nothing, 0.0)


def test_many_distinct_scores_give_exact_values_and_intervals_next_to_exact(monkeypatch):
    pairs = random_pairs(5, episodes=40, length=20, goals=5, digits=9)
    exact = m.average_precision(pairs), m.partial_auroc(pairs, 0.1)
    monkeypatch.setattr(m, "_LEVELS", 200)
    rounded = m.average_precision(pairs), m.partial_auroc(pairs, 0.1)
    for one, other in zip(exact, rounded):
        assert other.value == pytest.approx(one.value, abs=1e-12)
        assert other.low == pytest.approx(one.low, abs=5e-3)
        assert other.high == pytest.approx(one.high, abs=5e-3)
        assert (other.low, other.high) != (one.low, one.high)


def resample(pairs, rng):
    """One resample of whole episodes as pairs of its own, drawn by their rows."""
    rows = [
        np.flatnonzero(pairs.episode == e) for e in rng.integers(pairs.num_episodes, size=pairs.num_episodes)
    ]
    return np.concatenate(rows)


@pytest.mark.parametrize("name", ["average_precision", "precision", "recall", "fpr"])
def test_intervals_are_those_of_drawing_episodes_by_hand(name):
    pairs = random_pairs(1, episodes=30, digits=2)
    point = m.operating_point(pairs, 0.6, Bootstrap(4000))
    estimate, by_hand = {
        "average_precision": (
            m.average_precision(pairs, Bootstrap(4000)),
            brute_average_precision,
        ),
        "precision": (point.precision, lambda s, t: t[s >= 0.6].mean()),
        "recall": (point.recall, lambda s, t: (s >= 0.6)[t].mean()),
        "fpr": (point.false_positive_rate, lambda s, t: (s >= 0.6)[~t].mean()),
    }[name]
    assert estimate.value == pytest.approx(by_hand(pairs.scores, pairs.truth))
    rng = np.random.default_rng(7)
    draws = (resample(pairs, rng) for _ in range(1500))
    drawn = [by_hand(pairs.scores[rows], pairs.truth[rows]) for rows in draws]
    width = estimate.high - estimate.low
    np.testing.assert_allclose(
        np.quantile(drawn, [0.025, 0.975]), [estimate.low, estimate.high], atol=0.1 * width
    )


def test_intervals_are_wider_than_of_frames_where_episodes_are_alike():
    # Every frame of an episode is the same: 20 facts, not 2,000.
    rng = np.random.default_rng(0)
    hit = rng.random(20) < 0.5
    pairs = Pairs.of(
        np.repeat(hit, 100)[:, None] * 1.0,
        np.zeros((2000, 1), bool),
        np.repeat(np.arange(20), 100),
        np.tile(np.arange(100), 20),
        ["a"],
    )
    fpr = m.operating_point(pairs, 0.5).false_positive_rate
    p = hit.mean()
    assert fpr.high - fpr.low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 20), rel=0.1)


def test_coverage_of_the_interval():
    """Of 300 samples of 40 episodes the 90 % interval of recall holds the true 0.7 in about 90 %."""
    rng, inside = np.random.default_rng(3), 0
    for _ in range(300):
        rate = np.repeat(np.clip(rng.normal(0.7, 0.1, 40), 0, 1), 5)
        pairs = Pairs.of(
            (rng.random(200) < rate)[:, None] * 1.0,
            np.ones((200, 1), bool),
            np.repeat(np.arange(40), 5),
            np.tile(np.arange(5), 40),
            ["a"],
        )
        recall = m.operating_point(pairs, 0.5, Bootstrap(200, level=0.9)).recall
        inside += recall.low <= 0.7 <= recall.high
    assert 0.83 < inside / 300 < 0.95


def test_precision_recall_by_threshold():
    pairs = random_pairs(2)
    curve = m.precision_recall(pairs, settings=FEW)
    assert curve.thresholds.tolist() == np.unique(pairs.scores[pairs.truth]).tolist()
    for i, threshold in enumerate(curve.thresholds):
        point = m.operating_point(pairs, threshold, FEW)
        for one, other in zip(point, curve.points):
            np.testing.assert_allclose([x[i] for x in other], [float(x) for x in one])
    assert curve.points.recall.value[0] == 1
    beyond = m.precision_recall(pairs, [2.0, -1.0], FEW)
    assert beyond.thresholds.tolist() == [-1, 2]
    assert beyond.points.recall.value.tolist() == [1, 0]
    assert beyond.points.precision.value[0] == pytest.approx(pairs.truth.mean())
    assert np.isnan(beyond.points.precision.value[1])


def test_thresholds_by_goal():
    pairs = random_pairs(3)
    thresholds = np.array([0.5, np.inf, 0.7])
    hit = pairs.scores >= thresholds[pairs.goal]
    point = m.operating_point(pairs, thresholds, FEW)
    assert point.precision.value == pytest.approx(pairs.truth[hit].mean())
    assert not hit[pairs.goal == 1].any()
    for wrong in ([0.5, 0.5], [0.1, np.nan, 0.2]):
        with pytest.raises(ValueError, match="one threshold"):
            m.operating_point(pairs, wrong)


def test_reliability_by_hand():
    scores = [0.05, 0.15, 0.2, 0.95, 1.0, 0.5]
    truth = np.array([False, True, False, True, False, True])
    pairs = Pairs.of(scores, truth, [0, 0, 0, 1, 1, 1], [0, 1, 2] * 2, ["a"], [0] * 6)
    result = m.reliability(pairs, 5, FEW)
    assert result.counts.tolist() == [2, 1, 1, 0, 2]
    np.testing.assert_allclose(result.confidence, [0.1, 0.2, 0.5, np.nan, 0.975])
    np.testing.assert_allclose(result.frequency.value, [0.5, 0, 1, np.nan, 0.5])
    assert result.error.value == pytest.approx((2 * 0.4 + 0.2 + 0.5 + 2 * 0.475) / 6)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        m.reliability(Pairs.of([[1.5]], np.array([[True]]), [0], [0], ["a"]))


def test_epic_distance_is_that_of_pearson():
    pairs = random_pairs(4, digits=5)
    distances = []
    for goal in range(3):
        of = pairs.goal == goal
        rho = np.corrcoef(pairs.scores[of], pairs.truth[of])[0, 1]
        distances.append(np.sqrt(1 - rho) / np.sqrt(2))
    assert m.epic_distance(pairs, FEW).value == pytest.approx(np.mean(distances))
    truth = np.array([[True, False], [False, False], [False, False]])
    for scores, expected in ((5 + 1e-3 * truth, 0.0), (7 - truth, 1.0), (np.full((3, 2), 0.3), np.nan)):
        one = Pairs.of(scores, truth, [0, 0, 0], [0, 1, 2], ["a", "never"])
        np.testing.assert_allclose(m.epic_distance(one, FEW).value, expected, atol=1e-6)


def test_bootstrap_of_two_episodes_is_the_binomial():
    values = np.array([0.0, 1.0])
    drawn = []

    def mean(weights):
        drawn.extend((weights @ values / weights.sum(1)).tolist())
        return weights @ values / weights.sum(1)

    estimate = bootstrap(mean, 2, Bootstrap(40_000))
    assert estimate.value == 0.5
    _, counts = np.unique(drawn[1:], return_counts=True)
    np.testing.assert_allclose(counts / 40_000, [0.25, 0.5, 0.25], atol=0.01)
    assert (estimate.low, estimate.high, estimate.defined) == (0, 1, 1)
    again = bootstrap(mean, 2, Bootstrap(40_000))
    assert again == estimate
    with pytest.raises(ValueError, match="no episode"):
        bootstrap(mean, 0)
    with pytest.raises(ValueError, match="level"):
        bootstrap(mean, 2, Bootstrap(level=1.0))


def test_percentiles_leave_out_what_is_not_defined():
    low, high = percentiles(np.array([[0.0, np.nan, np.nan], [1.0, 2.0, np.nan]]), 0.5)
    np.testing.assert_allclose(low, [0.25, 2, np.nan])
    np.testing.assert_allclose(high, [0.75, 2, np.nan])


def test_pairs_of_both_forms_are_the_same():
    rng = np.random.default_rng(0)
    scores, truth = rng.random((6, 2)), rng.random((6, 2)) < 0.5
    episodes, steps = np.array(["b", "b", "a", "a", "c", "c"]), np.array([0, 1] * 3)
    wide = Pairs.of(scores, truth, episodes, steps, ["x", "y"])
    long = Pairs.of(
        scores.ravel(),
        truth.ravel(),
        np.repeat(episodes, 2),
        np.repeat(steps, 2),
        ["x", "y"],
        np.tile([0, 1], 6),
    )
    for name in ("scores", "truth", "goal", "episode", "step", "episode_ids"):
        np.testing.assert_array_equal(getattr(wide, name), getattr(long, name))
    assert wide.frame.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    part = wide.select(wide.episode != 0)
    assert part.episode_ids.tolist() == ["b", "c"]
    assert part.episode.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    "change, message",
    [
        ({"truth": np.zeros((2, 2))}, "boolean"),
        ({"truth": np.zeros((2, 1), bool)}, "shape of the scores"),
        ({"scores": np.full((2, 2), np.nan)}, "4 scores are not finite"),
        ({"episodes": [0]}, "as many episode ids"),
        ({"steps": [0.0, 1.0]}, "integers"),
        ({"steps": [3, 3]}, "episode 0 has step 3 twice"),
        ({"goals": ["x", "x"]}, "distinct"),
        ({"goals": ["x"]}, r"\[N, 1\]"),
        ({"goal": [0, 1]}, "goal ids with scores"),
        ({"scores": np.zeros(2), "truth": np.zeros(2, bool)}, "goal ids with scores"),
        ({"scores": np.zeros(2), "truth": np.zeros(2, bool), "goal": [0, 2]}, "from 0 to 1"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused(change, message):
    given = dict(
        scores=np.zeros((2, 2)), truth=np.zeros((2, 2), bool), episodes=[0, 0], steps=[0, 1], goals=["x", "y"]
    )
    with pytest.raises(ValueError, match=message):
        Pairs.of(**{**given, **change})
