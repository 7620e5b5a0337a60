"""Frames of Screens with what is true of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..envs import make
from ..envs.screen_facts import ScreenFacts, read_screen_facts
from ..envs.screen_goals import AppGoal, is_open
from ..envs.screen_render import render_screens
from .frames import Frames, pictures, strata, to_frames, walks


# Family of goals -> the apps of the environment.
FAMILIES = {"open_common": "common", "open_diverse": "diverse"}


def screens_of(family: str, **arguments: Any) -> Any:
    """The environment of a family of goals."""
    return make("screens", apps=FAMILIES[family], **arguments)


def random_walks(families: Sequence[str], episodes: int, steps: int, seed: int, split: int) -> Frames:
    """Frames of episodes in which the agent acts at random.

    Args:
      families: of Screens.
      episodes: of each family.
      steps: frames of an episode.
      seed: of the episodes.
      split: another number, other episodes.
    """
    parts = []
    for family in families:
        environment = _screens(family, steps)
        parts += walks(environment, _actions(environment), _key(family, seed, split), episodes, steps)
    return to_frames(parts, read_screen_facts)


def screen_frames(family: str, episodes: int, steps: int, seed: int, split: int, **arguments: Any) -> Frames:
    """Frames of the four kinds of episodes on which a reward model is judged (`frames.strata`).

    Args:
      family: of Screens.
      episodes: random walks; as many first frames of others, and a quarter as many demonstrations and near misses.
      steps: frames of a random walk.
      seed: of the episodes.
      split: another number, other episodes.
      **arguments: of the environment.
    """
    environment = _screens(family, steps, **arguments)
    key = jax.random.fold_in(_key(family, seed, split), 1)
    return to_frames(strata(environment, _actions(environment), key, episodes, steps), read_screen_facts)


def goal_truth(goals: Sequence[AppGoal], facts: ScreenFacts) -> np.ndarray:
    """Which goals are true of which frames, bool `[N, G]`, of facts with one leading axis."""
    return np.stack([np.asarray(is_open(goal.app, facts)) for goal in goals], axis=1)


def render_frames(symbols: np.ndarray) -> np.ndarray:
    """uint8 `[N, 96, 96, 3]`, the pictures of `[N, 6, 4, 3]`."""
    return pictures(render_screens, symbols)


def _screens(family: str, steps: int, **arguments: Any) -> Any:
    return screens_of(family, max_steps=steps + 1, views=("symbols",), reward="none", **arguments)


def _actions(environment: Any) -> range:
    return range(environment.action_spec().num_values)


def _key(family: str, seed: int, split: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split), list(FAMILIES).index(family))
