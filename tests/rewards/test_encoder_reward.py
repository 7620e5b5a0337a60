"""Encoders under heads: callables, trajectory scorers, ensembles, and what their versions say."""

import numpy as np
import pytest
from limbeck.agents import Trajectory
from limbeck.envs import LAST, MID
from limbeck.rewards import (
    ChanceClippedHead,
    CosineHead,
    EncoderReward,
    EnsembleReward,
    PooledHead,
    PotentialDifference,
    RewardError,
    SequenceReward,
    SoftmaxHead,
    form_of,
    lower_bound,
)

from .toy_models import ColourEncoder, RedReward, some_frames


GOALS = ("red", "green", "blue")
HEAD = SoftmaxHead(negatives=GOALS, temperature=0.1)


def by_hand(frames, goals, temperature=0.1):
    encoder = ColourEncoder()
    cosines = encoder.encode_frames(frames).astype(float) @ encoder.encode_goals(GOALS).T
    powers = np.exp(cosines / temperature)
    return (powers / powers.sum(1, keepdims=True))[range(len(frames)), [GOALS.index(goal) for goal in goals]]


@pytest.mark.parametrize("count", [1, 3, 8, 1500])
def test_rewards_of_any_number_of_frames(count):
    reward = EncoderReward(ColourEncoder(), HEAD, GOALS)
    assert form_of(reward) == "callable"
    frames = some_frames(count)
    goals = [GOALS[i % 3] for i in range(count)]
    rewards = reward(frames, goals)
    assert rewards.dtype == np.float32 and rewards.shape == (count,)
    np.testing.assert_allclose(rewards, by_hand(frames, goals), rtol=1e-4)
    np.testing.assert_array_equal(rewards, reward.score(reward.embed(frames), goals))


def test_goals_are_encoded_once():
    encoder = ColourEncoder()
    asked = []
    encode = encoder.encode_goals
    encoder.encode_goals = lambda texts: asked.append(list(texts)) or encode(texts)
    reward = EncoderReward(encoder, HEAD, GOALS)
    for _ in range(3):
        reward(some_frames(4), ["red"] * 4)
    assert asked == [list(GOALS)]


def test_a_goal_outside_is_refused():
    reward = EncoderReward(ColourEncoder(), HEAD, GOALS)
    with pytest.raises(
        RewardError, match="made for 3 goals and 'gren' is none of them; did you mean 'green'"
    ):
        reward(some_frames(2), ["red", "gren"])
    with pytest.raises(RewardError, match="2 frames, but 1 goals"):
        reward(some_frames(2), ["red"])
    with pytest.raises(RewardError, match="float32"):
        reward(some_frames(2).astype(np.float32), ["red"] * 2)


def test_name_and_version():
    def version(encoder=None, head=HEAD, goals=GOALS):
        return EncoderReward(encoder or ColourEncoder(), head, goals).version

    assert version() == version(ColourEncoder())
    others = [
        version(ColourEncoder("colour-2")),
        version(head=SoftmaxHead(negatives=GOALS[:2], temperature=0.1)),
        version(head=SoftmaxHead(negatives=dict.fromkeys(GOALS, GOALS), temperature=0.1)),
        version(head=SoftmaxHead(negatives=GOALS, temperature=0.2)),
        version(head=SoftmaxHead(negatives=GOALS, temperature=0.1, threshold=0.5)),
        version(head=SoftmaxHead(negatives=GOALS, temperature=0.1, nulls=("nothing",))),
        version(head=ChanceClippedHead(negatives=GOALS, temperature=0.1)),
        version(head=CosineHead()),
        version(goals=GOALS[:2]),
    ]
    sequences = [
        SequenceReward(ColourEncoder(), PooledHead(head, frames=2), GOALS).version
        for head in (CosineHead(), CosineHead(threshold=0.5))
    ]
    assert len({version(), *others, *sequences}) == 12
    assert EncoderReward(ColourEncoder(), HEAD, GOALS).name == "colour/SoftmaxHead"
    assert EncoderReward(ColourEncoder(), HEAD, GOALS, name="mine").name == "mine"


class Undescribed:
    def parameters(self, goals, encode):
        return encode(goals)

    def __call__(self, parameters, frames, goal):
        return frames[:, 0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: EncoderReward(RedReward(), HEAD, GOALS), "a head takes an encoder"),  # pyright: ignore
        (lambda: EncoderReward(ColourEncoder(), HEAD, ()), "goals is empty"),
        (lambda: EncoderReward(ColourEncoder(), HEAD, ("red", "blue", "red")), "'red' more than once"),
        (lambda: EncoderReward(ColourEncoder(), HEAD, "red"), "got the text 'red'"),
        (lambda: EncoderReward(ColourEncoder(), Undescribed(), GOALS), "frozen dataclass"),
        (lambda: EncoderReward(ColourEncoder(), PooledHead(HEAD), GOALS), "goes into SequenceReward"),  # pyright: ignore
        (lambda: SequenceReward(ColourEncoder(), HEAD, GOALS), "goes into EncoderReward"),  # pyright: ignore
    ],
)
def test_what_is_wrong_is_said(make, match):
    with pytest.raises(RewardError, match=match):
        make()


