"""An environment whose task is drawn anew for every episode."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from ._by_value import ByValue


class SampledState(NamedTuple):
    """inner: the wrapped environment's state; drawn: the task of the episode."""

    inner: Any
    drawn: Any


class SampledTasks(ByValue):
    """Draws a task uniformly from a list at every reset, so that one learner meets them all.

    What was the environment's task is now part of its state. The task that is passed in is a number that nothing
    depends on (`tasks()` has one).

    Args:
      environment: a pure-JAX environment, not yet wrapped in `AutoReset`.
      tasks: places in `environment.tasks()`; all of them if None.

    Raises:
      ValueError: no task, or a place that there is not.
    """

    num_tasks = 1

    def __init__(self, environment: Any, tasks: Sequence[int] | None = None):
        chosen = tuple(range(environment.num_tasks)) if tasks is None else tuple(int(task) for task in tasks)
        if not chosen or min(chosen) < 0 or max(chosen) >= environment.num_tasks:
            raise ValueError(
                f"tasks are one or more of 0 to {environment.num_tasks - 1}, got {list(chosen)}."
            )
        self._environment, self._chosen = environment, np.array(chosen)
        self._settings = (environment, chosen)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Not yet set while being unpickled or copied.
            raise AttributeError(name)
        return getattr(self._environment, name)

    def tasks(self) -> jax.Array:
        return jnp.zeros(1, jnp.int32)

    def sample_task(self, key: jax.Array) -> jax.Array:
        del key
        return jnp.int32(0)

    def reset(self, key: jax.Array, task: Any) -> tuple[SampledState, dm_env.TimeStep]:
        del task
        of_task, of_reset = jax.random.split(key)
        place = jnp.asarray(self._chosen)[jax.random.randint(of_task, (), 0, len(self._chosen))]
        drawn = jax.tree.map(lambda x: x[place], self._environment.tasks())
        inner, timestep = self._environment.reset(of_reset, drawn)
        return SampledState(inner, drawn), timestep

    def step(
        self, key: jax.Array, task: Any, state: SampledState, action: jax.Array
    ) -> tuple[SampledState, dm_env.TimeStep]:
        del task
        inner, timestep = self._environment.step(key, state.drawn, state.inner, action)
        return SampledState(inner, state.drawn), timestep

    def task_in(self, state: SampledState) -> Any:
        """The task of the episode."""
        return state.drawn

    @property
    def success(self) -> Callable[[SampledState], jax.Array]:
        """`success(state)`: whether the goal was reached in the episode, where the environment knows."""
        success = self._environment.success
        return lambda state: success(state.inner)

    def markov_observation(self, state: SampledState) -> Any:
        return self._environment.markov_observation(state.inner)
