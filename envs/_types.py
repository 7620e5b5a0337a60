"""The contract of a pure-JAX environment."""

from typing import Any, Protocol, TypeVar

import dm_env
import jax
import jax.numpy as jnp
from dm_env import specs
from jax.typing import ArrayLike


Task = Any
State = Any
Observation = Any

FIRST = int(dm_env.StepType.FIRST)
MID = int(dm_env.StepType.MID)
LAST = int(dm_env.StepType.LAST)


class Environment(Protocol):
    """A pure-JAX environment: unbatched pure functions, vmapped by the caller.

    Tasks and states are pytrees. `reset` and `step` return `dm_env.TimeStep`s whose tree never
    changes: float32 `reward` and `discount`, int32 `step_type`, and on reset reward 0 and
    discount 1. `step` never resets by itself (see `AutoReset`). `discount` is 0 at termination
    and 1 at truncation.

    Attributes:
      name: the name under which `make` builds it.
      max_steps: the horizon: steps after which every episode has ended.
      num_tasks: how many tasks there are, or None where they cannot be counted.
    """

    # Properties, for an attribute that may be written must have the protocol's very type.
    @property
    def name(self) -> str: ...

    @property
    def max_steps(self) -> int: ...

    @property
    def num_tasks(self) -> int | None: ...

    def tasks(self) -> Task:
        """All tasks, stacked along axis 0 in task-id order. Raises where not countable."""
        ...

    def sample_task(self, key: jax.Array) -> Task: ...

    def reset(self, key: jax.Array, task: Task) -> tuple[State, dm_env.TimeStep]: ...

    def step(
        self, key: jax.Array, task: Task, state: State, action: jax.Array
    ) -> tuple[State, dm_env.TimeStep]: ...

    def task_spec(self) -> Any:
        """The spec of one task; `check_task` holds tasks against it."""
        ...

    def observation_spec(self) -> Any: ...

    def action_spec(self) -> specs.DiscreteArray: ...

    def reward_spec(self) -> specs.Array: ...

    def discount_spec(self) -> specs.BoundedArray: ...

    def bounds(self, task: Task) -> tuple[jax.Array, jax.Array]:
        """Exact mean episode returns of (the uniform-random policy, the optimal one); NaN where unknown."""
        ...

    def markov_spec(self) -> Any:
        """The spec of `markov_observation`; `observation_spec` where that is Markov already."""
        ...

    def markov_observation(self, state: State) -> Observation:
        """What a *source* learner sees: the observation plus whatever makes it Markov.

        Key-to-Door's (x, y) hides whether the key is held. Source learners need it; learning
        histories never hold it, or the distilled agent would need it too.
        """
        ...


_T = TypeVar("_T")


def restart(observation: _T) -> dm_env.TimeStep:
    """The first `TimeStep` of an episode: reward 0, discount 1."""
    return dm_env.TimeStep(jnp.int32(FIRST), jnp.float32(0), jnp.float32(1), observation)


def transition(
    observation: _T, reward: ArrayLike, terminated: ArrayLike, truncated: ArrayLike
) -> dm_env.TimeStep:
    """A `TimeStep` after an action: LAST when terminated or truncated, discount 0 only when terminated."""
    terminated, truncated = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
    step_type = jnp.where(terminated | truncated, LAST, MID).astype(jnp.int32)
    discount = jnp.where(terminated, 0.0, 1.0).astype(jnp.float32)
    return dm_env.TimeStep(step_type, jnp.asarray(reward, jnp.float32), discount, observation)
