"""Whole learning runs as one compiled program, vmapped over runs.

The same `Agent` functions that hosted actors and learners call are scanned here beside a pure-JAX
environment: act in every stream for `unroll` steps, update, repeat.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, cast

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from ..envs import LAST, AutoReset, Environment
from ._types import EXPLORE, Agent, Trajectory


@dataclasses.dataclass(frozen=True)
class CompiledConfig:
    """Settings of a compiled learning run.

    Attributes:
      num_episodes: episodes per stream. A stream has `num_episodes * environment.max_steps` steps;
        where episodes end early it holds more of them, and the last one may be cut off.
      streams: environment copies that share one learner; each leaves a history of its own.
      unroll: steps of every stream between two updates; it divides the steps of a stream.
    """

    num_episodes: int
    streams: int = 1
    unroll: int = 1

    def __post_init__(self):
        for name in ("num_episodes", "streams", "unroll"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


class History(NamedTuple):
    """Learning histories `[N, streams, T, …]`, chronological along T. Row t holds o_t, a_t, r_{t+1}, ….

    Attributes:
      observation: o_t, the environment's own observation (never the Markov one that the learner saw).
      action: a_t, int32.
      reward: r_{t+1}, float32.
      discount: discount_{t+1}, float32: 0 at termination only.
      step_type: step_type_{t+1}, int32; row t+1 begins a new episode where it is LAST.
      final_observation: the observation that the step led to where it is LAST, zeros elsewhere.
    """

    observation: Any
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    step_type: jax.Array
    final_observation: Any


class _Views(NamedTuple):
    """What the environment shows and what the learner sees."""

    own: Any
    markov: Any


class _WithMarkov:
    """Shows both observations at once, so that `AutoReset` keeps both of an ended episode."""

    def __init__(self, environment: Environment):
        self._environment = environment

    def _show(self, state: Any, timestep: dm_env.TimeStep) -> tuple[Any, dm_env.TimeStep]:
        views = _Views(timestep.observation, self._environment.markov_observation(state))
        return state, timestep._replace(observation=views)

    def reset(self, key: jax.Array, task: Any) -> tuple[Any, dm_env.TimeStep]:
        return self._show(*self._environment.reset(key, task))

    def step(self, key: jax.Array, task: Any, state: Any, action: jax.Array) -> tuple[Any, dm_env.TimeStep]:
        return self._show(*self._environment.step(key, task, state, action))


def stream_length(environment: Environment, config: CompiledConfig) -> int:
    """Steps of every stream. Raises ValueError where `unroll` does not divide them."""
    length = config.num_episodes * environment.max_steps
    if length % config.unroll:
        raise ValueError(
            f"unroll must divide the {length} steps of a stream ({config.num_episodes} episodes of "
            f"{environment.max_steps}), got {config.unroll}."
        )
    return length


def _run(
    agent: Agent, environment: Environment, config: CompiledConfig, task: Any, key: jax.Array
) -> History:
    """One learning run; returns a `History` [streams, T, …]."""
    world = AutoReset(cast(Environment, _WithMarkov(environment)))  # It only resets and steps.
    init_key, reset_key, act_key, step_key, update_key = jax.random.split(key, 5)
    ids = jnp.arange(config.streams)
    per_stream = jax.vmap(jax.random.fold_in, (None, 0))
    act_keys, step_keys = per_stream(act_key, ids), per_stream(step_key, ids)
    states, timesteps = jax.vmap(world.reset, (0, None))(per_stream(reset_key, ids), task)
    memory = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (config.streams, *jnp.shape(x))), agent.initial_memory()
    )
    weights = jnp.ones((config.streams,), jnp.float32)

    def step(params, carry, time):
        memory, states, timesteps = carry

        # Keys come from the step's number, not from a chain of splits: one that is never used
        # (a deterministic environment's) then costs nothing.
        def one(act_key, step_key, memory, state, timestep):
            seen = timestep._replace(observation=timestep.observation.markov)
            action, extras, memory = agent.act(
                params, memory, jax.random.fold_in(act_key, time), seen, EXPLORE
            )
            state, led_to = world.step(jax.random.fold_in(step_key, time), task, state, action)
            last = led_to.step_type == LAST
            row = Trajectory(
                seen.observation, action, led_to.reward, led_to.discount, led_to.step_type,
                state.final_observation.markov, extras,
            )  # fmt: skip
            kept = History(
                timestep.observation.own, action, led_to.reward, led_to.discount, led_to.step_type,
                jax.tree.map(lambda x: jnp.where(last, x, jnp.zeros_like(x)), state.final_observation.own),
            )  # fmt: skip
            return (memory, state, led_to), (row, kept)

        return jax.vmap(one)(act_keys, step_keys, memory, states, timesteps)

    def unroll(carry, number):
        learner, actors = carry
        first = actors[0]
        times = number * config.unroll + jnp.arange(config.unroll)
        if config.unroll == 1:
            actors, rows = step(learner.params, actors, times[0])
            rows = jax.tree.map(lambda x: x[None], rows)
        else:
            actors, rows = jax.lax.scan(functools.partial(step, learner.params), actors, times)
        trajectory, kept = rows
        learner, _, _ = agent.update(
            learner, jax.random.fold_in(update_key, number), trajectory._replace(memory=first), weights
        )
        return (learner, actors), kept

    updates = stream_length(environment, config) // config.unroll
    start = (agent.init(init_key), (memory, states, timesteps))
    _, kept = jax.lax.scan(unroll, start, jnp.arange(updates))
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, *x.shape[2:]), 1, 0), kept)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _train(
    agent: Agent, environment: Environment, config: CompiledConfig, tasks: Any, keys: jax.Array
) -> History:
    return jax.vmap(functools.partial(_run, agent, environment, config))(tasks, keys)


@functools.lru_cache(maxsize=16)
def _compiled(
    agent: Agent, environment: Environment, config: CompiledConfig, tree: Any, leaves: tuple
) -> Any:
    """The executable for runs of these shapes; threads share it, which a first call of `_train` would not."""
    tasks, keys = jax.tree.unflatten(tree, leaves)
    return _train.lower(agent, environment, config, tasks, keys).compile()


def _check_runs(tasks: Any, keys: jax.Array) -> int:
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.ndim != 1:
        raise ValueError(
            f"keys must be typed random keys [N], one a run (jax.random.split(jax.random.key(0), N)), "
            f"got {keys.dtype} {keys.shape}."
        )
    for leaf in jax.tree.leaves(tasks):
        if jnp.shape(leaf)[:1] != keys.shape:
            raise ValueError(
                f"tasks must be stacked, one a run: {keys.shape[0]} keys beside a leaf {jnp.shape(leaf)}."
            )
    return keys.shape[0]


def train(
    agent: Agent, environment: Environment, tasks: Any, keys: jax.Array, config: CompiledConfig
) -> History:
    """Runs N whole learning runs and returns every stream of them in chronological order.

    A run's history depends on its task and key only, not on the runs beside it. Compiled once for
    an agent, an environment, a config and N (the same objects, not equal ones): call it group by
    group, or use `train_groups`.

    Args:
      agent: built for `environment.markov_spec()`, which is what it is shown.
      environment: a pure-JAX environment, not yet wrapped in `AutoReset`.
      tasks: stacked tasks [N].
      keys: random keys [N], one a run.
      config: length and streams.

    Returns:
      A `History` of arrays [N, streams, T, …].

    Raises:
      ValueError: `unroll` does not divide the steps, or tasks and keys do not match.
    """
    stream_length(environment, config)
    _check_runs(tasks, keys)
    return _train(agent, environment, config, tasks, keys)


def train_groups(
    agent: Agent,
    environment: Environment,
    tasks: Any,
    keys: jax.Array,
    config: CompiledConfig,
    group_size: int = 64,
    skip: Collection[int] = (),
    workers: int = 2,
) -> Iterator[tuple[int, History]]:
    """`train` in groups of runs, each group yielded as soon as it and those before it are done.

    Groups that fit the cache are faster than one big batch, and a job that was stopped recomputes
    only what it lacks. A short last group is filled up with copies of its last run, which are then
    dropped, so there is one compilation.

    Args:
      group_size: runs per group.
      skip: numbers of groups that are not wanted (again).
      workers: groups computed at a time, each by a thread; on CPU one per core.

    Yields:
      (number of the group, its `History` of numpy arrays [<= group_size, streams, T, …]), in order;
      group g holds runs g * group_size and on.

    Raises:
      ValueError: as `train`, or a group size or number of workers below 1.
    """
    stream_length(environment, config)
    runs = _check_runs(tasks, keys)
    if group_size < 1 or workers < 1:
        raise ValueError(f"group_size and workers must be at least 1, got {group_size} and {workers}.")
    group_size = min(group_size, runs)
    tasks = jax.tree.map(jnp.asarray, tasks)
    shapes, tree = jax.tree.flatten(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct((group_size, *x.shape[1:]), x.dtype), (tasks, keys))
    )
    run = _compiled(agent, environment, config, tree, tuple(shapes))

    def compute(group: int) -> tuple[int, History]:
        wanted = min(group_size, runs - group * group_size)
        ids = np.minimum(np.arange(group_size) + group * group_size, runs - 1)
        history = run(jax.tree.map(lambda x: x[ids], tasks), keys[ids])
        return group, jax.tree.map(lambda x: np.asarray(x)[:wanted], history)

    numbers = iter(g for g in range(-(-runs // group_size)) if g not in skip)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(compute, g) for g in itertools.islice(numbers, workers)]
        while pending:
            result = pending.pop(0).result()
            pending += [pool.submit(compute, g) for g in itertools.islice(numbers, 1)]
            yield result
