"""Any environment by one name, as a host environment."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import gymnasium
import numpy as np
from dm_env import specs

from ._drop_host_sensors import DropHostSensors
from ._gymnasium_to_dm_env import GymnasiumToDmEnv
from ._jax_to_dm_env import to_dm_env
from .drop_sensors import DropSensors
from .factories import check_arguments, import_factory
from .minigrid import minigrid, minigrid_ids
from .registry import environment_names, make
from .sampled_tasks import SampledTasks


_PURE = (
    "sample_task",
    "reset",
    "step",
    "task_spec",
    "observation_spec",
    "action_spec",
    "reward_spec",
    "discount_spec",
)


class Hosted(dm_env.Environment):
    """An environment whose rewards and discounts are Python floats; see `make_hosted`.

    Everything else (`success`, `info`, `task`, `mission`, …) is the environment's own.

    Attributes:
      adapter: the environment.
    """

    def __init__(self, environment: dm_env.Environment, name: str):
        self.adapter = environment
        spec = environment.reward_spec()
        if not isinstance(spec, specs.Array) or spec.shape != ():
            raise ValueError(f"{name} has no scalar reward, which a hosted job needs; its spec is {spec!r}.")

    def __getattr__(self, name: str) -> Any:
        if name == "adapter":  # not set yet, as while it is being copied
            raise AttributeError(name)
        return getattr(self.adapter, name)

    def reset(self) -> dm_env.TimeStep:
        return self.adapter.reset()

    def step(self, action: Any) -> dm_env.TimeStep:
        timestep = self.adapter.step(action)
        if timestep.first():
            return timestep
        return timestep._replace(reward=float(timestep.reward), discount=float(timestep.discount))

    def observation_spec(self) -> Any:
        return self.adapter.observation_spec()

    def action_spec(self) -> Any:
        return self.adapter.action_spec()

    def reward_spec(self) -> Any:
        return _as_float64(self.adapter.reward_spec())

    def discount_spec(self) -> Any:
        return _as_float64(self.adapter.discount_spec())

    def close(self) -> None:
        self.adapter.close()


class _GymnasiumWithSuccess(GymnasiumToDmEnv):
    """A gymnasium environment that has `success` once an episode's last `info` has told it."""

    _told: bool | None = None

    def step(self, action: Any) -> dm_env.TimeStep:
        timestep = super().step(action)
        if timestep.last():
            told = [self.info[key] for key in ("is_success", "success") if key in self.info]
            self._told = bool(told[0]) if told else None
        return timestep

    @property
    def success(self) -> Callable[[], bool]:
        if self._told is None:
            raise AttributeError("the last episode's info had neither is_success nor success")
        return self._success

    def _success(self) -> bool:
        return bool(self._told)

    @property
    def goal(self) -> Any:
        """The environment's own, where it has one: a text or a method that gives it."""
        return getattr(self._environment.unwrapped, "goal")  # noqa: B009  # gymnasium.Env declares none.

    @property
    def mission(self) -> Any:
        """The environment's own, where it has one."""
        return getattr(self._environment.unwrapped, "mission")  # noqa: B009


def make_hosted(
    name: str, seed: int = 0, dropped: Mapping[str, float] | None = None, **kwargs: Any
) -> Hosted:
    """Builds an environment for the host by a name of any kind.

    - `"MiniGrid-DoorKey-8x8-v0"`, `"BabyAI-GoToLocal-v0"`, …: `minigrid(name, seed, **kwargs)`.
    - `"dark_room"`, …: a pure-JAX environment of `make`; `task=` is its task (else sampled from the seed), or
      `"sampled"`: one of all for each episode (`SampledTasks`). Further arguments are its own.
    - `"package.module:factory"`: what `factory(**kwargs)` returns, with `seed=seed` among the arguments where
      it takes that: a `dm_env.Environment`, a `gymnasium.Env` or a pure-JAX environment (`task=` as above).
      The current directory is appended to the search path.
    - Any other gymnasium id, also `"module:Id-v0"`, where the module registers it: `gymnasium.make`.

    Rewards and discounts are Python floats. The environment has `success() -> bool`, the true fact about the
    episode that has just ended, where it is known: for MiniGrid, for pure-JAX environments with a
    `success(state)` (`rooms`), for factories' products that have it, and for gymnasium environments once their
    last `info` has `is_success` or `success`. So look for it at the end of an episode, not before the first.

    Args:
      name: see above.
      seed: of the episodes.
      dropped: by key of the observation, the probability that it is missing in an episode (`DropSensors`), drawn
        from the seed. The episodes are otherwise those without it.
      **kwargs: see above.

    Raises:
      ValueError: for an unknown name, with close matches; a factory that cannot be imported or that returns
        something else; an environment without a scalar reward; arguments that the environment refuses; sensors
        that cannot be dropped.
    """
    environment, task = _build(name, seed, kwargs)
    if not isinstance(environment, dm_env.Environment):
        # The wrapper inside, so that streams of equal environments are stepped together.
        environment = environment if dropped is None else DropSensors(environment, dropped)
        return Hosted(_from_pure(environment, task, seed), name)
    if dropped is not None:
        environment = DropHostSensors(environment, dropped, seed)
    return Hosted(environment, name)


def _build(name: str, seed: int, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """A `dm_env.Environment` and None, or a pure-JAX environment and the task that was asked for."""
    if name in environment_names():
        task = kwargs.pop("task", None)
        return make(name, **kwargs), task
    if name.startswith(("MiniGrid-", "BabyAI-")):
        return minigrid(name, seed, **kwargs), None
    _, colon, attribute = name.partition(":")
    if colon and attribute.isidentifier():
        return _from_factory(name, import_factory(name), seed, kwargs)
    try:
        gymnasium.spec(name)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise ValueError(f"There is no environment {name!r}. {_suggestion(name)}") from error
    try:
        return _GymnasiumWithSuccess(gymnasium.make(name, **kwargs), seed), None
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"gymnasium cannot make {name!r}: {error}") from error


def _from_factory(
    name: str, factory: Callable[..., Any], seed: int, kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    parameters = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    arguments = {"seed": seed} if "seed" in parameters or open_ended else {}
    task = None if "task" in parameters else kwargs.pop("task", None)
    check_arguments(name, factory, {**arguments, **kwargs})
    product = factory(**arguments, **kwargs)
    if isinstance(product, gymnasium.Env):
        adapted: dm_env.Environment = _GymnasiumWithSuccess(product, seed)
    elif isinstance(product, dm_env.Environment):
        adapted = product
    elif all(callable(getattr(product, member, None)) for member in _PURE):
        return product, task
    else:
        raise ValueError(
            f"{name} returned {product!r}; a dm_env.Environment, a gymnasium.Env or a "
            "pure-JAX environment (limbeck.envs.Environment) was expected."
        )
    if task is not None:
        raise ValueError(f"{name} returned {product!r}, which has no argument 'task'.")
    return adapted, None


def _from_pure(environment: Any, task: Any, seed: int) -> dm_env.Environment:
    if isinstance(task, str) and task == "sampled":
        environment, task = SampledTasks(environment), None
    return to_dm_env(environment, task, seed)


def _suggestion(name: str) -> str:
    known = {*environment_names(), *minigrid_ids(), *gymnasium.registry}
    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}`limbeck envs` and `limbeck envs --minigrid` list names; package.module:factory works too."


def _as_float64(spec: Any) -> specs.Array:
    if isinstance(spec, specs.BoundedArray):
        return specs.BoundedArray((), np.float64, spec.minimum, spec.maximum, spec.name)
    return specs.Array((), np.float64, spec.name)
