"""Frames of a pure-JAX world with what is true of them: random walks, first frames, demonstrations and near misses."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


RESET, WALK, DEMONSTRATION, NEAR_MISS = "reset", "random walk", "demonstration", "near miss"
ON_POLICY = "on policy"  # Of agents that learned from the very reward that is judged.

# An episode: of what kind it is, and its symbols, uint8 `[T, …]`.
Episode = tuple[str, np.ndarray]


class Frames(NamedTuple):
    """Frames of whole episodes.

    Attributes:
      symbols: uint8 `[N, …]`, of which the world's `render` makes the pictures.
      facts: of each: a tuple of arrays with the leading axis N.
      episode: int32 `[N]`, from 0 on.
      time: int32 `[N]`, the step within the episode.
      stratum: `[N]` of what kind of episode each is.
    """

    symbols: np.ndarray
    facts: Any
    episode: np.ndarray
    time: np.ndarray
    stratum: np.ndarray


def to_frames(episodes: Sequence[Episode], read: Callable[[np.ndarray], Any]) -> Frames:
    """Episodes one after another, with their facts by `read`."""
    lengths = [len(part) for _, part in episodes]
    symbols = np.concatenate([part for _, part in episodes])
    facts = read(symbols)
    return Frames(
        symbols,
        type(facts)(*(np.asarray(part) for part in facts)),
        np.repeat(np.arange(len(episodes), dtype=np.int32), lengths),
        np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        np.repeat([name for name, _ in episodes], lengths),
    )


def join(first: Frames, second: Frames) -> Frames:
    """Two sets of episodes as one; those of the second are counted on."""
    second = second._replace(episode=second.episode + np.int32(first.episode.max() + 1))
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


def pictures(render: Callable[[jax.Array], jax.Array], symbols: np.ndarray) -> np.ndarray:
    """uint8 `[N, H, W, 3]` of symbols `[N, …]`, by a compiled `render`."""
    return np.asarray(_compiled_render(render)(symbols))


def walks(
    environment: Any, actions: Sequence[int], key: jax.Array, episodes: int, steps: int
) -> list[Episode]:
    """Episodes in which the agent acts at random, each with a task of its own.

    Args:
      environment: whose observations have `symbols`; hashable by value.
      actions: to draw from.
      key: of everything.
      episodes: their number.
      steps: frames of each, the first of an episode included.
    """
    walk = _walk(environment, tuple(actions), steps)
    return [(WALK, part) for part in np.asarray(walk(jax.random.split(key, episodes)))]


def strata(
    environment: Any, actions: Sequence[int], key: jax.Array, episodes: int, steps: int
) -> list[Episode]:
    """Episodes of the four kinds on which a reward model is judged.

    Args:
      environment: as for `walks`; it has `demonstrate` and `near_misses`.
      actions: of random walks.
      key: of everything.
      episodes: random walks; as many first frames of others, and a quarter as many demonstrations and near misses.
      steps: frames of a random walk.
    """
    of_walks, of_resets, of_shown = jax.random.split(key, 3)
    walked = walks(environment, actions, of_walks, episodes, steps)
    resets = [(RESET, part) for _, part in walks(environment, actions, of_resets, episodes, 1)]
    shown = [
        part for one in jax.random.split(of_shown, max(1, episodes // 4)) for part in _shown(environment, one)
    ]
    return [*walked, *resets, *shown]


def _shown(environment: Any, key: jax.Array) -> Iterator[Episode]:
    """Of one start: the way to its goal, and the ways to goals that are nearly the same."""
    of_task, of_reset = jax.random.split(key)
    task = environment.sample_task(of_task)
    reset, step = _compiled(environment)
    state, timestep = reset(of_reset, task)
    ways = [(DEMONSTRATION, environment.demonstrate(state, task))]
    ways += [(NEAR_MISS, actions) for _, actions in environment.near_misses(state, task)]
    for name, actions in ways:
        seen, now = [np.asarray(timestep.observation["symbols"])], state
        for action in actions:
            now, after = step(of_reset, task, now, action)
            seen.append(np.asarray(after.observation["symbols"]))
        yield name, np.stack(seen)


@functools.cache
def _walk(environment: Any, actions: tuple[int, ...], steps: int) -> Any:
    def one(key: jax.Array) -> jax.Array:
        """uint8 `[steps, …]`."""
        of_task, of_reset, of_walk = jax.random.split(key, 3)
        task = environment.sample_task(of_task)
        state, timestep = environment.reset(of_reset, task)

        def step(carry, key):
            state, seen = carry
            choice, moves = jax.random.split(key)
            action = jnp.asarray(actions)[jax.random.randint(choice, (), 0, len(actions))]
            state, timestep = environment.step(moves, task, state, action)
            return (state, timestep.observation["symbols"]), seen

        first = (state, timestep.observation["symbols"])
        return jax.lax.scan(step, first, jax.random.split(of_walk, steps))[1]

    return jax.jit(jax.vmap(one))


@functools.cache
def _compiled_render(render: Callable[[jax.Array], jax.Array]) -> Any:
    return jax.jit(render)


@functools.cache
def _compiled(environment: Any) -> tuple[Any, Any]:
    return jax.jit(environment.reset), jax.jit(environment.step)
