"""Frames of rooms, what is said of them, and how models of them are judged."""

import importlib.util
import json

import numpy as np
import pytest
from limbeck.envs.facts import OBJECTS, FactArrays, to_facts
from limbeck.envs.goals import Goal, is_true, parse_goal, split_goals
from limbeck.rewards.caption_data import CaptionConfig, CaptionedFrames, walked_frames
from limbeck.rewards.card import load_card
from limbeck.rewards.clip_reward import clip_reward, family_goals
from limbeck.rewards.contract import RewardError
from limbeck.rewards.frames import DEMONSTRATION, NEAR_MISS, RESET, WALK, join
from limbeck.rewards.room_frames import (
    goal_truth,
    render_frames,
    room_frames,
)


CAPTIONS = CaptionConfig(episodes=12, steps=20)


@pytest.fixture(scope="module")
def walked():
    return walked_frames(CAPTIONS, CAPTIONS.episodes)


@pytest.fixture(scope="module")
def judged():
    return room_frames("lift", episodes=8, steps=20, size=6, objects=5, seed=0, split=2)


def test_walks_are_whole_episodes_of_every_family(walked) -> None:
    assert walked.symbols.shape == (3 * 12 * 20, 7, 7, 3) and walked.symbols.dtype == np.uint8
    assert (walked.episode == np.repeat(np.arange(36), 20)).all()
    assert (walked.time == np.tile(np.arange(20), 36)).all()
    assert (walked.stratum == WALK).all()
    other = walked_frames(CAPTIONS, CAPTIONS.episodes, split=1)
    same = walked_frames(CAPTIONS, CAPTIONS.episodes)
    np.testing.assert_array_equal(same.symbols, walked.symbols)
    assert (other.symbols != walked.symbols).any()


def test_strata(judged) -> None:
    """First frames are alone in their episode; demonstrations end with their goal held, near misses never do."""
    names, counts = np.unique(judged.stratum, return_counts=True)
    assert set(names) >= {RESET, WALK, DEMONSTRATION}
    assert dict(zip(names, counts))[WALK] == 8 * 20 and dict(zip(names, counts))[RESET] == 8
    assert (judged.time[judged.stratum == RESET] == 0).all()
    for episode in np.unique(judged.episode):
        rows = judged.episode == episode
        assert len(set(judged.stratum[rows])) == 1
        held = judged.facts.holding[rows]
        if judged.stratum[rows][0] in (DEMONSTRATION, NEAR_MISS):
            assert held[-1] < len(OBJECTS)
            assert (held[:-1] != held[-1]).all()


def test_the_truth_of_goals_is_that_of_the_facts(walked) -> None:
    rows = np.arange(0, len(walked.time), 37)
    facts = FactArrays(*(part[rows] for part in walked.facts))
    for family in ("find", "lift", "place"):
        goals = family_goals(family)[::7]
        truth = goal_truth(goals, facts)
        one_by_one = [
            [is_true(goal, to_facts(FactArrays(*(part[i] for part in facts)))) for goal in goals]
            for i in range(len(rows))
        ]
        np.testing.assert_array_equal(truth, one_by_one)


def test_goals_of_a_family() -> None:
    """Every object once, and every pair once."""
    assert [goal.objects for goal in family_goals("find")] == [(thing,) for thing in OBJECTS]
    assert {goal.predicate for goal in family_goals("lift")} == {"hold"}
    assert len({frozenset(goal.objects) for goal in family_goals("place")}) == 18 * 17 // 2
    with pytest.raises(RewardError, match="find, lift, place, open_common, open_diverse, got 'fetch'"):
        family_goals("fetch")


def test_batches(walked) -> None:
    """The same for the same number; each text true of its image; hard negatives false of some; no held-out names."""
    data = CaptionedFrames(walked, CAPTIONS, 64)
    batch, again = data(3), data(3)
    np.testing.assert_array_equal(batch.frames, again.frames)
    assert list(batch.texts) == list(again.texts) != list(data(4).texts)
    assert batch.frames.shape == (64, 56, 56, 3) and batch.frames.dtype == np.uint8
    assert 64 < len(batch.texts) <= 128
    assert batch.truth.shape == (len(batch.texts), 64)
    assert batch.truth.diagonal().all()
    assert not batch.truth[64:].all(1).any()
    for step in range(
        20
    ):  # A negative with the words of a caption in another order is false of that one's image.
        texts, truth = data(step).texts, data(step).truth
        words = [sorted(text.split()) for text in texts]
        for j in range(64, len(texts)):
            own = [i for i in range(64) if words[i] == words[j] and texts[i] != texts[j]]
            assert not own or not truth[j, own].all(), texts[j]
    _, held_out = split_goals(CAPTIONS.seed, CAPTIONS.held_out)
    texts = [text for step in range(10) for text in data(step).texts[:64]]
    for color, kind in held_out:
        assert not any(f"{color} {kind}" in text for text in texts)
    assert any(
        f"{color} {kind}" in text for text in texts for color, kind in [sorted(set(OBJECTS) - held_out)[0]]
    )
    beside = [
        text for text in texts if any(words in text for words in ("next to", "beside", "adjacent", "put a"))
    ]
    assert 0.3 < len(beside) / len(texts) < 0.6  # 0.4, and some of what is said about anything.
    about_hands = [text for text in texts if "pick up" in text or "in hand" in text or "holding a" in text]
    assert len(about_hands) > 0.18 * len(texts)


