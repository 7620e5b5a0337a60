"""Frames as rows of truths, one column for each thing that a caption can say."""

from collections.abc import Sequence

import numpy as np

from .facts import (
    A_WALL,
    NOTHING_ID,
    NUM_OBJECTS,
    OBJECTS,
    WALL_ID,
    FactArrays,
    Facts,
    Object,
    neighbours,
    seen,
)


# The columns of a frame's features: what is held and faced one-hot by number, what is seen, nothing seen, the
# pairs, and one that is always true.
_NUMBERS = NOTHING_ID + 1
_HOLD, _FACE, _SEE = 0, _NUMBERS, 2 * _NUMBERS
_PAIRS = _SEE + NUM_OBJECTS + 1
ALWAYS = _PAIRS + NUM_OBJECTS**2
_NUMBER: dict[Object | None, int] = {thing: i for i, thing in enumerate(OBJECTS)}
_NUMBER |= {A_WALL: WALL_ID, None: NOTHING_ID}


def column(predicate: str, objects: tuple[Object | None, ...]) -> int:
    """The feature that says whether a predicate is true of objects (`fact_holds`)."""
    numbers = [_NUMBER[thing] for thing in objects]
    if predicate == "next_to":
        return _PAIRS + numbers[0] * NUM_OBJECTS + numbers[1]
    if predicate == "see":
        return _SEE + min(numbers[0], NUM_OBJECTS)
    return (_HOLD if predicate == "hold" else _FACE) + numbers[0]


def features_of_arrays(facts: FactArrays) -> np.ndarray:
    """bool `[M, columns]` of arrays with one leading axis."""
    facts = FactArrays(*(np.asarray(part) for part in facts))
    rows, visible = np.arange(len(facts.holding)), seen(facts)
    features = np.zeros((len(rows), ALWAYS + 1), bool)
    features[rows, _HOLD + facts.holding] = features[rows, _FACE + facts.facing] = True
    features[:, _SEE : _PAIRS - 1] = visible
    features[:, _PAIRS - 1] = ~visible.any(axis=1)
    features[:, _PAIRS:ALWAYS] = neighbours(facts.floor).reshape(len(rows), -1)
    features[:, ALWAYS] = True
    return features


def features_of(facts: Sequence[Facts]) -> np.ndarray:
    """bool `[M, columns]` of M frames."""
    features = np.zeros((len(facts), ALWAYS + 1), bool)
    features[:, ALWAYS] = True
    for row, one in zip(features, facts):
        if one.holding in _NUMBER:
            row[_HOLD + _NUMBER[one.holding]] = True
        if one.facing in _NUMBER:
            row[_FACE + _NUMBER[one.facing]] = True
        for thing in one.visible:
            row[_SEE + _NUMBER[thing]] = True
        row[_PAIRS - 1] = not one.visible
        for a, b in one.pairs:
            i, j = _NUMBER[a], _NUMBER[b]
            row[[_PAIRS + i * NUM_OBJECTS + j, _PAIRS + j * NUM_OBJECTS + i]] = True
    return features
