"""Goals about MiniGrid worlds, as data and in words."""

import dataclasses
import re

import numpy as np

from .facts import COLORS, KINDS, OBJECTS, Facts, Object
from .splits import split_tasks


PREDICATES = ("face", "hold", "next_to")
STYLES = ("state", "imperative")

# (style, predicate) -> the words; `{}` stands for an object with its article. `_FORMS` reads them back.
TEXTS = {
    ("state", "face"): "facing {}",
    ("state", "hold"): "holding {}",
    ("state", "next_to"): "{} next to {}",
    ("imperative", "face"): "go to {}",
    ("imperative", "hold"): "pick up {}",
    ("imperative", "next_to"): "put {} next to {}",
}

_OBJECT = rf"(?:a|the) ({'|'.join(COLORS)}) ({'|'.join(KINDS)})"
_FORMS = [(predicate, re.compile(text.format(_OBJECT, _OBJECT))) for (_, predicate), text in TEXTS.items()]

# The words of goals in the state style. A token is a place in this list plus 1, 0 is padding; networks are
# trained on them: new words go to the end.
GOAL_WORDS = ("a", "facing", "holding", "next", "to", *COLORS, *KINDS)
NUM_GOAL_TOKENS = len(GOAL_WORDS) + 1
# "a red ball next to a blue box"
GOAL_LENGTH = 8


@dataclasses.dataclass(frozen=True)
class Goal:
    """Something that a frame of a MiniGrid world may show, about one object or two.

    Attributes:
      predicate: `face`: the object is in the cell before the agent; `hold`: the agent carries it; `next_to`: it
        and the other lie beside each other on the floor, left and right or above and below, in either order.
        `Facts` says what of this a frame shows.
      color: red, green, blue, purple, yellow or grey.
      kind: key, ball or box.
      other_color: the other object's, for `next_to` alone.
      other_kind: the other object's, for `next_to` alone.

    Raises:
      ValueError: for an unknown predicate, colour or kind, a second object where there is none or none where
        there is one, or an object next to one of the same colour and kind.
    """

    predicate: str
    color: str
    kind: str
    other_color: str = ""
    other_kind: str = ""

    def __post_init__(self):
        if self.predicate not in PREDICATES:
            raise ValueError(f"A goal's predicate is one of {', '.join(PREDICATES)}, got {self.predicate!r}.")
        for thing in self.objects:
            if thing not in OBJECTS:
                raise ValueError(
                    f"An object has one of the colours {', '.join(COLORS)} and is one of {', '.join(KINDS)}, "
                    f"got {thing!r}."
                )
        second = (self.other_color, self.other_kind)
        if self.predicate != "next_to" and second != ("", ""):
            raise ValueError(f"The goal {self.predicate!r} is about one object, got {second!r} as another.")
        if second == (self.color, self.kind):
            raise ValueError(f"next_to is about two different objects, got {second!r} twice.")

    @property
    def objects(self) -> tuple[Object, ...]:
        """The goal's objects, (colour, kind) each."""
        first = (self.color, self.kind)
        return (first, (self.other_color, self.other_kind)) if self.predicate == "next_to" else (first,)

    def text(self, style: str = "state") -> str:
        """The goal in words: `state` describes a frame that fulfils it, `imperative` asks for it.

        Raises:
          ValueError: for another style.
        """
        if style not in STYLES:
            raise ValueError(f"A goal's style is one of {', '.join(STYLES)}, got {style!r}.")
        return TEXTS[style, self.predicate].format(*(f"a {color} {kind}" for color, kind in self.objects))


def parse_goal(text: str) -> Goal:
    """The goal that a text in either style asks for, the inverse of `Goal.text`.

    Capitals, spaces and a full stop do not matter, and "the" is as good as "a": MiniGrid's missions of this
    form are read too.

    Raises:
      ValueError: for a text that is no goal, with the forms that are.
    """
    words = " ".join(text.lower().split()).removesuffix(".")
    for predicate, form in _FORMS:
        if found := form.fullmatch(words):
            return Goal(predicate, *found.groups())
    forms = ", ".join(f"'{form.format('a red key', 'a blue box')}'" for form in TEXTS.values())
    raise ValueError(f"{text!r} is not a goal. Goals read {forms}, with any of the colours and kinds.")


def is_true(goal: Goal, facts: Facts) -> bool:
    """Whether a goal is true of a frame."""
    return fact_holds(goal.predicate, goal.objects, facts)


def fact_holds(predicate: str, objects: tuple[Object | None, ...], facts: Facts) -> bool:
    """Whether `predicate` is true of the objects; None stands for nothing.

    Beside the predicates of goals there is `see`: that the object is visible, or with None that none is.
    """
    if predicate == "face":
        return facts.facing == objects[0]
    if predicate == "hold":
        return facts.holding == objects[0]
    if predicate == "see":
        return not facts.visible if objects[0] is None else objects[0] in facts.visible
    a, b = objects
    return (a, b) in facts.pairs or (b, a) in facts.pairs


def split_goals(seed: int, count: int) -> tuple[frozenset[Object], frozenset[Object]]:
    """The objects that goals and captions may name in training, and `count` that are held out.

    A goal is held out where any of its objects is. The split is that of `split_tasks` over the places in
    `OBJECTS`, so it depends on the seed and the count alone and is never tuned; with the same seed a smaller
    count holds out a subset.

    Returns:
      (train, held out), sets of (colour, kind).

    Raises:
      ValueError: for a count that leaves nothing to train on.
    """
    split = split_tasks(len(OBJECTS), count, seed)
    return frozenset(OBJECTS[i] for i in split.train), frozenset(OBJECTS[i] for i in split.held_out)


def tokenize_goal(goal: Goal) -> np.ndarray:
    """The goal's words in the state style, int32 `[GOAL_LENGTH]` below `NUM_GOAL_TOKENS`, padded with 0."""
    tokens = np.zeros(GOAL_LENGTH, np.int32)
    words = goal.text("state").split()
    tokens[: len(words)] = [GOAL_WORDS.index(word) + 1 for word in words]
    return tokens