class Truthful:
    """An encoder that knows the truth: it finds the frame's facts again and has a direction for each goal."""

    def __init__(self, frames, wrong: float = 0.0):
        self._goals = [*family_goals("find"), *family_goals("lift"), *family_goals("place")]
        truth = goal_truth(self._goals, frames.facts).astype(float)
        flipped = np.random.default_rng(0).random(truth.shape) < wrong
        self._by_picture = {
            picture.tobytes(): row
            for picture, row in zip(render_frames(frames.symbols), np.where(flipped, 1 - truth, truth))
        }

    def encode_frames(self, frames):
        return np.stack([self._by_picture[frame.tobytes()] for frame in frames])

    def encode_goals(self, texts):
        places = []
        for text in texts:
            goal = parse_goal(text)
            turned = (
                Goal("next_to", goal.other_color, goal.other_kind, goal.color, goal.kind)
                if goal.predicate == "next_to"
                else goal
            )
            places.append(self._goals.index(goal if goal in self._goals else turned))
        return np.eye(len(self._goals))[places]


def test_episodes_of_two_sets_are_told_apart() -> None:
    one, other = (walked_frames(CaptionConfig(episodes=1, steps=4), 1, split=split) for split in (0, 1))
    both = join(one, other)
    assert both.episode.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4
    np.testing.assert_array_equal(both.symbols[12:], other.symbols)
    np.testing.assert_array_equal(both.facts.floor[12:], other.facts.floor)


def test_models_are_compared_by_the_truth() -> None:
    pytest.importorskip("torch")
    from limbeck.rewards.ladder import model_card
    from limbeck.rewards.room_comparison import compare
    from limbeck.rewards.worlds import world

    frames = walked_frames(CaptionConfig(episodes=60, steps=20), 60, split=1)
    known = compare(Truthful(frames), frames, CAPTIONS)
    assert known["find.train.state"]["value"] == known["lift.train.imperative"]["value"] == 1.0
    assert known["place.swapped"] == {"value": 1.0, "ci": [1.0, 1.0]}
    noisy = compare(Truthful(frames, wrong=0.3), frames, CAPTIONS)
    assert noisy["find.train.state"]["value"] < 0.5
    assert noisy["place.swapped"]["value"] < 0.95
    from limbeck.rewards.clip_training import ClipTrainConfig

    card = model_card(world("rooms"), "xxs", CAPTIONS, ClipTrainConfig(size="xxs"), known)
    assert "| place.swapped | 1.000 (1.000 to 1.000) |" in card and "| captions.held_out | 3 |" in card


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed")
def test_train_and_judge_by_the_command(tmp_path, capsys) -> None:
    """A model that has learned nothing yet: its card rewards no goal, or the recheck would say so."""
    from limbeck.launchers.command_line import main

    options = ["--captions.episodes", "4", "--captions.steps", "10", "--steps", "3", "--batch", "16"]
    train = ["rewards", "train", "--out", str(tmp_path / "clips"), "--sizes", "xxs", *options]
    assert main(train) == 0
    assert "place.swapped" in capsys.readouterr().out
    scores = json.loads((tmp_path / "clips" / "xxs" / "scores.json").read_text())
    assert 0 <= scores["lift.train.state"]["value"] <= 1
    assert "captions.swaps" in (tmp_path / "clips" / "xxs" / "README.md").read_text()
    assert main([*train, "--captions.held-out", "4"]) == 2
    assert "other captions (held_out)" in capsys.readouterr().err
    name = "limbeck.rewards.clip_reward:clip_reward"
    about = ["--arguments", "model", f"local-dir:{tmp_path / 'clips' / 'xxs'}", "family", "lift"]
    where = ["--out", str(tmp_path / "report"), "--episodes", "8", "--steps", "10"]
    walked = walked_frames(CaptionConfig(episodes=2, steps=7), 2, split=5).symbols.reshape(6, 7, 7, 7, 3)
    np.savez(tmp_path / "plays.npz", symbols=walked)
    judge = ["rewards", "evaluate", name, *about, *where, "--plays", str(tmp_path / "plays.npz")]
    assert main([*judge, "--min-positives", "1"]) == 0
    printed = capsys.readouterr().out
    assert "random walk" in printed and "on policy" in printed and "never rewarded" in printed
    card = tmp_path / "report" / "card.json"
    assert [len(entry.goals) for entry in load_card(card).thresholds] == [1] * 18
    assert main([*judge, "--min-positives", "1", "--pooled"]) == 0
    assert sorted(len(entry.goals) for entry in load_card(card).thresholds) == [3, 15]
    np.savez(tmp_path / "plays.npz", symbols=walked[..., :2])
    assert main(judge) == 2
    assert "are uint8 [episodes, steps, 7, 7, 3], got uint8 [6, 7, 7, 7, 2]" in capsys.readouterr().err
    assert (tmp_path / "report" / "report.html").exists()
    # The card belongs to this model: another head is refused, the same one is taken.
    assert main(["rewards", "check", name, *about, "card", str(tmp_path / "report" / "card.json")]) == 0
    # Another process finds on disk what this one has encoded.
    model, disk = f"local-dir:{tmp_path / 'clips' / 'xxs'}", str(tmp_path / "cache")
    rewards = [clip_reward(model, "lift", cache_directory=disk) for _ in range(2)]
    frames = np.random.default_rng(0).integers(0, 256, (5, 56, 56, 3), np.uint8)
    np.testing.assert_array_equal(*(reward.embed(frames) for reward in rewards))
    assert [reward.encoder.stats().made for reward in rewards] == [5, 0]
    wrong = [*about, "head", "softmax", "card", str(tmp_path / "report" / "card.json")]
    capsys.readouterr()
    assert main(["rewards", "check", name, *wrong]) == 2
    assert "head" in capsys.readouterr().err
