"""Captions of MiniGrid frames, hard negatives, and which captions are true of which frames."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from ._caption_grammar import PREDICATES
from ._caption_grammar import Caption as Caption
from ._caption_grammar import Literal as Literal
from ._caption_grammar import vocabulary as vocabulary
from ._fact_features import ALWAYS, column, features_of, features_of_arrays
from .facts import A_THING, A_WALL, OBJECTS, FactArrays, Facts, Object


def captions(
    facts: Facts,
    rng: np.random.Generator,
    complete: bool = False,
    objects: Collection[Object] = OBJECTS,
    imperative: float = 0.25,
) -> list[Caption]:
    """True captions of a frame, in random order; each is said in one paraphrase, drawn at random.

    One literal each: what is held, what is faced, each pair side by side, each object in view, and one negation of
    every predicate. Complete captions join two or three of them by "and", in random order: two of what is held,
    what is faced and one more fact, or all three; there is one for each of those further facts. An image-text
    model that is trained on complete captions binds attributes to objects better (arXiv 2507.07985).

    Args:
      facts: of the frame.
      rng: draws paraphrases, negations and order.
      complete: join literals.
      objects: (colour, kind) of the objects that may be named, such as the training side of `split_goals`; what
        would name another is left out.
      imperative: share of the literals that have an imperative that are said in it.

    Returns:
      At least one caption, but for a frame of which nothing may be said: with complete captions, one of which
      both what is held and what is faced may not be named.
    """
    allowed = [thing for thing in OBJECTS if thing in set(objects)]
    hand = _sayable(Literal("hold", (facts.holding,)), allowed)
    # The grammar has no words for doors, goals or lava.
    front = [] if facts.facing == A_THING else _sayable(Literal("face", (facts.facing,)), allowed)
    rest = [
        *(Literal("next_to", _either_order(pair, rng)) for pair in sorted(facts.pairs) if pair[0] != pair[1]),
        *(Literal("see", (thing,)) for thing in OBJECTS if thing in facts.visible),
    ]
    rest = [literal for literal in rest if _sayable(literal, allowed)]
    if not facts.visible:
        rest.append(Literal("see", (None,)))
    rest += _negations(facts, rng, allowed)
    rest = [rest[i] for i in rng.permutation(len(rest))]
    if not complete:
        said = [[literal] for literal in (*hand, *front, *rest)]
        said = [said[i] for i in rng.permutation(len(said))]
    else:
        said = []
        for literal in rest:
            parts = [*hand, *front, literal]
            if len(parts) == 3 and rng.random() < 0.5:
                del parts[rng.integers(3)]
            if len(parts) > 1:
                said.append([parts[i] for i in rng.permutation(len(parts))])
    return [_phrased(tuple(literals), rng, imperative) for literals in said]


def swap(caption: Caption, kind: str) -> Caption | None:
    """A hard negative: the caption with two of its parts exchanged, in the same phrasing.

    Args:
      caption: the caption.
      kind: `color`: the colours of two objects are exchanged ("holding a red key and facing a blue ball": a blue
        key, a red ball). `object`: their kinds are (a red ball, a blue key). `predicate`: two predicates about one
        object are (facing a red key, holding a blue ball); where there are no two, what is held becomes faced or the
        other way round.

    Returns:
      The first such exchange, from left to right, that does not mean the same; None where there is none. It may
      still be true of the frame: see `truth_matrix`.

    Raises:
      ValueError: for another kind.
    """
    if kind not in ("color", "object", "predicate"):
        raise ValueError(f"A swap is one of color, object, predicate, got {kind!r}.")
    candidates = (
        _predicate_swaps(caption) if kind == "predicate" else _attribute_swaps(caption, kind == "object")
    )
    for literals in candidates:
        swapped = dataclasses.replace(caption, literals=literals)
        if swapped.meaning != caption.meaning:
            return swapped
    return None


def truth_matrix(captions: Sequence[Caption], facts: Sequence[Facts] | FactArrays) -> np.ndarray:
    """Which captions are true of which frames.

    Args:
      captions: N of them.
      facts: M frames, as `Facts` or as arrays with one leading axis (`read_facts`), which are read faster.

    Returns:
      bool `[N, M]`.
    """
    features = features_of_arrays(facts) if isinstance(facts, FactArrays) else features_of(facts)
    length = max((len(caption.literals) for caption in captions), default=1)
    # What a caption lacks in literals is filled up with the feature that is always true.
    columns = np.full((len(captions), length), ALWAYS)
    positive = np.ones((len(captions), length), bool)
    for row, caption in enumerate(captions):
        for place, literal in enumerate(caption.literals):
            columns[row, place] = column(literal.predicate, literal.objects)
            positive[row, place] = literal.positive
    truth = np.ones((len(captions), len(features)), bool)
    by_feature = np.ascontiguousarray(features.T)
    for place in range(length):
        truth &= by_feature[columns[:, place]] == positive[:, place, None]
    return truth


def _sayable(literal: Literal, allowed: Collection[Object]) -> list[Literal]:
    """The literal, or nothing where it names what may not be named."""
    named = [thing for thing in literal.objects if thing not in (None, A_WALL)]
    return [literal] if all(thing in allowed for thing in named) else []


def _either_order(pair: tuple[Object, Object], rng: np.random.Generator) -> tuple[Object, Object]:
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


def _negations(facts: Facts, rng: np.random.Generator, allowed: Sequence[Object]) -> list[Literal]:
    """One true negation of each predicate, of an object or a pair drawn at random."""
    found = []
    for predicate in PREDICATES:
        count = 2 if predicate == "next_to" else 1
        if len(allowed) < count:
            continue
        drawn = rng.choice(len(allowed), count, replace=False)
        literal = Literal(predicate, tuple(allowed[i] for i in drawn), positive=False)
        if literal.is_true(facts):
            found.append(literal)
    return found


def _phrased(literals: tuple[Literal, ...], rng: np.random.Generator, imperative: float) -> Caption:
    # Six is a multiple of every number of paraphrases, so that all of them are as likely.
    styles = ["imperative" if rng.random() < imperative else "state" for _ in literals]
    return Caption(literals, tuple((style, int(rng.integers(6))) for style in styles))


def _attribute_swaps(caption: Caption, kinds: bool) -> Iterator[tuple[Literal, ...]]:
    """The literals with the colours, or the kinds, of two objects exchanged, for every two objects."""
    places = [
        (i, j) for i, literal in enumerate(caption.literals) for j, thing in enumerate(literal.objects)
        if thing in OBJECTS
    ]  # fmt: skip
    for number, first in enumerate(places):
        for second in places[number + 1 :]:
            objects = [list(literal.objects) for literal in caption.literals]
            (a, b), (c, d) = (objects[i][j] or ("", "") for i, j in (first, second))
            new = ((a, d), (c, b)) if kinds else ((c, b), (a, d))
            objects[first[0]][first[1]], objects[second[0]][second[1]] = new
            try:
                yield tuple(
                    dataclasses.replace(literal, objects=tuple(mine))
                    for literal, mine in zip(caption.literals, objects)
                )
            except ValueError:  # two objects of `next_to` would be the same
                continue


def _predicate_swaps(caption: Caption) -> Iterator[tuple[Literal, ...]]:
    """The literals with two predicates exchanged, for every two; then with hold for face or face for hold."""
    literals = caption.literals
    about_one = [
        i for i, literal in enumerate(literals) if len(literal.objects) == 1 and literal.objects[0] != A_WALL
    ]
    for number, i in enumerate(about_one):
        for j in about_one[number + 1 :]:
            yield _with_predicates(literals, {i: literals[j].predicate, j: literals[i].predicate})
    other = {"hold": "face", "face": "hold"}
    for i in about_one:
        if literals[i].predicate in other:
            yield _with_predicates(literals, {i: other[literals[i].predicate]})


def _with_predicates(literals: tuple[Literal, ...], new: dict[int, str]) -> tuple[Literal, ...]:
    return tuple(
        dataclasses.replace(literal, predicate=new.get(i, literal.predicate))
        for i, literal in enumerate(literals)
    )
