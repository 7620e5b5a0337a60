"""gymnasium to dm_env."""

from typing import Any

import dm_env
import gymnasium
import numpy as np
from dm_env import specs

from ._host import conform_action
from .spec_space import as_sample, spec_from_space


class GymnasiumToDmEnv(dm_env.Environment):
    """A `gymnasium.Env` as a `dm_env.Environment`; see `gymnasium_to_dm_env`.

    Attributes:
      info: the dictionary that gymnasium returned with the last time-step.
    """

    def __init__(self, environment: gymnasium.Env, seed: int | None):
        self._environment = environment
        self._observation_spec = spec_from_space(environment.observation_space, "observation")
        self._action_spec = spec_from_space(environment.action_space, "action")
        self._running = False
        self.info: dict[str, Any] = {}
        self._seed = seed

    def reseed(self, seed: int) -> None:
        """Seeds the next reset; steps go on from there."""
        self._seed = seed
        self._running = False

    def reset(self) -> dm_env.TimeStep:
        observation, self.info = self._environment.reset(seed=self._seed)
        self._seed = None  # later resets go on with the environment's own generator
        self._running = True
        return dm_env.restart(as_sample(observation, self._observation_spec))

    def step(self, action: Any) -> dm_env.TimeStep:
        if not self._running:
            return self.reset()
        if isinstance(self._action_spec, specs.Array):
            action = conform_action(self._action_spec, action)
        action = as_sample(action, self._action_spec)
        observation, reward, terminated, truncated, self.info = self._environment.step(action)
        observation = as_sample(observation, self._observation_spec)
        self._running = not (terminated or truncated)
        step_type = dm_env.StepType.MID if self._running else dm_env.StepType.LAST
        discount = np.float64(0.0 if terminated else 1.0)
        return dm_env.TimeStep(step_type, np.float64(reward), discount, observation)

    def observation_spec(self) -> Any:
        return self._observation_spec

    def action_spec(self) -> Any:
        return self._action_spec

    def reward_spec(self) -> specs.Array:
        return specs.Array((), np.float64, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float64, 0.0, 1.0, "discount")

    def close(self) -> None:
        self._environment.close()


def gymnasium_to_dm_env(
    environment: str | gymnasium.Env, seed: int | None = None, **kwargs: Any
) -> GymnasiumToDmEnv:
    """A `gymnasium.Env` as a `dm_env.Environment`.

    The discount is 0 where gymnasium says `terminated` (also where it says `truncated` beside it), else 1.
    `step` after a last time-step begins a new episode. `.info` keeps gymnasium's dictionary.

    Args:
      environment: an instance, or an id for `gymnasium.make` (`"module:Id-v0"` imports the module first).
      seed: of the first reset; None leaves it to gymnasium.
      **kwargs: for `gymnasium.make`.

    Raises:
      ValueError: for an unknown id, arguments beside an instance, or spaces that no dm_env spec describes.
    """
    if isinstance(environment, str):
        try:
            environment = gymnasium.make(environment, **kwargs)
        except (gymnasium.error.Error, ModuleNotFoundError) as error:
            raise ValueError(f"gymnasium cannot make {environment!r}: {error}") from error
    elif kwargs:
        raise ValueError(f"Arguments {sorted(kwargs)} are for an id; the environment is an instance already.")
    return GymnasiumToDmEnv(environment, seed)
