"""First hits: hand-made episodes and a brute-force walk over random ones."""

import numpy as np
import pytest
from limbeck.rewards.bootstrap import Bootstrap
from limbeck.rewards.hits import false_success, first_hit_precision, first_hits
from limbeck.rewards.pairs import Pairs


FEW = Bootstrap(resamples=50)


def episodes(*rows):
    """Pairs of one goal: an episode is (scores by frame, truth by frame) as strings of 0 and 1."""
    scores, truth, ids, steps = [], [], [], []
    for i, (score, true) in enumerate(rows):
        scores += [float(x) for x in score]
        truth += [x == "1" for x in true]
        ids += [i] * len(score)
        steps += range(len(score))
    return Pairs.of(np.array(scores)[:, None], np.array(truth)[:, None], ids, steps, ["a"])


def test_first_hits_by_hand():
    pairs = episodes(
        ("0010", "0010"),  # on the spot
        ("0001", "0100"),  # two steps late
        ("0100", "0010"),  # one step early: wrong
        ("0000", "0100"),  # never
        ("0101", "0001"),  # the first hit is wrong, the second does not matter
    )
    found = first_hits(pairs, 0.5)
    assert found.first.tolist() == [2, 3, 1, -1, 1]
    assert found.right.tolist() == [True, False, False, False, False]
    assert found.frames.tolist() == [4] * 5
    assert first_hits(pairs, 0.5, tolerance=1).right.tolist() == [True, False, False, False, False]
    assert first_hits(pairs, 0.5, tolerance=2).right.tolist() == [True, True, False, False, False]
    result = first_hit_precision(pairs, 0.5, 2, FEW)
    assert (result.precision.value, result.hits, result.without) == (0.5, 4, 1)
    with pytest.raises(ValueError, match="tolerance"):
        first_hits(pairs, 0.5, -1)
    none = first_hit_precision(pairs, 2.0, 0, FEW)
    assert np.isnan(none.precision.value)
    assert (none.hits, none.without) == (0, 5)


def test_a_success_of_the_episode_before_does_not_count():
    pairs = episodes(("0", "1"), ("1", "0"))
    assert first_hits(pairs, 0.5, tolerance=5).right.tolist() == [False, False]


def walk(scores, truth, ids, steps, thresholds, tolerance):
    """First hits frame by frame: (hit position, right, frames) by episode and goal."""
    result = {}
    for episode in sorted(set(ids.tolist())):
        rows = sorted(np.flatnonzero(ids == episode), key=lambda i: steps[i])
        for goal in range(scores.shape[1]):
            first, right = -1, False
            for position, row in enumerate(rows):
                if scores[row, goal] >= thresholds[goal]:
                    first = position
                    near = [i for i in rows if steps[row] - tolerance <= steps[i] <= steps[row]]
                    right = any(truth[i, goal] for i in near)
                    break
            result[episode, goal] = (first, right, len(rows))
    return result


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_against_a_walk_over_shuffled_frames_with_gaps(tolerance):
    rng = np.random.default_rng(tolerance)
    ids = np.repeat(np.arange(12), 9)
    steps = np.concatenate([rng.choice(20, 9, replace=False) for _ in range(12)])
    order = rng.permutation(len(ids))
    ids, steps = ids[order], steps[order]
    scores, truth = rng.random((len(ids), 4)), rng.random((len(ids), 4)) < 0.3
    thresholds = np.array([0.7, 0.9, np.inf, 0.5])
    pairs = Pairs.of(scores, truth, ids, steps, list("abcd"))
    found, expected = (
        first_hits(pairs, thresholds, tolerance),
        walk(scores, truth, ids, steps, thresholds, tolerance),
    )
    got = {
        (int(e), int(g)): (int(f), bool(r), int(n))
        for e, g, f, r, n in zip(found.episode, found.goal, found.first, found.right, found.frames)
    }
    assert got == expected
    hits = [x for x in expected.values() if x[0] >= 0]
    precision = first_hit_precision(pairs, thresholds, tolerance, FEW).precision.value
    assert precision == pytest.approx(np.mean([x[1] for x in hits]))
    # Every episode is as long: nothing is censored before frame 9, and the estimate is a plain share.
    for within in (1, 4, 9):
        share = np.mean([0 <= first < within and not right for first, right, _ in expected.values()])
        assert false_success(pairs, thresholds, within, tolerance, FEW).value == pytest.approx(share)


def test_false_success_with_censoring_by_hand():
    pairs = episodes(
        ("1", "0"),  # wrong at frame 0
        ("0", "0"),  # ends after frame 0: censored
        ("01", "01"),  # right at frame 1
        ("01", "00"),  # wrong at frame 1
        ("000", "000"),
    )
    # At frame 0 five are at risk and one fails; at frame 1 three are left, one fails, one succeeds.
    assert false_success(pairs, 0.5, 1, 0, FEW).value == pytest.approx(1 / 5)
    assert false_success(pairs, 0.5, 2, 0, FEW).value == pytest.approx(1 / 5 + 4 / 5 * 1 / 3)
    assert false_success(pairs, 0.5, 3, 0, FEW).value == pytest.approx(1 / 5 + 4 / 5 * 1 / 3)
    # The last unit ends after frame 2 without a hit: nobody knows about frame 3.
    assert np.isnan(false_success(pairs, 0.5, 4, 0, FEW).value)
    with pytest.raises(ValueError, match="frames"):
        false_success(pairs, 0.5, 0)


def test_false_success_of_independent_frames():
    rng = np.random.default_rng(0)
    rate, length = 0.01, 64
    n = 600 * length
    pairs = Pairs.of(
        (rng.random((n, 1)) < rate) * 1.0,
        np.zeros((n, 1), bool),
        np.repeat(np.arange(600), length),
        np.tile(np.arange(length), 600),
        ["a"],
    )
    estimate = false_success(pairs, 0.5, length)
    assert estimate.low < 1 - (1 - rate) ** length < estimate.high
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * np.sqrt(0.475 * 0.525 / 600), rel=0.15)
