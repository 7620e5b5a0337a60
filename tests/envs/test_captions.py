"""Captions: true of their frames, one meaning a text, the truth matrix by brute force, swaps by hand."""

import itertools

import numpy as np
import pytest
from limbeck.envs import (
    OBJECTS,
    Caption,
    Facts,
    Literal,
    captions,
    minigrid,
    parse_goal,
    read_facts,
    split_goals,
    swap,
    to_facts,
    truth_matrix,
    vocabulary,
)
from limbeck.envs.facts import A_THING, A_WALL


A, B, C = ("red", "key"), ("blue", "ball"), ("green", "box")
STATE = ("state", 0)


def said(*literals):
    literals = tuple(Literal(*literal) for literal in literals)
    return Caption(literals, (STATE,) * len(literals))


@pytest.fixture(scope="module")
def frames():
    """symbols uint8 [N, 7, 7, 3] of worlds in which things are carried about."""
    rng, found = np.random.default_rng(0), []
    for id in ("MiniGrid-PutNear-6x6-N2-v0", "MiniGrid-Fetch-5x5-N2-v0", "MiniGrid-DoorKey-5x5-v0"):
        environment = minigrid(id, seed=0, views="symbols")
        for t in range(150):
            if t % 30 == 0:
                environment.reset()
            action = rng.choice(6, p=[0.15, 0.15, 0.2, 0.3, 0.1, 0.1])
            found.append(environment.step(action).observation["symbols"])
    return np.stack(found)


@pytest.fixture(scope="module")
def facts(frames):
    arrays = read_facts(frames)
    return [to_facts(type(arrays)(*(part[i] for part in arrays))) for i in range(len(frames))]


def every_literal():
    for sign in (True, False):
        for predicate in ("hold", "face", "see"):
            for thing in (*OBJECTS, None, *([A_WALL] if predicate == "face" else [])):
                yield Literal(predicate, (thing,), sign)
        for pair in itertools.permutations(OBJECTS, 2):
            yield Literal("next_to", pair, sign)


def test_texts_by_hand():
    assert said(("hold", (A,)), ("face", (B,))).text == "holding a red key and facing a blue ball"
    assert said(("next_to", (A, B))).text == "a red key next to a blue ball"
    assert said(("hold", (None,)), ("face", (A_WALL,))).text == "holding nothing and facing a wall"
    assert said(("see", (A,), False)).text == "no red key in view"
    caption = Caption(
        (Literal("hold", (None,)), Literal("next_to", (A, B))), (("state", 1), ("imperative", 1))
    )
    assert caption.text == "not holding anything and place a red key beside a blue ball"


def test_a_text_has_one_meaning_and_known_words():
    words, meanings = set(vocabulary()), {}
    for literal in every_literal():
        texts = {literal.words(style, n) for style in ("state", "imperative") for n in range(6)}
        # Two to four paraphrases in the state style, and up to two imperatives.
        assert 2 <= len({literal.words("state", n) for n in range(6)}) <= 4 and len(texts) <= 5
        for text in texts:
            assert meanings.setdefault(text, literal.meaning) == literal.meaning
            assert set(text.split()) <= words
    used = {word for text in meanings for word in text.split()}
    assert words == used | {"and"}


def test_the_first_paraphrases_are_goals():
    for literal in every_literal():
        if literal.positive and literal.predicate != "see" and literal.objects[0] in OBJECTS:
            for style in ("state", "imperative"):
                goal = parse_goal(literal.words(style, 0))
                assert (goal.predicate, goal.objects) == (literal.predicate, literal.objects)
                assert goal.text(style) == literal.words(style, 0)


@pytest.mark.parametrize("complete", [False, True])
def test_captions_are_true_and_say_all_that_there_is(facts, complete):
    rng, kinds, lengths = np.random.default_rng(0), set(), set()
    for one in facts:
        made = captions(one, rng, complete)
        assert made and all(caption.is_true(one) for caption in made)
        lengths |= {len(caption.literals) for caption in made}
        literals = {literal.meaning for caption in made for literal in caption.literals}
        if not complete:
            assert ("hold", frozenset([one.holding]), True) in literals
            assert one.facing == A_THING or ("face", frozenset([one.facing]), True) in literals
            for pair in one.pairs:
                assert len(set(pair)) == 1 or ("next_to", frozenset(pair), True) in literals
            assert {("see", frozenset([thing]), True) for thing in one.visible} <= literals
        kinds |= {
            (literal.predicate, literal.positive, None in literal.objects)
            for caption in made for literal in caption.literals
        }  # fmt: skip
    assert lengths == ({2, 3} if complete else {1})
    negated = {(predicate, False, False) for predicate in ("hold", "face", "see", "next_to")}
    assert negated | {("hold", True, True), ("face", True, True), ("see", True, True)} <= kinds


