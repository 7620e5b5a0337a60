"""dm_env to gymnasium."""

import warnings
from collections.abc import Callable
from typing import Any

import dm_env
import gymnasium

from ._jax_to_gymnasium import check_options
from .spec_space import as_sample, space_from_spec


class DmEnvToGymnasium(gymnasium.Env):
    """A `dm_env.Environment` as a `gymnasium.Env`; see `dm_env_to_gymnasium`."""

    metadata = {"render_modes": []}
    render_mode = None

    def __init__(self, environment: dm_env.Environment | Callable[[int], dm_env.Environment]):
        if isinstance(environment, dm_env.Environment):
            self._factory, self._environment = None, environment
        else:
            self._factory, self._environment = environment, environment(0)
        self._observation_spec = self._environment.observation_spec()
        self._action_spec = self._environment.action_spec()
        self.observation_space = space_from_spec(self._observation_spec)
        self.action_space = space_from_spec(self._action_spec)
        self._running = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        check_options(options, set())
        if seed is not None:
            self._reseed(seed)
        timestep = self._environment.reset()
        self._running = True
        return as_sample(timestep.observation, self._observation_spec), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if not self._running:
            raise gymnasium.error.ResetNeeded(
                "The episode has ended or not begun: call reset() before step()."
            )
        timestep = self._environment.step(as_sample(action, self._action_spec))
        last = timestep.last()
        self._running = not last
        terminated = last and float(timestep.discount) == 0
        observation = as_sample(timestep.observation, self._observation_spec)
        info = {"discount": float(timestep.discount)}
        return observation, float(timestep.reward), terminated, last and not terminated, info

    def close(self) -> None:
        self._environment.close()

    def _reseed(self, seed: int) -> None:
        if self._factory is not None:
            self._environment.close()
            self._environment = self._factory(seed)
        elif (reseed := getattr(self._environment, "reseed", None)) is not None:
            reseed(seed)
        else:
            warnings.warn(
                f"reset(seed={seed}) cannot reseed a {type(self._environment).__name__}: dm_env knows "
                "no seeds. Give dm_env_to_gymnasium a factory `seed -> environment` instead.",
                stacklevel=3,
            )


def dm_env_to_gymnasium(
    environment: dm_env.Environment | Callable[[int], dm_env.Environment],
) -> DmEnvToGymnasium:
    """A `dm_env.Environment` as a `gymnasium.Env`.

    A last step with discount 0 is `terminated`, any other last step `truncated`; `info["discount"]` is
    dm_env's discount, which gymnasium has no other place for.

    Args:
      environment: an instance, or a factory `seed -> instance`. dm_env environments cannot be reseeded:
        `reset(seed=…)` builds a new one where there is a factory, calls `reseed(seed)` where the instance
        has it (those of this module do), and else warns that the seed has no effect.

    Raises:
      ValueError: for specs that no gymnasium space describes.
      gymnasium.error.ResetNeeded: for a step after an episode's last.
    """
    return DmEnvToGymnasium(environment)
