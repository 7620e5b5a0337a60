"""Frames of Rooms with what is true of them: random walks, first frames, demonstrations and near misses."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..envs import make
from ..envs.facts import OBJECTS, FactArrays, neighbours, read_facts
from ..envs.goals import Goal
from ..envs.view_render import render


FAMILIES = ("find", "lift", "place")
RESET, WALK, DEMONSTRATION, NEAR_MISS = "reset", "random walk", "demonstration", "near miss"


class Frames(NamedTuple):
    """Frames of whole episodes.

    Attributes:
      symbols: uint8 `[N, 7, 7, 3]`, of which `render_frames` makes the pictures.
      facts: of each.
      episode: int32 `[N]`, from 0 on.
      time: int32 `[N]`, the step within the episode.
      stratum: `[N]` of what kind of episode each is.
    """

    symbols: np.ndarray
    facts: FactArrays
    episode: np.ndarray
    time: np.ndarray
    stratum: np.ndarray


def random_walks(
    families: Sequence[str], episodes: int, steps: int, size: int, objects: int, seed: int, split: int
) -> Frames:
    """Frames of episodes in which the agent acts at random, toggling excepted: that makes boxes vanish.

    Args:
      families: of Rooms.
      episodes: of each family.
      steps: frames of an episode.
      size: cells a side of the rooms.
      objects: in a room.
      seed: of the episodes.
      split: another number, other episodes.
    """
    parts: list[np.ndarray] = []
    for family in families:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), split), FAMILIES.index(family))
        walk = _walk(family, size, objects, steps)
        parts.extend(np.asarray(walk(jax.random.split(key, episodes))))
    return _frames([(WALK, part) for part in parts])


def room_frames(
    family: str, episodes: int, steps: int, size: int, objects: int, seed: int, split: int
) -> Frames:
    """Frames of the four kinds of episodes on which a reward model is judged.

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
    of_walks, of_resets, of_shown = jax.random.split(key, 3)
    walks = np.asarray(_walk(family, size, objects, steps)(jax.random.split(of_walks, episodes)))
    resets = np.asarray(_walk(family, size, objects, 1)(jax.random.split(of_resets, episodes)))
    room = _room(family, size, objects, steps)
    shown = [
        part for one in jax.random.split(of_shown, max(1, episodes // 4)) for part in _demonstrated(room, one)
    ]
    return _frames([*((WALK, part) for part in walks), *((RESET, part) for part in resets), *shown])


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
    return np.asarray(_render(jnp.asarray(symbols)))


def _frames(episodes: Sequence[tuple[str, np.ndarray]]) -> Frames:
    lengths = [len(part) for _, part in episodes]
    symbols = np.concatenate([part for _, part in episodes])
    return Frames(
        symbols,
        FactArrays(*(np.asarray(part) for part in read_facts(symbols))),
        np.repeat(np.arange(len(episodes), dtype=np.int32), lengths),
        np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        np.repeat([name for name, _ in episodes], lengths),
    )


def _demonstrated(room: Any, key: jax.Array) -> Iterator[tuple[str, np.ndarray]]:
    """Of one room: the way to its goal, and the ways to goals that are nearly the same."""
    of_task, of_reset = jax.random.split(key)
    task = room.sample_task(of_task)
    state, timestep = _reset(room)(of_reset, task)
    ways = [(DEMONSTRATION, room.demonstrate(state, task))]
    ways += [(NEAR_MISS, actions) for _, actions in room.near_misses(state, task)]
    for name, actions in ways:
        seen, now = [np.asarray(timestep.observation["symbols"])], state
        for action in actions:
            now, after = _step(room)(of_reset, task, now, action)
            seen.append(np.asarray(after.observation["symbols"]))
        yield name, np.stack(seen)


@functools.cache
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


@functools.cache
def _walk(family: str, size: int, objects: int, steps: int) -> Any:
    room = _room(family, size, objects, steps)
    # Without toggling and without the action that does nothing.
    count = room.action_spec().num_values - 2

    def one(key: jax.Array) -> jax.Array:
        """uint8 `[steps, 7, 7, 3]`."""
        of_task, of_reset, of_walk = jax.random.split(key, 3)
        task = room.sample_task(of_task)
        state, timestep = room.reset(of_reset, task)

        def step(carry, key):
            state, seen = carry
            choice, moves = jax.random.split(key)
            action = jax.random.randint(choice, (), 0, count)
            state, timestep = room.step(moves, task, state, action)
            return (state, timestep.observation["symbols"]), seen

        first = (state, timestep.observation["symbols"])
        return jax.lax.scan(step, first, jax.random.split(of_walk, steps))[1]

    return jax.jit(jax.vmap(one))


@functools.cache
def _reset(room: Any) -> Any:
    return jax.jit(room.reset)


@functools.cache
def _step(room: Any) -> Any:
    return jax.jit(room.step)


_render = jax.jit(render)
