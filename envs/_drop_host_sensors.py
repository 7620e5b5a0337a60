"""`DropSensors` for host environments."""

from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import numpy as np

from .drop_sensors import check_dropped, dropping_spec, hide


# Beside the seed, so that no draw repeats one of the environment's.
_STREAM = 0x5E2507


class DropHostSensors(dm_env.Environment):
    """Drops keys of the observations for whole episodes, as `DropSensors` does; all else is the environment's."""

    def __init__(self, environment: dm_env.Environment, probabilities: Mapping[str, float], seed: int):
        self._environment = environment
        self._probabilities = check_dropped(environment.observation_spec(), probabilities)
        self._present: dict[str, np.bool_] = {}
        self._seed(seed)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Not yet set while being copied.
            raise AttributeError(name)
        return getattr(self._environment, name)

    @property
    def reseed(self) -> Callable[[int], None]:
        """`reseed(seed)`: the next reset draws as that of a new instance would, where the environment can do so."""
        reseed = getattr(self._environment, "reseed")  # noqa: B009  # Only some have it.

        def both(seed: int) -> None:
            reseed(seed)
            self._seed(seed)

        return both

    def reset(self) -> dm_env.TimeStep:
        return self._shown(self._environment.reset())

    def step(self, action: Any) -> dm_env.TimeStep:
        return self._shown(self._environment.step(action))

    def observation_spec(self) -> Any:
        spec: Any = self._environment.observation_spec()
        return dropping_spec(spec, self._probabilities)

    def action_spec(self) -> Any:
        return self._environment.action_spec()

    def reward_spec(self) -> Any:
        return self._environment.reward_spec()

    def discount_spec(self) -> Any:
        return self._environment.discount_spec()

    def close(self) -> None:
        self._environment.close()

    def _seed(self, seed: int) -> None:
        self._luck = np.random.default_rng([seed, _STREAM])

    def _shown(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
        # A step after a last one begins an episode too.
        if timestep.first():
            luck = self._luck.random(len(self._probabilities))
            there = luck >= list(self._probabilities.values())
            self._present = dict(zip(self._probabilities, there, strict=True))
        return timestep._replace(observation=hide(timestep.observation, self._present, np))
