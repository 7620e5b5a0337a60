"""Goals about a phone's screen, as data and in words."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .screen_facts import APPS, NUM_APPS, ScreenFacts


# The templates of Baumli et al., arXiv 2312.09187 (prompts on AndroidEnv), `state` the best of them there.
APP_TEXTS = {
    "state": "Screenshot of {} on Android",
    "screenshot": "Screenshot of {}",
    "imperative": "Open {}",
    "imperative_app": "Open the {} app",
}

_NUMBERS = {name.lower(): number for number, name in enumerate(APPS)}
_FORMS = [re.compile(text.lower().format(rf"({'|'.join(_NUMBERS)})")) for text in APP_TEXTS.values()]

# The words of the apps' names and of a dialog's buttons. A token is a place in this list plus 1, 0 is padding;
# networks are trained on them: new words go to the end.
APP_WORDS = (*dict.fromkeys(" ".join(APPS).lower().split()), "deny", "allow")
NUM_APP_TOKENS = len(APP_WORDS) + 1
APP_NAME_LENGTH = max(len(name.split()) for name in APPS)


@dataclasses.dataclass(frozen=True)
class AppGoal:
    """That an app is open.

    Attributes:
      app: its number, the place in `APPS`.

    Raises:
      ValueError: for a number that no app has.
    """

    app: int

    def __post_init__(self):
        if not 0 <= self.app < NUM_APPS:
            raise ValueError(f"An app's number is one of 0 to {NUM_APPS - 1}, got {self.app!r}.")

    @property
    def name(self) -> str:
        """The app's name."""
        return APPS[self.app]

    def text(self, style: str = "state") -> str:
        """The goal in words: `state` and `screenshot` describe a frame that fulfils it, the others ask for it.

        Raises:
          ValueError: for another style.
        """
        if style not in APP_TEXTS:
            raise ValueError(f"The style of an app's goal is one of {', '.join(APP_TEXTS)}, got {style!r}.")
        return APP_TEXTS[style].format(self.name)


def parse_app_goal(text: str) -> AppGoal:
    """The goal that a text in any style asks for, the inverse of `AppGoal.text`.

    Capitals, spaces and a full stop do not matter.

    Raises:
      ValueError: for a text that is no goal, with the forms that are.
    """
    words = " ".join(text.lower().split()).removesuffix(".")
    for form in _FORMS:
        if found := form.fullmatch(words):
            return AppGoal(_NUMBERS[found.group(1)])
    forms = ", ".join(f"'{form.format('Mail')}'" for form in APP_TEXTS.values())
    raise ValueError(f"{text!r} is not a goal. Goals read {forms}, with any of the names in APPS.")


def is_open(app: Any, facts: ScreenFacts) -> Any:
    """Whether an app fills the screen, and no dialog lies over it (`ScreenFacts.opened`), bool; jittable.

    Args:
      app: int, the number of the app, or integers that broadcast against `facts.opened`.
      facts: NumPy's or JAX's, with any leading axes.
    """
    return facts.opened == app


def tokenize_app(app: int) -> np.ndarray:
    """The words of an app's name, int32 `[APP_NAME_LENGTH]` below `NUM_APP_TOKENS`, padded with 0."""
    return _tokens(APPS[app].lower().split())


def tokenize_button(word: str) -> np.ndarray:
    """The same of a dialog's button, `deny` or `allow`."""
    return _tokens([word])


def _tokens(words: Sequence[str]) -> np.ndarray:
    tokens = np.zeros(APP_NAME_LENGTH, np.int32)
    tokens[: len(words)] = [APP_WORDS.index(word) + 1 for word in words]
    return tokens
