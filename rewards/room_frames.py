"""Frames of Rooms with what is true of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..envs import make
from ..envs.facts import OBJECTS, FactArrays, neighbours, read_facts
from ..envs.goals import Goal
from ..envs.view_render import render
from .frames import Frames, pictures, strata, to_frames, walks


FAMILIES = ("find", "lift", "place")
# Without toggling, which makes boxes vanish, and without the action that does nothing.
_ACTIONS = range(5)


def random_walks(
    families: Sequence[str], episodes: int, steps: int, size: int, objects: int, seed: int, split: int
) -> Frames:
    """Frames of episodes in which the agent acts at random, toggling excepted.

    Args:
      families: of Rooms.
      episodes: of each family.
      steps: frames of an episode.
      size: cells a side of the rooms.
      objects: in a room.
      seed: of the episodes.
      split: another number, other episodes.
    """
    parts = []
    for family in families:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split), FAMILIES.index(family))
        parts += walks(_room(family, size, objects, steps), _ACTIONS, key, episodes, steps)
    return to_frames(parts, read_facts)


def room_frames(
    family: str, episodes: int, steps: int, size: int, objects: int, seed: int, split: int
) -> Frames:
    """Frames of the four kinds of episodes on which a reward model is judged (`frames.strata`).

    Args:
      family: of Rooms.
      episodes: random walks; as many first frames of others, and a quarter as many demonstrations and near misses.
      steps: frames of a random walk.
      size: cells a side of the rooms.
      objects: in a room.
      seed: of the episodes.
      split: another number, other episodes.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split), 100 + FAMILIES.index(family))
    return to_frames(strata(_room(family, size, objects, steps), _ACTIONS, key, episodes, steps), read_facts)


def goal_truth(goals: Sequence[Goal], facts: FactArrays) -> np.ndarray:
    """Which goals are true of which frames, bool `[N, G]`, of facts with one leading axis."""
    beside = neighbours(facts.floor) if any(goal.predicate == "next_to" for goal in goals) else None
    columns = []
    for goal in goals:
        places = [OBJECTS.index(thing) for thing in goal.objects]
        if goal.predicate == "next_to":
            assert beside is not None
            columns.append(beside[:, places[0], places[1]])
        else:
            columns.append((facts.facing if goal.predicate == "face" else facts.holding) == places[0])
    return np.stack(columns, axis=1)


def render_frames(symbols: np.ndarray) -> np.ndarray:
    """uint8 `[N, 56, 56, 3]`, the pictures of `[N, 7, 7, 3]` views."""
    return pictures(render, symbols)


def _room(family: str, size: int, objects: int, steps: int) -> Any:
    return make(
        "rooms",
        family=family,
        size=size,
        objects=objects,
        max_steps=steps + 1,
        views=("symbols",),
        reward="none",
    )
