"""In-context evaluation, compiled: environment and agent in one scan, many tasks and seeds at once."""

import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..agents import EVALUATE, Agent
from ..envs import LAST, AutoReset, Environment, Task
from ._types import Evaluation
from .agent import InContextAgent


Control = Literal["rewards_zeroed", "context_cleared"]
CONTROLS: tuple[Control, ...] = ("rewards_zeroed", "context_cleared")


def evaluate(
    agent: Agent | InContextAgent,
    params: Any,
    environment: Environment,
    tasks: Task,
    task_ids: np.ndarray,
    key: jax.Array,
    episodes: int,
    seeds: int,
    control: Control | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Plays every task `seeds` times for `episodes` episodes on end, weights frozen, context kept.

    Args:
      agent: any agent; an `InContextAgent` has its memory batched as it asks.
      params: its weights.
      environment: a pure-JAX environment.
      tasks: N stacked tasks.
      task_ids: int `[N]`, only carried along.
      key: two calls with equal keys give equal returns.
      episodes: per stream.
      seeds: streams a task.
      control: `rewards_zeroed` shows the agent reward 0 at every step; `context_cleared` empties its
        memory at the end of every episode. Returns count the true rewards in both. An agent that
        learns in its context must fail under either.
      progress: called as `progress(steps done, steps)`.

    Returns:
      `Evaluation`, returns `[task, seed, episode]`.
    """
    check_control(control)
    streams = len(task_ids) * seeds
    groups = _groups(streams)
    # The last group is filled up with streams that are played twice and dropped.
    places = np.minimum(np.arange(groups.size), streams - 1).reshape(groups.shape)
    stream_tasks = jax.tree.map(lambda x: jnp.repeat(x, seeds, axis=0)[places], tasks)
    keys = stream_keys(key, streams)[places]
    start, run = _compiled(agent, environment, control, _CHUNK_EPISODES * environment.max_steps)
    carries: list[Any] = [None] * len(groups)

    def play(group: int) -> tuple[np.ndarray, np.ndarray]:
        own = jax.tree.map(lambda x: x[group], stream_tasks)
        carry = start(own, keys[group]) if carries[group] is None else carries[group]
        carries[group], reward, last = run(params, own, keys[group], carry)
        return np.asarray(reward), np.asarray(last)

    rewards, lasts = [], []
    done = np.zeros(groups.size, np.int64)
    with concurrent.futures.ThreadPoolExecutor(_workers()) as pool:
        for _ in range(0, episodes, _CHUNK_EPISODES):
            # At first the first group alone: it compiles for the others.
            parts = [] if rewards else [play(0)]
            parts += pool.map(play, range(len(parts), len(groups)))
            rewards.append(np.concatenate([reward for reward, _ in parts], axis=1))
            lasts.append(np.concatenate([last for _, last in parts], axis=1))
            done += lasts[-1].sum(axis=0)
            if progress is not None:
                progress(int(min(done.min(), episodes)), episodes)
            if done.min() >= episodes:
                break
    rewards, lasts = ([x[:, :streams] for x in parts] for parts in (rewards, lasts))
    returns = episode_returns(np.concatenate(rewards), np.concatenate(lasts), episodes)
    random, optimal = task_bounds(environment, tasks, len(task_ids))
    return Evaluation(returns.reshape(len(task_ids), seeds, episodes), np.asarray(task_ids), random, optimal)


def _groups(streams: int) -> np.ndarray:
    """How streams are played: an array of groups; on a CPU small ones, whose contexts stay in its cache."""
    if jax.default_backend() != "cpu":
        return np.arange(streams)[None]
    count = -(-streams // _GROUP)
    size = -(-streams // count)
    return np.arange(count * size).reshape(count, size)


def _workers() -> int:
    """Groups that are played at a time: one a core."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


# Streams that a CPU plays together.
_GROUP = 40
# Episodes a compiled call plays: enough to hide the call, few enough that the progress bar moves.
_CHUNK_EPISODES = 10


def check_control(control: str | None) -> None:
    if control is not None and control not in CONTROLS:
        raise ValueError(f"control must be one of {CONTROLS} or None, got {control!r}.")


def stream_keys(key: jax.Array, streams: int) -> jax.Array:
    """One key per stream, independent of how many streams there are."""
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(streams))


