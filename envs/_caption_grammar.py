"""The grammar of captions: literals, their paraphrases, and conjunctions of them."""

import dataclasses
import re

from .facts import A_WALL, COLORS, KINDS, OBJECTS, Facts, Object
from .goals import STYLES, TEXTS, fact_holds


# (predicate, what it is said of) -> the paraphrases of each style, the text of a goal first. `a` and `b` stand for
# objects without their article.
_TEMPLATES: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("hold", "object"): {
        "state": ("holding a {a}", "carrying a {a}", "a {a} in hand"),
        "imperative": ("pick up a {a}", "take a {a}"),
    },
    ("hold", "not"): {"state": ("not holding a {a}", "not carrying a {a}", "no {a} in hand")},
    ("hold", "nothing"): {"state": ("holding nothing", "not holding anything", "with empty hands")},
    ("hold", "anything"): {"state": ("holding something", "carrying something")},
    ("face", "object"): {
        "state": ("facing a {a}", "looking at a {a}", "a {a} in front"),
        "imperative": ("go to a {a}", "face a {a}"),
    },
    ("face", "not"): {"state": ("not facing a {a}", "not looking at a {a}", "no {a} in front")},
    ("face", "nothing"): {"state": ("facing nothing", "not facing anything", "nothing in front")},
    ("face", "anything"): {"state": ("facing something", "something in front")},
    ("face", "wall"): {"state": ("facing a wall", "looking at a wall", "a wall in front")},
    ("face", "not wall"): {"state": ("not facing a wall", "no wall in front")},
    ("see", "object"): {
        "state": ("a {a} in view", "seeing a {a}"),
        "imperative": ("find a {a}", "look for a {a}"),
    },
    ("see", "not"): {"state": ("no {a} in view", "not seeing a {a}")},
    ("see", "nothing"): {"state": ("nothing in view", "not seeing anything")},
    ("see", "anything"): {"state": ("something in view", "seeing something")},
    ("next_to", "object"): {
        "state": ("a {a} next to a {b}", "a {a} beside a {b}", "a {a} adjacent to a {b}"),
        "imperative": ("put a {a} next to a {b}", "place a {a} beside a {b}"),
    },
    ("next_to", "not"): {"state": ("no {a} next to a {b}", "no {a} beside a {b}")},
}

PREDICATES = ("hold", "face", "see", "next_to")


@dataclasses.dataclass(frozen=True)
class Literal:
    """One statement about a frame, or its negation.

    Attributes:
      predicate: `hold`, `face`, `see` (the object is visible) or `next_to`.
      objects: (colour, kind) of what it is said of: two for `next_to`, else one, which may be None (nothing: empty
        hands, an empty cell in front, no object in view) and for `face` also `facts.A_WALL`.
      positive: False for the negation.

    Raises:
      ValueError: for an unknown predicate, or objects that it cannot be said of.
    """

    predicate: str
    objects: tuple[Object | None, ...]
    positive: bool = True

    def __post_init__(self):
        if self.predicate not in PREDICATES:
            raise ValueError(f"A predicate is one of {', '.join(PREDICATES)}, got {self.predicate!r}.")
        if self.predicate == "next_to":
            fits = len(set(self.objects)) == len(self.objects) == 2 and all(
                x in OBJECTS for x in self.objects
            )
        else:
            (thing,) = self.objects if len(self.objects) == 1 else ("",)
            fits = thing is None or thing in OBJECTS or (thing == A_WALL and self.predicate == "face")
        if not fits:
            raise ValueError(f"{self.predicate} cannot be said of {self.objects!r}.")

    @property
    def meaning(self) -> tuple[str, frozenset[Object | None], bool]:
        """Equal for literals that are true of the same frames: `next_to` has no order."""
        return self.predicate, frozenset(self.objects), self.positive

    def is_true(self, facts: Facts) -> bool:
        return fact_holds(self.predicate, self.objects, facts) == self.positive

    def words(self, style: str, number: int) -> str:
        """The literal in paraphrase `number` of a style, counted round; in the state style where it has no other."""
        thing = self.objects[0]
        if thing is None:
            form = "nothing" if self.positive else "anything"
        elif thing == A_WALL:
            form = "wall" if self.positive else "not wall"
        else:
            form = "object" if self.positive else "not"
        templates = _TEMPLATES[self.predicate, form]
        texts = templates.get(style, templates["state"])
        named = {name: " ".join(thing) for name, thing in zip("ab", self.objects) if thing is not None}
        return texts[number % len(texts)].format(**named)


@dataclasses.dataclass(frozen=True)
class Caption:
    """A conjunction of literals with the words that say it.

    Attributes:
      literals: what it says, in the order in which it does.
      phrasing: (style, number of the paraphrase) of each literal; style is `state` or `imperative`. Where a literal
        has fewer paraphrases the number is counted round, and negations and nothing have the state style alone.

    Raises:
      ValueError: without a literal, for an unknown style, or where the two differ in length.
    """

    literals: tuple[Literal, ...]
    phrasing: tuple[tuple[str, int], ...]

    def __post_init__(self):
        if not self.literals or len(self.literals) != len(self.phrasing):
            raise ValueError(
                f"A caption has a phrasing for each of its literals and at least one, got {self.literals!r} and "
                f"{self.phrasing!r}."
            )
        for style, _ in self.phrasing:
            if style not in STYLES:
                raise ValueError(f"A style is one of {', '.join(STYLES)}, got {style!r}.")

    @property
    def text(self) -> str:
        return " and ".join(literal.words(*how) for literal, how in zip(self.literals, self.phrasing))

    @property
    def meaning(self) -> frozenset:
        """Equal for captions that are true of the same frames, whatever their words and order."""
        return frozenset(literal.meaning for literal in self.literals)

    def is_true(self, facts: Facts) -> bool:
        return all(literal.is_true(facts) for literal in self.literals)


def vocabulary() -> list[str]:
    """Every word of every caption and goal, sorted: what a tokenizer must know."""
    texts = [text for styles in _TEMPLATES.values() for group in styles.values() for text in group]
    texts += [text.format("a", "a") for text in TEXTS.values()]
    words = {word for text in texts for word in re.sub(r"{\w}", "", text).split()}
    return sorted(words | {"and", *COLORS, *KINDS})
