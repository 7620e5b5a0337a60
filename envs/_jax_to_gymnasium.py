"""Pure JAX to gymnasium."""

from typing import Any

import dm_env
import gymnasium

from ._host import Host, to_numpy
from ._types import LAST, Environment, Task
from .spec_space import as_sample, space_from_spec
from .tasks import check_task


class JaxToGymnasium(gymnasium.Env):
    """A pure-JAX environment with one task, as a `gymnasium.Env`; see `to_gymnasium`."""

    metadata = {"render_modes": []}
    render_mode = None

    def __init__(self, environment: Environment, task: Task | None, seed: int):
        self._host = Host(environment, task, seed)
        self._observation_spec = environment.observation_spec()
        self.observation_space = space_from_spec(self._observation_spec)
        self.action_space = space_from_spec(environment.action_spec())

    @property
    def task(self) -> Any:
        """The present task, as NumPy arrays."""
        return to_numpy(self._host.task)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        check_options(options, {"task"})
        if seed is not None:
            self._host.reseed(seed)
        if options and "task" in options:
            self._host.task = check_task(self._host.environment, options["task"])
        timestep = self._host.reset()
        return self._observe(timestep), {"task": self.task}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if self._host.needs_reset:
            raise gymnasium.error.ResetNeeded(
                "The episode has ended or not begun: call reset() before step()."
            )
        timestep = self._host.step(action)
        last = bool(timestep.step_type == LAST)
        terminated = last and bool(timestep.discount == 0)
        return self._observe(timestep), float(timestep.reward), terminated, last and not terminated, {}

    def _observe(self, timestep: dm_env.TimeStep) -> Any:
        return as_sample(timestep.observation, self._observation_spec)


def check_options(options: dict[str, Any] | None, known: set[str]) -> None:
    """Raises ValueError for a reset option that is not known."""
    for option in options or {}:
        if option not in known:
            raise ValueError(
                f"There is no reset option {option!r}; known: {', '.join(sorted(known)) or 'none'}."
            )


def to_gymnasium(environment: Environment, task: Task | None = None, seed: int = 0) -> JaxToGymnasium:
    """A pure-JAX environment as a `gymnasium.Env` on the host.

    A last step with discount 0 is `terminated`, any other last step `truncated`.

    Args:
      environment: a pure-JAX environment that does not reset by itself.
      task: its task; None samples one from `seed`, once per instance. `.task` and the `info` of `reset`
        tell which, and `reset(options={"task": …})` replaces it.
      seed: of the episodes' randomness until `reset(seed=…)` gives another; that leaves the task as it is.

    Raises:
      ValueError: for a task outside the environment; at a step, for an action outside its spec.
      gymnasium.error.ResetNeeded: for a step after an episode's last.
    """
    return JaxToGymnasium(environment, task, seed)
