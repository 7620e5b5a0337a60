"""Pure JAX to a gymnasium vector environment."""

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from ._host import conform_action, reset_streams, seed_key, seed_task, step_streams, to_numpy
from ._jax_to_gymnasium import check_options
from ._types import LAST, Environment, Task
from .spec_space import as_sample, sample_dtype, space_from_spec
from .tasks import check_task


class JaxToGymnasiumVector(gymnasium.vector.VectorEnv):
    """Copies of a pure-JAX environment in one compiled call; see `to_gymnasium_vector`."""

    def __init__(self, environment: Environment, num_envs: int, tasks: Task | None, seed: int):
        if num_envs < 1:
            raise ValueError(f"A vector environment needs at least one copy, got {num_envs}.")
        self.num_envs = num_envs
        self.metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        self._environment = environment
        self._observation_spec = environment.observation_spec()
        self._action_spec = environment.action_spec()
        self.single_observation_space = space_from_spec(self._observation_spec)
        self.single_action_space = space_from_spec(self._action_spec)
        batch = functools.partial(gymnasium.vector.utils.batch_space, n=num_envs)
        self.observation_space = batch(self.single_observation_space)
        self.action_space = batch(self.single_action_space)

        seeds = [seed + i for i in range(num_envs)]
        if tasks is None:
            each = [seed_task(environment, s) for s in seeds]
        else:
            sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tasks)}
            if sizes != {(num_envs,)}:
                raise ValueError(
                    f"{num_envs} copies need tasks stacked [{num_envs}, …], got leading axes {sizes}."
                )
            rows = [jax.tree.map(lambda x, i=i: np.asarray(x)[i], tasks) for i in range(num_envs)]
            each = [check_task(environment, row) for row in rows]
        self._tasks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        self._keys = jnp.stack([seed_key(s) for s in seeds])
        self._states = None

    @property
    def tasks(self) -> Any:
        """The tasks of the copies, stacked [num_envs, …], as NumPy arrays."""
        return to_numpy(self._tasks)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        check_options(options, set())
        if seed is not None:
            given: Any = seed  # NumPy's integers and arrays serve too.
            seeds = [given + i for i in range(self.num_envs)] if np.ndim(given) == 0 else list(given)
            if len(seeds) != self.num_envs:
                raise ValueError(f"{self.num_envs} copies need as many seeds, got {len(seeds)}.")
            keys = [old if s is None else seed_key(s) for s, old in zip(seeds, self._keys, strict=True)]
            self._keys = jnp.stack(keys)
        self._keys, self._states, timesteps = reset_streams(self._environment, self._keys, self._tasks)
        observations = as_batch(to_numpy(timesteps.observation), self._observation_spec)
        return observations, {"task": self.tasks, "_task": np.ones(self.num_envs, bool)}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._states is None:
            raise gymnasium.error.ResetNeeded("No episode has begun: call reset() before step().")
        actions = conform_action(self._action_spec, actions, (self.num_envs,))
        self._keys, self._states, timesteps, observations, _ = step_streams(
            self._environment, self._keys, self._tasks, self._states, actions
        )
        timesteps, observations = to_numpy((timesteps, observations))
        last = timesteps.step_type == LAST
        terminated = last & (timesteps.discount == 0)
        return (
            as_batch(observations, self._observation_spec),
            timesteps.reward.astype(np.float64),
            terminated,
            last & ~terminated,
            self._final(timesteps.observation, last),
        )

    def _final(self, observations: Any, last: np.ndarray) -> dict[str, Any]:
        """The infos of gymnasium's SAME_STEP mode: what ended episodes led to."""
        if not last.any():
            return {}
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(last):
            row = jax.tree.map(lambda x, i=i: x[i], observations)
            final[i] = as_sample(row, self._observation_spec)
        return {"final_obs": final, "_final_obs": last.copy(), "final_info": {}, "_final_info": last.copy()}


def as_batch(observations: Any, spec: Any) -> Any:
    """Batched observations with sequences as tuples, writable."""
    if isinstance(spec, dict):
        return {key: as_batch(observations[key], inner) for key, inner in spec.items()}
    if isinstance(spec, (tuple, list)):
        return tuple(as_batch(part, inner) for part, inner in zip(observations, spec, strict=True))
    return np.array(observations, sample_dtype(spec))


def to_gymnasium_vector(
    environment: Environment, num_envs: int, tasks: Task | None = None, seed: int = 0
) -> JaxToGymnasiumVector:
    """Copies of a pure-JAX environment as a `gymnasium.vector.VectorEnv`: one vmapped, compiled call a step.

    The autoreset mode is gymnasium's SAME_STEP: a step that ends an episode returns the next one's first
    observation, and the ended one's last in `infos["final_obs"]`. Copy i sees the episodes that
    `to_gymnasium(environment, tasks[i], seed + i)` sees.

    Args:
      environment: a pure-JAX environment that does not reset by itself.
      num_envs: copies.
      tasks: stacked [num_envs, …]; None samples each copy's from `seed + i`, once per instance. `.tasks`
        and the `infos` of `reset` tell which.
      seed: copy i draws its episodes from `seed + i` until `reset(seed=…)` gives others.

    Raises:
      ValueError: for tasks outside the environment or not `num_envs` of them; at a step, for actions
        outside their spec.
      gymnasium.error.ResetNeeded: for a step before the first reset.
    """
    return JaxToGymnasiumVector(environment, num_envs, tasks, seed)