def test_only_what_may_be_named_is_named_and_imperatives_are_drawn(facts):
    rng = np.random.default_rng(0)
    train, held_out = split_goals(0, 9)
    names = {" ".join(thing) for thing in held_out}
    for one, complete in itertools.product(facts[:200], (False, True)):
        for caption in captions(one, rng, complete, objects=train):
            assert not any(name in caption.text for name in names)

    def starts(share):
        return {caption.text.split()[0] for one in facts for caption in captions(one, rng, imperative=share)}

    orders = {"pick", "take", "go", "face", "find", "look", "put", "place"}
    assert orders <= starts(1.0) and not orders & starts(0.0)


def test_captions_depend_on_the_generator_alone(facts):
    texts = [[c.text for c in captions(facts[5], np.random.default_rng(seed))] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_the_truth_matrix_is_the_truth(frames, facts):
    rng = np.random.default_rng(1)
    chosen = [caption for one in facts[::9] for made in (False, True) for caption in captions(one, rng, made)]
    swapped = [swap(caption, kind) for caption in chosen for kind in ("color", "object", "predicate")]
    chosen += [caption for caption in swapped if caption]
    chosen += [Caption((literal,), (STATE,)) for literal in list(every_literal())[::5]]
    expected = np.array([[caption.is_true(one) for one in facts] for caption in chosen])
    assert 0.05 < expected.mean() < 0.95
    assert np.array_equal(truth_matrix(chosen, facts), expected)
    assert np.array_equal(truth_matrix(chosen, read_facts(frames)), expected)
    assert truth_matrix([], facts).shape == (0, len(facts)) and truth_matrix(chosen, []).shape == (
        len(chosen),
        0,
    )


def test_swaps_by_hand():
    two = said(("hold", (A,)), ("face", (B,)))
    assert swap(two, "color").text == "holding a blue key and facing a red ball"
    assert swap(two, "object").text == "holding a red ball and facing a blue key"
    assert swap(two, "predicate").text == "facing a red key and holding a blue ball"
    pair = said(("next_to", (A, B)))
    assert swap(pair, "color").text == "a blue key next to a red ball"
    assert swap(pair, "predicate") is None
    three = said(("hold", (None,)), ("next_to", (A, ("blue", "key"))), ("face", (C,)))
    # Within the pair the colours make no difference.
    assert (
        swap(three, "color").text == "holding nothing and a green key next to a blue key and facing a red box"
    )
    assert swap(said(("hold", (A,))), "color") is None
    assert swap(said(("hold", (A,))), "predicate").text == "facing a red key"
    assert swap(said(("face", (A_WALL,))), "predicate") is None
    assert swap(said(("hold", (("red", "key"),)), ("face", (("red", "ball"),))), "color") is None
    phrased = Caption(
        (Literal("hold", (A,)), Literal("face", (B,), False)), (("imperative", 1), ("state", 2))
    )
    assert swap(phrased, "color").text == "take a blue key and no red ball in front"
    with pytest.raises(ValueError, match="one of color, object, predicate, got 'colour'"):
        swap(two, "colour")


def test_swaps_mean_something_else_of_the_same_words(facts):
    rng, found = np.random.default_rng(2), 0
    for one in facts[::5]:
        for caption in captions(one, rng, complete=True):
            for kind in ("color", "object"):
                other = swap(caption, kind)
                if other is not None:
                    found += 1
                    assert other.meaning != caption.meaning
                    assert sorted(other.text.split()) == sorted(caption.text.split())
    assert found > 50


@pytest.mark.parametrize(
    "literal",
    [
        ("near", (A,)),
        ("hold", (A, B)),
        ("hold", (A_WALL,)),
        ("next_to", (A, A)),
        ("next_to", (A, None)),
        ("see", ()),
    ],
)
def test_literals_that_cannot_be(literal):
    with pytest.raises(ValueError, match="predicate is one of|cannot be said of"):
        Literal(*literal)


def test_captions_that_cannot_be():
    with pytest.raises(ValueError, match="a phrasing for each"):
        Caption((Literal("hold", (A,)),), ())
    with pytest.raises(ValueError, match="style is one of"):
        Caption((Literal("hold", (A,)),), (("loud", 0),))


def test_a_frame_of_which_nothing_may_be_said():
    one = Facts(A, A_THING, frozenset(), frozenset({A}))
    assert captions(one, np.random.default_rng(0), objects=()) == []
