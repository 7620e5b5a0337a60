"""Pure JAX to dm_env."""

from collections.abc import Callable
from typing import Any

import dm_env
import numpy as np

from ._host import Host, to_numpy
from ._types import Environment, Task


class JaxToDmEnv(dm_env.Environment):
    """A pure-JAX environment with one task, as a `dm_env.Environment`; see `to_dm_env`.

    Attributes:
      host: what is stepped.
    """

    def __init__(self, environment: Environment, task: Task | None, seed: int):
        self.host = Host(environment, task, seed)

    @property
    def task(self) -> Any:
        """The task of this instance, as NumPy arrays."""
        return to_numpy(self.host.task)

    @property
    def success(self) -> Callable[[], bool]:
        """`success()`: whether the episode that ended last reached its goal, where the environment knows."""
        if not self.host.tells_success:
            raise AttributeError(f"{self.host.environment.name} does not tell success")
        return lambda: self.host.success

    @property
    def success_so_far(self) -> Callable[[], bool]:
        """`success_so_far()`: whether the running episode has reached its goal, where the environment knows."""
        if not self.host.tells_success:
            raise AttributeError(f"{self.host.environment.name} does not tell success")
        return lambda: self.host.success_so_far

    @property
    def goal(self) -> str:
        """The goal of the episode in words, where the environment has `goals` by the number of the task."""
        goals, task = getattr(self.host.environment, "goals", None), self.host.episode_task
        if goals is None or task is None:
            raise AttributeError(f"{self.host.environment.name} has no goals in words, or no episode yet")
        return goals[int(task)].text()

    def reseed(self, seed: int) -> None:
        """Draws the episodes from `seed` on as a new instance would; the task stays."""
        self.host.reseed(seed)

    def reset(self) -> dm_env.TimeStep:
        return dm_env.restart(self.host.reset().observation)

    def step(self, action: Any) -> dm_env.TimeStep:
        if self.host.needs_reset:
            return self.reset()
        step_type, reward, discount, observation = self.host.step(action)
        return dm_env.TimeStep(
            dm_env.StepType(int(step_type)), np.float32(reward), np.float32(discount), observation
        )

    def observation_spec(self) -> Any:
        return self.host.environment.observation_spec()

    def action_spec(self) -> Any:
        return self.host.environment.action_spec()

    def reward_spec(self) -> Any:
        return self.host.environment.reward_spec()

    def discount_spec(self) -> Any:
        return self.host.environment.discount_spec()


def to_dm_env(environment: Environment, task: Task | None = None, seed: int = 0) -> JaxToDmEnv:
    """A pure-JAX environment as a `dm_env.Environment` on the host.

    As dm_env wants it, a first time-step has neither reward nor discount, and `step` after a last one
    begins a new episode. Discounts are the environment's: 0 at termination, 1 at truncation.

    Args:
      environment: a pure-JAX environment that does not reset by itself.
      task: its task for good; None samples one from `seed`. Either way `.task` tells which.
      seed: of the episodes' randomness; `.reseed(seed)` starts it again.

    Raises:
      ValueError: for a task outside the environment; at a step, for an action outside its spec.
    """
    return JaxToDmEnv(environment, task, seed)
