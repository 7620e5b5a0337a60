"""What a card says of first hits: measured on other episodes, kept in the file, and absent in older ones."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from limbeck.rewards import (
    Calibration,
    CalibrationError,
    CardHits,
    Pairs,
    load_card,
    save_card,
    with_first_hits,
)
from limbeck.rewards.card import Threshold


CARD = Calibration(
    fingerprint="abc", head={}, target=0.01, delta=0.05, unit="frame", min_positives=1,
    thresholds=(
        Threshold(name="go", goals=("go",), positives=9, negatives=9, trials=9, prevalence=0.5, threshold=0.5),
        Threshold(name="stay", goals=("stay",), positives=0, negatives=9, trials=9, prevalence=0.5, reason="few"),
    ),
    episodes=("a", "b"),
)  # fmt: skip


def pairs(episodes: list[str]) -> Pairs:
    """Three frames an episode: the second is rewarded for "go", and true in all but the last episode."""
    scores = np.tile([[0.1, 0.9], [0.8, 0.9], [0.9, 0.9]], (len(episodes), 1))
    truth = np.zeros((3 * len(episodes), 2), bool)
    truth[1::3, 0] = np.arange(len(episodes)) < len(episodes) - 1
    truth[2::3, 0] = True  # A frame after the first hit, which changes nothing.
    return Pairs.of(scores, truth, np.repeat(episodes, 3), np.tile(range(3), len(episodes)), ("go", "stay"))


def test_first_hits_and_their_exact_interval(tmp_path):
    card = with_first_hits(CARD, pairs([f"c{i}" for i in range(20)]))
    exact = scipy.stats.binomtest(19, 20).proportion_ci(0.95, "exact")
    assert card.first_hits is not None and (card.first_hits.hits, card.first_hits.right) == (20, 19)
    np.testing.assert_allclose((card.first_hits.low, card.first_hits.high), tuple(exact), rtol=1e-9)
    save_card(card, tmp_path / "card.json")
    assert load_card(tmp_path / "card.json") == card
    older = json.loads(CARD.to_json())
    del older["first_hits"]  # As before cards had them.
    assert Calibration.from_json(json.dumps(older)) == CARD


def test_episodes_that_were_calibrated_on_are_refused():
    with pytest.raises(CalibrationError, match=r"1 episodes of this split were calibrated on \(b"):
        with_first_hits(CARD, pairs(["b", "c"]))


def test_a_damaged_interval_is_refused():
    wrong = dataclasses.replace(CARD, first_hits=CardHits(hits=3, right=2, low=0.9, high=0.2, delta=0.05))
    with pytest.raises(CalibrationError, match="first hits"):
        Calibration.from_json(wrong.to_json())
