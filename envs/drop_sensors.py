"""Sensors that are missing in some episodes, and the flags that say so."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._by_value import ByValue
from .autoreset import AutoReset


# Folded into a reset's key, so that the environment's own draws stay what they are without the wrapper.
_STREAM = 0x5E2507


class DropSensorsState(NamedTuple):
    """inner: the wrapped environment's state; present: by key, bool, whether it is there in this episode."""

    inner: Any
    present: dict[str, jax.Array]


class DropSensors(ByValue):
    """Drops keys of the observations for whole episodes; episodes are otherwise what they were.

    At every reset each named key is dropped with its probability, independently of the others. A dropped key is zeros;
    beside every named key stands a bool scalar, `<key>_present`, dropped or not, so that the spec is always the same.
    With the probability 1 the sensor is dead.

    The Markov observation is the environment's, with nothing dropped. Functions of a state other than `success`,
    `task_in` and `markov_observation` take `state.inner`.

    Args:
      environment: a pure-JAX environment with a dictionary of observations, not yet wrapped in `AutoReset`.
      probabilities: by key, in [0, 1].

    Raises:
      ValueError: for a key that is not there or holds no array, a probability that is none, or an environment that
        resets by itself.
    """

    def __init__(self, environment: Any, probabilities: Mapping[str, float]):
        if isinstance(environment, AutoReset):
            raise ValueError("Sensors are drawn at every reset: put AutoReset around DropSensors.")
        self._environment = environment
        self._probabilities = check_dropped(environment.observation_spec(), probabilities)
        self._settings = (environment, tuple(self._probabilities.items()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Not yet set while being unpickled or copied.
            raise AttributeError(name)
        return getattr(self._environment, name)

    def reset(self, key: jax.Array, task: Any) -> tuple[DropSensorsState, dm_env.TimeStep]:
        inner, timestep = self._environment.reset(key, task)
        names = list(self._probabilities)
        luck = jax.random.uniform(jax.random.fold_in(key, _STREAM), (len(names),))
        there = luck >= jnp.asarray(list(self._probabilities.values()), jnp.float32)
        state = DropSensorsState(inner, {name: there[i] for i, name in enumerate(names)})
        return state, self._hide(state, timestep)

    def step(
        self, key: jax.Array, task: Any, state: DropSensorsState, action: jax.Array
    ) -> tuple[DropSensorsState, dm_env.TimeStep]:
        inner, timestep = self._environment.step(key, task, state.inner, action)
        state = DropSensorsState(inner, state.present)
        return state, self._hide(state, timestep)

    @property
    def success(self) -> Callable[[DropSensorsState], jax.Array]:
        """`success(state)`: whether the goal was reached in the episode, where the environment knows."""
        success = self._environment.success
        return lambda state: success(state.inner)

    @property
    def task_in(self) -> Callable[[DropSensorsState], Any]:
        """`task_in(state)`: the task of the episode, where the environment draws one (`SampledTasks`)."""
        task_in = self._environment.task_in
        return lambda state: task_in(state.inner)

    def markov_observation(self, state: DropSensorsState) -> Any:
        return self._environment.markov_observation(state.inner)

    def observation_spec(self) -> dict[str, specs.Array]:
        return dropping_spec(self._environment.observation_spec(), self._probabilities)

    def _hide(self, state: DropSensorsState, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
        return timestep._replace(observation=hide(timestep.observation, state.present, jnp))


def check_dropped(observation_spec: Any, probabilities: Mapping[str, float]) -> dict[str, float]:
    """The probabilities, by key in the order of the alphabet.

    Raises:
      ValueError: see `DropSensors`.
    """
    spec = observation_spec if isinstance(observation_spec, Mapping) else {}
    has = f"the keys {', '.join(spec)}" if spec else f"no keys: {observation_spec!r}"
    if not probabilities:
        raise ValueError(f"Which sensors are dropped? Give probabilities by key; the observation has {has}.")
    for name, probability in probabilities.items():
        if name not in spec:
            raise ValueError(f"There is no key {name!r} to drop; the observation has {has}.")
        if not isinstance(spec[name], specs.Array) or isinstance(spec[name], specs.StringArray):
            raise ValueError(f"{name!r} holds no array of numbers, which can be zeros, but {spec[name]!r}.")
        if present_key(name) in spec:
            raise ValueError(f"The observation has {present_key(name)!r} already: {name!r} is dropped once.")
        if not isinstance(probability, numbers.Real) or not 0 <= probability <= 1:
            raise ValueError(f"{name!r} is dropped with a probability in [0, 1], got {probability!r}.")
    return {name: float(probabilities[name]) for name in sorted(probabilities)}


def dropping_spec(observation_spec: Mapping[str, specs.Array], names: Any) -> dict[str, specs.Array]:
    """The spec with a flag beside each of the names, in whose bounds 0 now lies."""
    found = dict(observation_spec)
    for name in names:
        spec = found[name]
        if isinstance(spec, specs.BoundedArray) and not isinstance(spec, specs.DiscreteArray):
            low, high = np.minimum(spec.minimum, 0), np.maximum(spec.maximum, 0)
            found[name] = specs.BoundedArray(spec.shape, spec.dtype, low, high, spec.name)
        found[present_key(name)] = specs.Array((), np.bool_, present_key(name))
    return found


def hide(observation: Mapping[str, Any], present: Mapping[str, Any], library: Any) -> dict[str, Any]:
    """The observation with zeros for what is not present, and the flags; `library` is NumPy or JAX's."""
    shown = dict(observation)
    for name, there in present.items():
        shown[name] = library.where(there, observation[name], library.zeros_like(observation[name]))
        shown[present_key(name)] = there
    return shown


def present_key(name: str) -> str:
    """The key of the flag beside the key `name`."""
    return f"{name}_present"
