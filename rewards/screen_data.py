"""Captioned screens: what small CLIPs are trained on, made from the environment's true state."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..envs.screen_facts import NO_PAGE, NUM_APPS, NUM_COMMON, ScreenFacts
from ..envs.screen_sight import apps_in_sight
from ..envs.splits import split_tasks
from .clip_training import CaptionedBatch
from .frames import Frames
from .screen_captions import PREDICATES, ScreenCaption, Statement, caption_truth, column, say, truth_table
from .screen_frames import FAMILIES, random_walks, render_frames


# What a batch is about, in these shares as far as there is any of each: goals are about apps that are open, and what
# is said of the whole screen, or denied, is true of most and tells little.
TOPICS = {"open": 0.5, "icon": 0.25, "whole": 0.15, "not": 0.1}


@dataclasses.dataclass(frozen=True)
class ScreenCaptionConfig:
    """What small CLIPs see and read of screens.

    Attributes:
      episodes: of random walks, for each of the two families of Screens.
      steps: of an episode.
      held_out: apps that no caption of training names; of the common ten in proportion.
      complete: share of the captions that join two facts, where there are two.
      swaps: hard negatives of a batch, as a share of its images.
      imperative: share of the statements that an app is open that are said as an instruction.
      seed: of the split, the episodes and the captions.
    """

    episodes: int = 400
    steps: int = 30
    held_out: int = 6
    complete: float = 0.5
    swaps: float = 0.5
    imperative: float = 0.25
    seed: int = 0

    def __post_init__(self):
        for name in ("complete", "swaps", "imperative"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, in 0 to 1; got {getattr(self, name)}")
        for name in ("episodes", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def split_apps(seed: int, count: int) -> tuple[frozenset[int], frozenset[int]]:
    """The apps that captions may name in training, and `count` that are held out, of the common ten in proportion.

    The split is that of `split_tasks` over the places in `APPS`, so it depends on the seed and the count alone and is
    never tuned.

    Returns:
      (train, held out), sets of numbers.

    Raises:
      ValueError: for a count that leaves nothing to train on.
    """
    if not 0 <= count < NUM_APPS:
        raise ValueError(f"of {NUM_APPS} apps 0 to {NUM_APPS - 1} can be held out, got {count}")
    of_common = round(count * NUM_COMMON / NUM_APPS)
    order = split_tasks(NUM_APPS, NUM_APPS - 1, seed)
    order = [*order.held_out, *order.train]
    common = [app for app in order if app < NUM_COMMON]
    others = [app for app in order if app >= NUM_COMMON]
    held_out = frozenset(common[:of_common] + others[: count - of_common])
    return frozenset(range(NUM_APPS)) - held_out, held_out


def walked_screens(config: ScreenCaptionConfig, episodes: int, split: int = 0) -> Frames:
    """Random walks on screens of all families: split 0 for training, 1 to compare models on."""
    return random_walks(tuple(FAMILIES), episodes, config.steps, config.seed, split)


class CaptionedScreens:
    """Batches of screens with captions, hard negatives and the truth of each about each.

    Args:
      frames: to draw from.
      config: of the captions.
      batch: images of a batch.
    """

    def __init__(self, frames: Frames, config: ScreenCaptionConfig, batch: int):
        self._frames, self._config, self._batch = frames, config, batch
        train, _ = split_apps(config.seed, config.held_out)
        self._apps = np.array(sorted(train))
        self._table = truth_table(frames.facts)
        self._open, self._icon = (
            slice(first, first + NUM_APPS) for first in (column(Statement(name)) for name in ("open", "icon"))
        )
        self._sight = apps_in_sight(frames.symbols)
        found = {topic: self._shown(statements) for topic, statements in self._sayable().items()}
        self._topics = {topic: groups for topic, groups in found.items() if groups}
        shares = np.array([TOPICS[topic] for topic in self._topics])
        self._shares = shares / shares.sum()

    def __call__(self, step: int) -> CaptionedBatch:
        """The batch of an update; the same for the same number."""
        rng = np.random.default_rng([self._config.seed, step])
        rows: list[int] = []
        said: list[ScreenCaption] = []
        for topic in rng.choice(list(self._topics), self._batch, p=self._shares):
            # Every app, and everything else that can be said, as often as any other, however rare it is in walks.
            statement, shown = _drawn(self._topics[topic], rng)
            row = _drawn(shown, rng)
            statements = [statement]
            if rng.random() < self._config.complete and (others := self._others(row, statement)):
                statements.append(_drawn(others, rng))
            order = rng.permutation(len(statements))
            rows.append(int(row))
            said.append(say([statements[i] for i in order], rng, self._config.imperative))
        for row in rng.permutation(rows)[: round(self._config.swaps * self._batch)]:
            said.append(say([_drawn(self._negatives(row, rng), rng)], rng, self._config.imperative))
        facts = ScreenFacts(*(part[rows] for part in self._frames.facts))
        pictures = render_frames(self._frames.symbols[rows])
        return CaptionedBatch(pictures, [caption.text for caption in said], caption_truth(said, facts))

    def _sayable(self) -> dict[str, list[Statement]]:
        """What may be said about each topic."""
        whole = [Statement("page", page) for page in range(NO_PAGE)]
        whole += [Statement(name) for name in PREDICATES if name not in ("open", "icon", "page")]
        denied = [Statement(name, positive=False) for name in ("home", "app", "dialog")]
        return {
            "open": [Statement("open", int(app)) for app in self._apps],
            "icon": [Statement("icon", int(app)) for app in self._apps],
            "whole": whole,
            "not": denied,
        }

    def _shown(self, statements: Sequence[Statement]) -> list[tuple[Statement, np.ndarray]]:
        """Each statement with the rows of the frames that it is true of, where there are any."""
        rows = [
            np.flatnonzero(self._table[:, column(statement)] == statement.positive)
            for statement in statements
        ]
        return [pair for pair in zip(statements, rows) if len(pair[1])]

    def _others(self, row: int, statement: Statement) -> list[Statement]:
        """What else is true of a frame: icons in view, and which apps in sight are not open."""
        apps, open_, icon = self._apps, self._table[row, self._open], self._table[row, self._icon]
        found = [Statement("icon", int(app)) for app in apps[icon[apps]]]
        found += [Statement("open", int(app), False) for app in apps[self._sight[row, apps] & ~open_[apps]]]
        return [other for other in found if other != statement]

    def _negatives(self, row: int, rng: np.random.Generator) -> list[Statement]:
        """What is false of a frame and might be taken for true.

        That apps are open of which something is in sight, that their icons are in view on the home screen, and that one
        more app is open.
        """
        apps, open_, icon = self._apps, self._table[row, self._open], self._table[row, self._icon]
        sight = self._sight[row, apps]
        return [
            *(Statement("open", int(app)) for app in apps[sight & ~open_[apps]]),
            *(Statement("icon", int(app)) for app in apps[sight & ~icon[apps]]),
            Statement("open", int(_drawn(apps[~open_[apps]], rng))),
        ]


def _drawn(choice: Sequence[Any] | np.ndarray, rng: np.random.Generator) -> Any:
    return choice[int(rng.integers(len(choice)))]
