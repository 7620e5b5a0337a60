"""Heads against NumPy by hand, under jit and vmap."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.rewards import (
    ChanceClippedHead,
    CosineHead,
    GoalBaselineHead,
    PooledHead,
    PotentialDifference,
    RewardError,
    SigmoidHead,
    SoftmaxHead,
    family_negatives,
    sample_negatives,
)

from .toy_models import unit


GOALS = ("hold a red ball", "hold a blue key", "face a red ball")
FAMILY = {
    GOALS[0]: (GOALS[1], GOALS[0], "hold a green box"),
    GOALS[1]: (GOALS[0],),
    GOALS[2]: ("face a wall", "face a blue key"),
}
TEXTS = {*GOALS, *(text for texts in FAMILY.values() for text in texts), "nothing", "a room", "a wall"}
VECTORS = dict(zip(sorted(TEXTS), unit(np.random.default_rng(1).normal(size=(len(TEXTS), 5)))))
FRAMES = unit(np.random.default_rng(6).normal(size=(6, 5)))
GOAL = np.asarray([0, 1, 2, 2, 0, 1], np.int32)


def encode(texts):
    return np.stack([VECTORS[text] for text in texts])


def run(head, frames=FRAMES, goal=GOAL, *more):
    return np.asarray(jax.jit(head)(head.parameters(GOALS, encode), frames, goal, *more))


def cosine(i, text):
    return float(FRAMES[i] @ VECTORS[text])


def softmax(i, texts, temperature):
    """The probability of the first of some texts."""
    powers = [np.exp(cosine(i, text) / temperature) for text in texts]
    return powers[0] / sum(powers)


@pytest.mark.parametrize("clipped", [False, True])
def test_softmax_with_a_list_per_goal(clipped):
    head = (ChanceClippedHead if clipped else SoftmaxHead)(
        negatives=FAMILY, nulls=("nothing",), temperature=0.5
    )
    # By hand: without the goal itself, with the null at the end; so 3, 3 and 4 texts.
    texts = [
        [GOALS[0], GOALS[1], "hold a green box", "nothing"],
        [GOALS[1], GOALS[0], "nothing"],
        [GOALS[2], "face a wall", "face a blue key", "nothing"],
    ]
    assert [list(head.candidates(goal)) for goal in GOALS] == texts
    places, goals = np.repeat(np.arange(6), 3), np.tile(np.arange(3, dtype=np.int32), 6)
    expected = np.asarray([softmax(i, texts[goal], 0.5) for i, goal in zip(places, goals)])
    if clipped:
        expected = np.maximum(expected - np.asarray([1 / len(texts[goal]) for goal in goals]), 0)
        assert 0.0 in expected and all(expected[goals == goal].max() > 0 for goal in range(3))
    np.testing.assert_allclose(run(head, FRAMES[places], goals), expected, rtol=1e-5, atol=1e-6)


def test_softmax_with_one_list_for_all():
    head = SoftmaxHead(negatives=[GOALS[2], GOALS[0], GOALS[2]], temperature=0.2)
    texts = [[GOALS[0], GOALS[2]], [GOALS[1], GOALS[2], GOALS[0]], [GOALS[2], GOALS[0]]]
    expected = [softmax(i, texts[goal], 0.2) for i, goal in enumerate(GOAL)]
    np.testing.assert_allclose(run(head), expected, rtol=1e-5)


def test_each_text_is_encoded_once():
    asked = []
    SoftmaxHead(negatives=FAMILY, nulls=("nothing",)).parameters(
        GOALS, lambda texts: asked.append(texts) or encode(texts)
    )
    assert len(asked) == 1 and len(asked[0]) == len(set(asked[0])) == 7


def test_cosine_and_sigmoid():
    cosines = np.asarray([cosine(i, GOALS[goal]) for i, goal in enumerate(GOAL)])
    np.testing.assert_allclose(run(CosineHead()), (1 + cosines) / 2, rtol=1e-5)
    expected = 1 / (1 + np.exp(-(7 * cosines - 2)))
    np.testing.assert_allclose(run(SigmoidHead(scale=7, bias=-2)), expected, rtol=1e-5)


def test_the_cosine_of_a_frame_with_itself_is_at_most_one():
    vectors = unit(np.random.default_rng(0).normal(size=(500, 33)))
    scores = np.asarray(CosineHead()({"goal": jnp.asarray(vectors)}, vectors, np.arange(500)))
    assert scores.max() <= 1.0 and scores.min() > 0.9999


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("baseline", ["a room", dict(zip(GOALS, ("a room", "a wall", "nothing")))])
def test_goal_baseline(alpha, baseline):
    def by_hand(i, goal):
        text = baseline if isinstance(baseline, str) else baseline[GOALS[goal]]
        g, b, s = VECTORS[GOALS[goal]].astype(float), VECTORS[text].astype(float), FRAMES[i].astype(float)
        direction = g - b
        projected = b + direction * ((s - b) @ direction) / (direction @ direction)
        return 1 - 0.5 * np.sum((alpha * projected + (1 - alpha) * s - g) ** 2)

    expected = [(1 + by_hand(i, goal)) / 2 for i, goal in enumerate(GOAL)]
    np.testing.assert_allclose(run(GoalBaselineHead(baseline=baseline, alpha=alpha)), expected, rtol=1e-5)
    if alpha == 0:
        np.testing.assert_allclose(expected, run(CosineHead()), rtol=1e-5)


HEADS = [
    SoftmaxHead(negatives=FAMILY, temperature=0.5),
    ChanceClippedHead(negatives=FAMILY, temperature=0.5),
    CosineHead(),
    GoalBaselineHead(baseline="a room"),
    SigmoidHead(scale=2, bias=0),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_thresholds_are_in_the_units_of_the_score(head):
    scores = run(head)
    beta = float(np.sort(scores)[3])
    # Strictly above, so that the frame whose score it is gets nothing.
    np.testing.assert_array_equal(run(dataclasses.replace(head, threshold=beta)), scores > np.float32(beta))
    per_goal = {GOALS[0]: 0.0, GOALS[1]: 1.0, GOALS[2]: beta}
    betas = np.asarray([0.0, 1.0, beta], np.float32)[GOAL]
    chosen = dataclasses.replace(head, threshold=per_goal)
    result = run(chosen)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, scores > betas)
    assert dataclasses.replace(chosen) == chosen and hash(dataclasses.replace(chosen)) == hash(chosen)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_vmap_and_gradients(head):
    parameters = head.parameters(GOALS, encode)
    assert all(leaf.shape[0] == len(GOALS) for leaf in jax.tree.leaves(parameters))
    batched = jax.vmap(head, (None, 0, 0))(parameters, FRAMES.reshape(2, 3, 5), GOAL.reshape(2, 3))
    np.testing.assert_allclose(np.asarray(batched).reshape(-1), run(head), rtol=1e-5, atol=1e-7)
    gradient = jax.grad(lambda frames: head(parameters, frames, GOAL).sum())(jnp.asarray(FRAMES))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


FIRST = np.asarray([0, 0, 0, 1, 0, 1], bool)


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_pooling(pool, frames):
    head = PooledHead(CosineHead(), frames=frames, pool=pool)
    begins = [0, 0, 0, 3, 3, 5]
    expected = []
    for i, begin in enumerate(begins):
        window = FRAMES[max(begin, i - frames + 1) : i + 1].astype(float)
        pooled = window.mean(0) if pool == "mean" else window.max(0)
        expected.append((1 + pooled @ VECTORS[GOALS[GOAL[i]]] / np.linalg.norm(pooled)) / 2)
    np.testing.assert_allclose(run(head, FRAMES, GOAL, FIRST), expected, rtol=1e-5)
    assert head.range == (0.0, 1.0)


def test_potential_difference():
    potential = run(CosineHead()).astype(float)
    head = PotentialDifference(CosineHead(), gamma=0.9)
    expected = [0 if begins else 0.9 * potential[i] - potential[i - 1] for i, begins in enumerate(FIRST)]
    expected[0] = 0.0  # Nothing is known from before it.
    np.testing.assert_allclose(run(head, FRAMES, GOAL, FIRST), expected, atol=1e-6)
    assert head.range == (-1.0, 0.9)
    many = jax.vmap(head, (None, 0, None, 0))(
        head.parameters(GOALS, encode), np.stack([FRAMES, FRAMES[::-1]]), GOAL, np.stack([FIRST, FIRST])
    )
    np.testing.assert_allclose(many[0], expected, atol=1e-6)


def test_negatives():
    drawn = sample_negatives(GOALS, 2, seed=3)
    assert drawn == sample_negatives(GOALS, 2, seed=3) and len(set(drawn)) == 2 and set(drawn) <= set(GOALS)
    assert len({sample_negatives(GOALS, 1, seed) for seed in range(20)}) == 3
    families = family_negatives(GOALS, lambda goal: goal.split()[0])
    assert families == {GOALS[0]: (GOALS[1],), GOALS[1]: (GOALS[0],), GOALS[2]: ()}
    for count in (0, 4):
        with pytest.raises(RewardError, match="from 1 to the 3"):
            sample_negatives(GOALS, count, 0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SoftmaxHead().parameters(GOALS, encode), "'hold a red ball' has no negatives"),
        (lambda: SoftmaxHead(negatives=[GOALS[0]]).parameters(GOALS, encode), "always be 1"),
        (
            lambda: SoftmaxHead(negatives={GOALS[0]: [GOALS[1]]}).parameters(GOALS, encode),
            "no entry for the goal",
        ),
        (lambda: SoftmaxHead(negatives="a wall"), "negatives is a list of texts, got 'a wall'"),
        (lambda: SoftmaxHead(negatives={GOALS[0]: "a wall"}), "negatives of 'hold a red ball' is a list"),
        (
            lambda: SoftmaxHead(negatives=["a wall"], temperature=0),
            "temperature is a finite number above 0, got 0",
        ),
        (
            lambda: CosineHead(threshold=1.5),
            "threshold is a finite number of at least 0 and at most 1, got 1.5",
        ),
        (lambda: CosineHead(threshold={"x": -1}), "threshold of 'x'"),
        (
            lambda: CosineHead(threshold={"hold a red bal": 0.5}).parameters(GOALS, encode),
            "closest is 'hold a red bal'",
        ),
        (lambda: GoalBaselineHead(), "baseline is a text"),
        (lambda: GoalBaselineHead(baseline=GOALS[0]).parameters(GOALS, encode), "same embedding"),
        (lambda: GoalBaselineHead(baseline="a room", alpha=2), "alpha"),
        (lambda: SigmoidHead(scale=-1), "scale"),
        (lambda: SigmoidHead(bias=float("nan")), "bias is a finite number, got nan"),
        (lambda: PooledHead(CosineHead(), frames=0), "frames is a whole number of at least 1, got 0"),
        (lambda: PooledHead(CosineHead(), pool="min"), "pool is 'mean' or 'max'"),  # pyright: ignore
        (lambda: PotentialDifference(CosineHead(), gamma=0), "gamma"),
        (lambda: CosineHead().parameters(GOALS, lambda texts: 2 * encode(texts)), "unit vectors"),
    ],
)
def test_what_is_wrong_is_said(make, match):
    with pytest.raises(RewardError, match=match):
        make()
