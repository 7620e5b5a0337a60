"""Captions of screens by a grammar, and which captions are true of which screens."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from ..envs.screen_facts import APPS, NO_APP, NO_PAGE, NUM_APPS, ScreenFacts
from ..envs.screen_goals import APP_TEXTS


# What can be said: the first three of each app or page, the others of the whole screen.
PREDICATES = ("open", "icon", "page", "home", "app", "recents", "dialog", "dialog_home", "dialog_elsewhere")
_COUNTS = {"open": NUM_APPS, "icon": NUM_APPS, "page": NO_PAGE}
_FIRST: dict[str, int] = dict(
    zip(PREDICATES, np.cumsum([0, *(_COUNTS.get(name, 1) for name in PREDICATES)]).tolist())
)

# Predicate -> paraphrases of what is so, of its instruction, and of what is not so.
_SO: dict[str, tuple[str, ...]] = {
    "open": (APP_TEXTS["state"], APP_TEXTS["screenshot"], "{} is open", "{} fills the screen"),
    "icon": ("the {} icon in view", "a home screen with {}"),
    "page": ("the home screen, page {}", "page {} of the home screen"),
    "home": ("the home screen", "Screenshot of the home screen", "Screenshot of the home screen on Android"),
    "app": ("an app is open", "an app on the screen"),
    "recents": ("the recent apps", "an overview of recent apps"),
    "dialog": ("a dialog", "a dialog on the screen"),
    "dialog_home": ("a dialog over the home screen",),
    "dialog_elsewhere": ("a dialog not over the home screen",),
}
_ASKED = {"open": (APP_TEXTS["imperative"], APP_TEXTS["imperative_app"])}
_NOT_SO = {
    "open": ("{} is not open", "not {} on the screen"),
    "icon": ("no {} icon in view",),
    "home": ("not the home screen",),
    "app": ("no app is open", "no app on the screen"),
    "dialog": ("no dialog", "no dialog on the screen"),
}
_TWO_ICONS = "a home screen with {} and {}"


@dataclasses.dataclass(frozen=True)
class Statement:
    """One statement about a screen, or its negation.

    Attributes:
      predicate: `open`: an app fills the screen and nothing lies over it; `icon`: its icon is in view on a page of
        the home screen; `page`: that page is shown; `home`: any page is; `app`: any app is open; `recents`: the
        overview of recent apps is shown; `dialog`: a dialog lies over what there is; `dialog_home` and
        `dialog_elsewhere`: over the home screen, or over an app or the overview, which facts do not tell apart.
      number: of the app in `APPS`, or of the page from 0; 0 for the others.
      positive: False for the negation.

    Raises:
      ValueError: for what cannot be said.
    """

    predicate: str
    number: int = 0
    positive: bool = True

    def __post_init__(self):
        if self.predicate not in (_SO if self.positive else _NOT_SO):
            known = ", ".join(_SO if self.positive else _NOT_SO)
            raise ValueError(
                f"what can be {'said' if self.positive else 'denied'} is {known}, got {self.predicate!r}"
            )
        if not 0 <= self.number < _COUNTS.get(self.predicate, 1):
            raise ValueError(f"{self.predicate} has no number {self.number!r}")

    @property
    def app(self) -> int:
        """The number of the app that is named, NO_APP for none."""
        return self.number if self.predicate in ("open", "icon") else NO_APP

    def forms(self, imperative: bool = False) -> tuple[str, ...]:
        """The paraphrases, those of the instruction where there is one."""
        if not self.positive:
            return _NOT_SO[self.predicate]
        return _ASKED.get(self.predicate, _SO[self.predicate]) if imperative else _SO[self.predicate]

    def words(self, form: str) -> str:
        return form.format(self.number + 1 if self.predicate == "page" else APPS[self.number])


@dataclasses.dataclass(frozen=True)
class ScreenCaption:
    """A conjunction of statements, in words.

    Attributes:
      statements: at least one.
      text: that says them.
    """

    statements: tuple[Statement, ...]
    text: str


def say(statements: Sequence[Statement], rng: np.random.Generator, imperative: float = 0.0) -> ScreenCaption:
    """The statements in words, each in a paraphrase that is drawn at random.

    Args:
      statements: at least one.
      rng: of the draws.
      imperative: share of the statements that have an instruction that are said in it: of the screen on which it is
        achieved.
    """
    if [(s.predicate, s.positive) for s in statements] == [("icon", True)] * 2 and rng.random() < 0.5:
        text = _TWO_ICONS.format(*(APPS[statement.number] for statement in statements))
        return ScreenCaption(tuple(statements), text)
    parts = []
    for statement in statements:
        forms = statement.forms(bool(rng.random() < imperative))
        parts.append(statement.words(forms[int(rng.integers(len(forms)))]))
    return ScreenCaption(tuple(statements), " and ".join(parts))


def truth_table(facts: ScreenFacts) -> np.ndarray:
    """bool `[N, S]`: which positive statements are true of facts with one leading axis, by `column`."""
    # Under a dialog nothing is opened.
    covered, opened, home = np.asarray(facts.covered), np.asarray(facts.opened), facts.page != NO_PAGE
    icons = np.zeros((len(covered), NO_APP + 1), bool)
    np.put_along_axis(icons, np.asarray(facts.icons, np.int64), True, axis=1)
    an_app = opened != NO_APP
    single = (home, an_app, ~home & ~an_app & ~covered, covered, covered & home, covered & ~home)
    return np.concatenate(
        [
            opened[:, None] == np.arange(NUM_APPS),
            icons[:, :NUM_APPS],
            facts.page[:, None] == np.arange(NO_PAGE),
            np.stack(single, axis=1),
        ],
        axis=1,
    )


def column(statement: Statement) -> int:
    """The place of a statement, or of what it denies, in `truth_table`."""
    return _FIRST[statement.predicate] + statement.number


def caption_truth(captions: Sequence[ScreenCaption], facts: ScreenFacts) -> np.ndarray:
    """Which captions are true of which screens.

    Args:
      captions: C of them.
      facts: with one leading axis N.

    Returns:
      bool `[C, N]`.
    """
    table = truth_table(facts).T
    truth = np.ones((len(captions), table.shape[1]), bool)
    for row, caption in zip(truth, captions):
        for statement in caption.statements:
            row &= table[column(statement)] == statement.positive
    return truth


def screen_words() -> list[str]:
    """Every word of every caption and goal, sorted: what a tokenizer must know."""
    forms = [
        form for group in (_SO, _ASKED, _NOT_SO) for paraphrases in group.values() for form in paraphrases
    ]
    texts = [form.replace("{}", "") for form in (*forms, _TWO_ICONS, *APP_TEXTS.values())]
    return sorted({word for text in (*texts, *APPS) for word in re.findall(r"[a-z]+", text.lower())})
