"""Probes: they read what is there, report chance where nothing is, and average crops."""

import sys

import numpy as np
import pytest
from limbeck.encoders import TrainConfig
from limbeck.encoders.probes import Labelled, accuracy, all_slots_accuracy, linear, mlp, svm


RNG = np.random.default_rng(0)
CONFIG = TrainConfig(
    steps=300, learning_rate=1e-2, warmup_steps=10, clip_norm=None, steps_per_call=100, log_every=300
)
CENTRES = RNG.normal(size=(4, 6))


def classes(count, crops=None, noise=0.3, seed=1):
    """Points about four centres, some of them with several noisy crops."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=count)
    shape = (count, 6) if crops is None else (count, crops, 6)
    centres = CENTRES[labels] if crops is None else CENTRES[labels][:, None]
    return Labelled(100 + 50 * (centres + noise * rng.normal(size=shape)), labels)


def tags(count, seed):
    x = np.random.default_rng(seed).normal(size=(count, 3))
    return Labelled(x, np.stack([x[:, 0] > 0.5, x[:, 1] + x[:, 2] < 0, x[:, 2] > 1], axis=1))


def slots(count, seed):
    x = np.random.default_rng(seed).normal(size=(count, 3))
    return Labelled(
        x, np.stack([x[:, 0] > 0, (x[:, 1] > -0.4) + (x[:, 1] > 0.4) * 1, x[:, 2] > 0], axis=1) * 1
    )


def test_a_linear_probe_reads_classes():
    test = classes(300, seed=2)
    found = linear(classes(400), test, CONFIG)
    assert (found.metric, found.n) == ("accuracy", 300)
    assert found.score > 0.95
    train = classes(400).labels
    assert found.chance == np.mean(test.labels == np.bincount(train).argmax()) < 0.4
    assert found.score == accuracy(found.outputs, test.labels)
    again = linear(classes(400), test, CONFIG)
    np.testing.assert_array_equal(again.outputs, found.outputs)


def test_labels_that_features_do_not_tell_are_at_chance():
    rng = np.random.default_rng(5)
    shuffled = Labelled(classes(400).features, rng.integers(4, size=400))
    test = Labelled(classes(400, seed=2).features, rng.integers(4, size=400))
    found = linear(shuffled, test, CONFIG)
    assert abs(found.score - 0.25) < 0.07 and abs(found.chance - 0.25) < 0.07


def test_a_hidden_layer_reads_what_a_linear_map_cannot():
    def parity(count, seed):
        x = np.random.default_rng(seed).uniform(-1, 1, size=(count, 2))
        return Labelled(x, (x[:, 0] * x[:, 1] > 0).astype(int))

    train, test = parity(800, 0), parity(300, 1)
    assert linear(train, test, CONFIG).score < 0.65
    assert mlp(train, test, CONFIG, hidden=32).score > 0.9


def test_tags_are_judged_by_mean_average_precision():
    metrics = pytest.importorskip("sklearn.metrics")
    test = tags(300, 4)
    found = linear(tags(500, 3), test, CONFIG)
    assert found.metric == "mean average precision"
    assert found.score == pytest.approx(metrics.average_precision_score(test.labels, found.outputs))
    assert found.score > 0.95
    assert found.chance == pytest.approx(test.labels.mean())


def test_slots_must_all_be_right():
    test = slots(300, 6)
    found = linear(slots(600, 5), test, CONFIG)
    assert found.metric == "accuracy of all slots"
    assert found.outputs.shape == (300, 7)
    guesses = [found.outputs[:, a:b].argmax(axis=1) for a, b in ((0, 2), (2, 5), (5, 7))]
    hits = np.stack(guesses, axis=1) == test.labels
    assert found.score == pytest.approx(hits.all(axis=1).mean())
    assert found.score > 0.6 and found.chance < 0.25
    # By hand: two of three examples are right in both slots' maxima, one only in the first.
    scores = [np.array([[1, 0], [0, 1], [0, 1]]), np.array([[0, 0, 2], [3, 1, 0], [0, 1, 0]])]
    assert all_slots_accuracy(scores, [[0, 2], [1, 0], [1, 0]]) == pytest.approx(2 / 3)


def test_crops_are_trained_on_and_averaged():
    train, test = classes(200, crops=3, noise=1.5), classes(300, crops=8, noise=1.5, seed=2)
    found = linear(train, test, CONFIG)
    assert found.n == 300 and found.outputs.shape == (300, 4)
    one_each = linear(train, Labelled(test.features.reshape(-1, 6), np.repeat(test.labels, 8)), CONFIG)
    np.testing.assert_allclose(one_each.outputs.reshape(300, 8, 4).mean(axis=1), found.outputs, atol=1e-4)
    assert found.score > one_each.score + 0.1


def test_svm_chooses_c_on_the_validation_split():
    pytest.importorskip("sklearn")
    train, validation = classes(60, noise=0.8), classes(200, noise=0.8, seed=3)
    test = classes(300, crops=4, noise=0.8, seed=2)
    grid = (1e-6, 1e-3, 1e-1)
    found = svm(train, validation, test, grid)
    alone = {c: svm(train, validation, validation, (c,)).score for c in grid}
    assert found.chosen["C"] == max(grid, key=lambda c: alone[c])
    assert found.chosen["validation_accuracy"] == max(alone.values()) > alone[1e-6]
    assert found.score > 0.8 and found.n == 300
    two = Labelled(train.features, (train.labels > 1).astype(int))
    same = svm(two, two, two, (1e-2,))
    assert same.outputs.shape == (60, 2) and same.score > 0.7


def test_svm_without_scikit_learn_says_what_to_install(monkeypatch):
    for name in ("sklearn", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.svm"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'limbeck\[probes\]'"):
        svm(classes(8), classes(8), classes(8))


def test_bad_labels_and_features_are_refused():
    good = classes(8)
    with pytest.raises(ValueError, match=r"alike in every split; got int64 \[8\], bool \[8, 3\]"):
        linear(good, Labelled(good.features, np.zeros((8, 3), bool)), CONFIG)
    with pytest.raises(ValueError, match=r"got float64 \[8\]"):
        linear(Labelled(good.features, np.zeros(8)), Labelled(good.features, np.zeros(8)), CONFIG)
    with pytest.raises(ValueError, match="counted from 0"):
        linear(Labelled(good.features, good.labels - 4), good, CONFIG)
    with pytest.raises(ValueError, match=r"not \[8, 6\] and \[7\]"):
        linear(Labelled(good.features, good.labels[:7]), good, CONFIG)
    with pytest.raises(ValueError, match="for classes"):
        pytest.importorskip("sklearn")
        svm(slots(8, 0), slots(8, 0), slots(8, 0))