def trajectory(image=lambda frames: {"image": frames}):
    """Five steps: the episode that it begins in ends with the third, the next one goes on."""
    frames = some_frames(7)
    step_type = np.asarray([MID, MID, LAST, MID, MID], np.int32)
    before, after = frames[[0, 1, 2, 4, 5]], frames[[1, 2, 3, 5, 6]]
    zeros = np.zeros(5, np.float32)
    return frames, Trajectory(image(before), zeros, zeros, zeros, step_type, image(after))


@pytest.mark.parametrize("image", [lambda frames: {"image": frames}, lambda frames: frames])
def test_differences_of_a_trajectory(image):
    reward = SequenceReward(ColourEncoder(), PotentialDifference(HEAD, gamma=0.9), GOALS)
    assert form_of(reward) == "scorer" and reward.range == (-1.0, 0.9)
    frames, rows = trajectory(image)
    p = by_hand(frames, ["green"] * 7)
    expected = [0.9 * p[k] - p[k - 1] for k in (1, 2, 3, 5, 6)]
    scores = reward.score(rows, "green")
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_pooling_of_a_trajectory_stays_within_episodes():
    reward = SequenceReward(ColourEncoder(), PooledHead(CosineHead(), frames=3), GOALS)
    frames, rows = trajectory()
    encoder = ColourEncoder()
    vectors, goal = encoder.encode_frames(frames).astype(float), encoder.encode_goals(["blue"])[0]
    expected = []
    for window in ([0, 1], [0, 1, 2], [1, 2, 3], [4, 5], [4, 5, 6]):
        pooled = vectors[window].mean(0)
        expected.append((1 + pooled @ goal / np.linalg.norm(pooled)) / 2)
    np.testing.assert_allclose(reward.score(rows, "blue"), expected, rtol=1e-5)


def test_a_scorer_says_what_it_misses():
    reward = SequenceReward(ColourEncoder(), PooledHead(CosineHead()), GOALS)
    _, rows = trajectory(lambda frames: {"symbols": frames})
    with pytest.raises(RewardError, match="reads frames from 'image'; the observations have symbols"):
        reward.score(rows, "red")
    with pytest.raises(RewardError, match="none of them"):
        reward.score(trajectory()[1], "yellow")


def test_the_lower_bound_of_an_ensemble():
    scores = np.asarray([[0.9, 0.5, 0.1], [0.9, 0.1, 0.1], [0.9, 0.9, 0.4]], np.float32)
    expected = [0.9, 0.5 - 2 * np.std([0.5, 0.1, 0.9]), max(0.2 - 2 * np.std([0.1, 0.1, 0.4]), 0)]
    assert expected[1] < 0
    np.testing.assert_allclose(lower_bound(scores, 2.0), np.maximum(expected, 0), atol=1e-6)
    np.testing.assert_allclose(lower_bound(scores, 0.0), [0.9, 0.5, 0.2], rtol=1e-6)


def test_an_ensemble():
    models = [EncoderReward(ColourEncoder(), head, ("red", "green")) for head in (HEAD, CosineHead())]
    models.append(RedReward())
    frames, goals = some_frames(5), ["red", "green", "red", "red", "green"]
    scores = np.stack([model(frames, goals) for model in models]).astype(float)
    ensemble = EnsembleReward(models, deviations=0.5)
    expected = scores.mean(0) - 0.5 * scores.std(0)
    np.testing.assert_allclose(ensemble(frames, goals), expected, rtol=1e-5)
    beta = float(np.sort(expected)[2]) + 1e-4
    decided = EnsembleReward(models, deviations=0.5, threshold=beta)
    np.testing.assert_array_equal(decided(frames, goals), expected > beta)
    assert (
        form_of(ensemble) == "callable"
        and ensemble.name == "ensemble(colour/SoftmaxHead, colour/CosineHead, red)"
    )
    assert len({ensemble.version, decided.version, EnsembleReward(models[:2], deviations=0.5).version}) == 3
    with pytest.raises(RewardError, match="at least two"):
        EnsembleReward(models[:1])
    with pytest.raises(RewardError, match="are callables"):
        EnsembleReward([ColourEncoder(), ColourEncoder()])  # pyright: ignore