def act_key(stream_key: jax.Array, time: jax.typing.ArrayLike) -> jax.Array:
    """The key with which a stream's agent acts at its step `time`: the compiled and the hosted evaluation share it."""
    return jax.random.fold_in(jax.random.fold_in(stream_key, 0), time)


def episode_returns(rewards: np.ndarray, lasts: np.ndarray, episodes: int) -> np.ndarray:
    """Sums of rewards by episode: from `[T, N]` rewards and episode ends to float32 `[N, episodes]`."""
    steps, streams = rewards.shape
    number = np.cumsum(lasts, axis=0) - lasts
    kept = number < episodes
    index = np.where(kept, number, 0) + np.arange(streams) * episodes
    sums = np.bincount(index.ravel(), np.where(kept, rewards, 0).ravel(), minlength=streams * episodes)
    return sums.reshape(streams, episodes).astype(np.float32)


def task_bounds(environment: Environment, tasks: Task, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact (random, optimal) mean returns of each task, NaN where the environment has none."""
    if not hasattr(environment, "bounds"):
        return np.full(count, np.nan, np.float32), np.full(count, np.nan, np.float32)
    random, optimal = jax.vmap(environment.bounds)(tasks)
    return np.asarray(random, np.float32), np.asarray(optimal, np.float32)


def batched_act(agent: Agent | InContextAgent) -> Callable[..., Any]:
    """`act` over streams that step together: `(params, memory, keys [N], timestep [N, …]) -> (actions, memory)`."""
    axes = getattr(agent, "memory_axes", 0)

    def act(params, memory, key, timestep):
        action, _, memory = agent.act(params, memory, key, timestep, EVALUATE)
        return action, memory

    return jax.vmap(act, in_axes=(None, axes, 0, 0), out_axes=(0, axes))


def batched_memory(agent: Agent | InContextAgent, streams: int) -> Any:
    """The initial memory of N streams, parts that they share left single."""
    axes = getattr(agent, "memory_axes", 0)
    return jax.vmap(lambda _: agent.initial_memory(), out_axes=axes)(jnp.arange(streams))


def batched_clear(agent: Agent | InContextAgent) -> Callable[[Any, jax.Array], Any]:
    """`clear(memory, where [N]) -> memory`; agents without a `clear` of their own start from the initial memory."""
    axes = getattr(agent, "memory_axes", 0)

    def start_again(memory, where):
        return jax.tree.map(lambda new, old: jnp.where(where, new, old), agent.initial_memory(), memory)

    clear = getattr(agent, "clear", start_again)
    return jax.vmap(clear, in_axes=(axes, 0), out_axes=axes)


@functools.lru_cache(maxsize=8)
def _compiled(agent, environment, control, steps):
    stream = AutoReset(environment)
    act, clear = batched_act(agent), batched_clear(agent)

    def start(tasks, keys):
        state, timestep = jax.vmap(stream.reset)(jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys), tasks)
        return jnp.int32(0), state, timestep, batched_memory(agent, keys.shape[0])

    def run(params, tasks, keys, carry):
        def body(carry, _):
            time, state, timestep, memory = carry
            shown = timestep
            if control == "rewards_zeroed":
                shown = timestep._replace(reward=jnp.zeros_like(timestep.reward))
            action, memory = act(params, memory, jax.vmap(lambda k: act_key(k, time))(keys), shown)
            step_keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(k, 2), time))(keys)
            state, timestep = jax.vmap(stream.step)(step_keys, tasks, state, action)
            last = timestep.step_type == LAST
            if control == "context_cleared":
                memory = clear(memory, last)
            return (time + 1, state, timestep, memory), (timestep.reward, last)

        carry, (rewards, lasts) = jax.lax.scan(body, carry, None, steps)
        return carry, rewards, lasts

    return jax.jit(start), jax.jit(run, donate_argnums=3)
