"""A pure-JAX environment stepped from the host: what the adapters share."""

import functools
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._types import LAST, Environment, Observation, State, Task
from .tasks import check_task


def seed_key(seed: int) -> jax.Array:
    """The key from which an adapter draws its episodes; seed is any integer from 0."""
    if seed < 0:
        raise ValueError(f"A seed is an integer from 0, got {seed}.")
    key, rest = jax.random.key(seed % 2**31), seed >> 31
    return jax.random.fold_in(key, rest % 2**31) if rest else key


def seed_task(environment: Environment, seed: int) -> Task:
    """The task that an adapter with this seed samples where it is given none."""
    return _sample(environment, jax.random.fold_in(seed_key(seed), 0))


@functools.partial(jax.jit, static_argnums=0)
def _sample(environment: Environment, key: jax.Array) -> Task:
    return environment.sample_task(key)


def keyed_reset(
    environment: Environment, key: jax.Array, task: Task
) -> tuple[jax.Array, State, dm_env.TimeStep]:
    """`reset` that splits its own key off a stream's key."""
    key, reset_key = jax.random.split(key)
    return key, *environment.reset(reset_key, task)


def keyed_step(
    environment: Environment, key: jax.Array, task: Task, state: State, action: jax.Array
) -> tuple[jax.Array, State, dm_env.TimeStep]:
    """`step` that splits its own key off a stream's key."""
    key, step_key = jax.random.split(key)
    return key, *environment.step(step_key, task, state, action)


_reset = jax.jit(keyed_reset, static_argnums=0)
_step = jax.jit(keyed_step, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def reset_streams(
    environment: Environment, keys: jax.Array, tasks: Task
) -> tuple[jax.Array, State, dm_env.TimeStep]:
    """`keyed_reset` of N streams, all arguments `[N, …]`."""
    return jax.vmap(functools.partial(keyed_reset, environment))(keys, tasks)


@functools.partial(jax.jit, static_argnums=0)
def step_streams(
    environment: Environment, keys: jax.Array, tasks: Task, states: State, actions: jax.Array
) -> tuple[jax.Array, State, dm_env.TimeStep, Observation, jax.Array | None]:
    """`keyed_step` of N streams, and `keyed_reset` of those whose episode it ends.

    Returns:
      Keys and states; the time-steps that the actions led to; what the streams show, which is the next episode's
      first observation where one ended; and the environment's `success`, bool `[N]`, where it has that. All `[N, …]`.
    """
    keys, states, timesteps = jax.vmap(functools.partial(keyed_step, environment))(
        keys, tasks, states, actions
    )
    success = getattr(environment, "success", None)
    succeeded: Any = jax.vmap(success)(states) if callable(success) else None
    last = timesteps.step_type == LAST

    # Most steps end no episode, and a reset costs as much as a step.
    keys, states, shown = jax.lax.cond(
        last.any(),
        lambda *old: begin_streams(environment, tasks, last, *old),
        lambda *old: old,
        keys,
        states,
        timesteps.observation,
    )
    return keys, states, timesteps, shown, succeeded


@functools.partial(jax.jit, static_argnums=0)
def begin_streams(
    environment: Environment,
    tasks: Task,
    which: jax.Array,
    keys: jax.Array,
    states: State,
    observations: Observation,
) -> tuple[jax.Array, State, Observation]:
    """`keyed_reset` of those of N streams that `which`, bool `[N]`, says; the others stay as they are."""
    fresh_keys, fresh, first = reset_streams(environment, keys, tasks)

    def choose(new, old):
        return jnp.where(which.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, (fresh_keys, fresh, first.observation), (keys, states, observations))


class Host:
    """One task's environment with its state and key; time-steps are NumPy, in the pure form.

    The key is split once a call, reset or step, so every adapter with the same seed, task and actions
    sees the same episodes.

    Attributes:
      environment: that is stepped.
      task: the present task.
      key: of the next reset or step.
      episode_task: the task of the present episode: `task`, but where the environment draws one at each reset
        (`SampledTasks`); None there before the first.
      success: the environment's `success(state)` at the end of the episode that ended last; False before.
    """

    def __init__(self, environment: Environment, task: Task | None, seed: int):
        self.environment = environment
        self.task = seed_task(environment, seed) if task is None else check_task(environment, task)
        self._draws = callable(getattr(environment, "task_in", None))
        self.episode_task = None if self._draws else self.task
        self._state = None
        self.success = False
        self.reseed(seed)

    @property
    def needs_reset(self) -> bool:
        return self._state is None

    @property
    def tells_success(self) -> bool:
        """Whether `success` is known: the environment has a `success(state)`."""
        return callable(getattr(self.environment, "success", None))

    @property
    def success_so_far(self) -> bool:
        """The environment's `success(state)` of the episode that is running; False where none is."""
        return self._state is not None and bool(getattr(self.environment, "success")(self._state))  # noqa: B009

    def reseed(self, seed: int) -> None:
        """Starts the key's stream again; the task stays."""
        self.key = seed_key(seed)
        self._state = None

    def reset(self) -> dm_env.TimeStep:
        self.key, self._state, timestep = _reset(self.environment, self.key, self.task)
        if self._draws:
            self.episode_task = to_numpy(getattr(self.environment, "task_in")(self._state))  # noqa: B009
        return to_numpy(timestep)

    def step(self, action: Any) -> dm_env.TimeStep:
        action = conform_action(self.environment.action_spec(), action)
        self.key, self._state, timestep = _step(
            self.environment, self.key, self.task, self._state, jnp.asarray(action)
        )
        timestep = to_numpy(timestep)
        if timestep.step_type == LAST:
            if self.tells_success:
                self.success = bool(getattr(self.environment, "success")(self._state))  # noqa: B009
            self._state = None
        return timestep


def to_numpy(tree: Any) -> Any:
    """The tree's arrays as fresh, writable NumPy arrays, which callers may keep."""
    return jax.tree.map(np.array, jax.device_get(tree))


def conform_action(spec: specs.Array, action: Any, batch: tuple[int, ...] = ()) -> np.ndarray:
    """`action` in the spec's dtype, with leading `batch` axes.

    Raises:
      ValueError: for another kind of number, another shape, or a value out of bounds.
    """
    array = np.asarray(action)
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise ValueError(f"Actions are {spec.dtype}, got {array.dtype}: {action!r}.")
    if array.shape != (*batch, *spec.shape):
        raise ValueError(f"Actions have shape {(*batch, *spec.shape)}, got {array.shape}.")
    if isinstance(spec, specs.BoundedArray) and not np.all((array >= spec.minimum) & (array <= spec.maximum)):
        raise ValueError(f"Actions lie in {spec.minimum} to {spec.maximum}, got {action!r}.")
    return array.astype(spec.dtype)
