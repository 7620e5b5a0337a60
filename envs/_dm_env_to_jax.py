"""dm_env to pure JAX, by callbacks."""

from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs
from jax.experimental import io_callback

from ._types import LAST, Observation, Task, restart


class HostState(NamedTuple):
    """token: int32 count of the calls to the host so far; observation: what the last of them returned."""

    token: jax.Array
    observation: Observation


class DmEnvToJax:
    """A `dm_env.Environment` behind the interface of a pure-JAX one; see `from_dm_env`."""

    num_tasks = 1

    def __init__(self, environment: dm_env.Environment, max_steps: int, name: str):
        if max_steps < 1:
            raise ValueError(f"{name} needs max_steps of at least 1, got {max_steps}.")
        self.name, self.max_steps = name, max_steps
        self._environment = environment
        self._observation_spec = jax.tree.map(_canonical, environment.observation_spec())
        self._action_spec = jax.tree.map(_canonical, environment.action_spec())
        self._calls = 0
        self._time: int | None = None  # steps into the episode; None where a reset is due

    def tasks(self) -> jax.Array:
        return jnp.zeros((1,), jnp.int32)

    def sample_task(self, key: jax.Array) -> jax.Array:
        del key
        return jnp.int32(0)

    def reset(self, key: jax.Array, task: Task) -> tuple[HostState, dm_env.TimeStep]:
        del key, task
        token, observation = io_callback(self._host_reset, (_INT, self._shapes()), ordered=True)
        return HostState(token, observation), restart(observation)

    def step(
        self, key: jax.Array, task: Task, state: HostState, action: jax.Array
    ) -> tuple[HostState, dm_env.TimeStep]:
        del key, task
        timestep = dm_env.TimeStep(_INT, _FLOAT, _FLOAT, self._shapes())
        token, timestep = io_callback(self._host_step, (_INT, timestep), state.token, action, ordered=True)
        return HostState(token, timestep.observation), timestep

    def bounds(self, task: Task) -> tuple[jax.Array, jax.Array]:
        """NaN and NaN: nothing is known of a host environment's returns."""
        del task
        return jnp.float32(jnp.nan), jnp.float32(jnp.nan)

    def task_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.int32, 0, 0, "the_only_task")

    def observation_spec(self) -> Any:
        return self._observation_spec

    def action_spec(self) -> Any:
        return self._action_spec

    def reward_spec(self) -> specs.Array:
        return specs.Array((), np.float32, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> Any:
        return self._observation_spec

    def markov_observation(self, state: HostState) -> Observation:
        return state.observation

    def _shapes(self) -> Any:
        return jax.tree.map(lambda spec: jax.ShapeDtypeStruct(spec.shape, spec.dtype), self._observation_spec)

    def _observe(self, timestep: dm_env.TimeStep) -> Any:
        return jax.tree.map(
            lambda spec, x: np.asarray(x, spec.dtype), self._observation_spec, timestep.observation
        )

    def _host_reset(self) -> tuple[np.int32, Any]:
        self._calls += 1
        self._time = 0
        return np.int32(self._calls), self._observe(self._environment.reset())

    def _host_step(self, token: jax.Array, action: jax.Array) -> tuple[np.int32, dm_env.TimeStep]:
        if int(token) != self._calls:
            raise RuntimeError(
                f"{self.name}: this state is from call {int(token)}, but the host environment is at call "
                f"{self._calls}. There is one instance and it cannot go back: step the newest state only, "
                "and each state once."
            )
        if self._time is None:
            raise RuntimeError(f"{self.name}: the episode has ended; reset before the next step.")
        self._calls += 1
        self._time += 1
        timestep = self._environment.step(np.asarray(action))
        last = timestep.last() or self._time >= self.max_steps
        step_type = np.int32(LAST if last else timestep.step_type)
        if last:
            self._time = None
        reward, discount = np.float32(timestep.reward), np.float32(timestep.discount)
        return np.int32(self._calls), dm_env.TimeStep(step_type, reward, discount, self._observe(timestep))


_INT = jax.ShapeDtypeStruct((), np.int32)
_FLOAT = jax.ShapeDtypeStruct((), np.float32)


def _canonical(spec: Any) -> specs.Array:
    """The spec in the dtype that JAX gives its arrays (float64 becomes float32 unless x64 is on)."""
    if not isinstance(spec, specs.Array) or spec.dtype.kind not in "biuf":
        raise ValueError(f"JAX has no arrays for the spec {spec!r}.")
    dtype = np.dtype(jax.eval_shape(jnp.asarray, np.zeros((), spec.dtype)).dtype)
    if isinstance(spec, specs.DiscreteArray):
        # dm_env's argument has no type and the default's is taken for it.
        return specs.DiscreteArray(spec.num_values, dtype, spec.name)  # pyright: ignore[reportArgumentType]
    if isinstance(spec, specs.BoundedArray):
        low, high = spec.minimum, spec.maximum
        if dtype.kind in "iu":
            low, high = (np.clip(x, np.iinfo(dtype).min, np.iinfo(dtype).max) for x in (low, high))
        return specs.BoundedArray(spec.shape, dtype, low, high, spec.name)
    return specs.Array(spec.shape, dtype, spec.name)


def from_dm_env(environment: dm_env.Environment, max_steps: int, name: str = "dm_env") -> DmEnvToJax:
    """A `dm_env.Environment` as a pure-JAX environment with one task, so that it runs inside jit and scan.

    Each reset and step is an ordered `jax.experimental.io_callback` to the one instance on the host. It
    cannot be vmapped: a batch would be many episodes at once and there is one instance (JAX says so
    itself: ordered callbacks cannot be vmapped). For the same reason a state can be stepped once, and only
    while it is the newest: the state holds the count of calls, and an older or branched state raises an
    error on the host. Use as many instances as streams, or the host loop, for more.

    Args:
      environment: the instance. Its randomness is its own; keys are ignored. It must not run JAX itself:
        a callback that starts a JAX computation can wait for ever for the thread that waits for it.
      max_steps: the horizon. An episode that has not ended by then is truncated there.
      name: the environment's name.

    Raises:
      ValueError: for specs that JAX has no arrays for, or a horizon below 1.
      RuntimeError (from JAX, with the host's message): for a stale state, or a step after the last.
    """
    return DmEnvToJax(environment, max_steps, name)
