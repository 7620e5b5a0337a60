"""The one wrapper that resets."""

from typing import Any, NamedTuple

import dm_env
import jax

from ._types import LAST, Environment, Observation, State, Task


class AutoResetState(NamedTuple):
    """`inner` is the wrapped environment's state; `final_observation` what the last action led to.

    After a LAST step `final_observation` is the ended episode's last observation, which the
    merged time-step no longer shows; after any other step it equals the time-step's observation.
    """

    inner: State
    final_observation: Observation


class AutoReset:
    """Joins episodes into one stream by resetting as soon as an episode ends.

    A step that ends an episode returns its own reward, discount and step_type (LAST) together
    with the *first observation of the next episode*. So row t of a stream is
    `(o_t, a_t, r_{t+1}, discount_{t+1}, step_type_{t+1})`, and a policy that sees the time-step
    has the reward of the episode before in hand when it acts at a new episode's first step.

    The reset runs only where an episode has ended (`lax.cond`, which vmap turns into a select), so a
    host environment behind a callback is not reset in mid-episode.
    """

    def __init__(self, environment: Environment):
        self._environment = environment

    def __getattr__(self, name: str) -> Any:
        if name == "_environment":  # not yet set while being unpickled or copied
            raise AttributeError(name)
        return getattr(self._environment, name)

    @property
    def unwrapped(self) -> Environment:
        """The environment that does not reset by itself."""
        return self._environment

    def reset(self, key: jax.Array, task: Task) -> tuple[AutoResetState, dm_env.TimeStep]:
        state, timestep = self._environment.reset(key, task)
        return AutoResetState(state, timestep.observation), timestep

    def step(
        self, key: jax.Array, task: Task, state: AutoResetState, action: jax.Array
    ) -> tuple[AutoResetState, dm_env.TimeStep]:
        step_key, reset_key = jax.random.split(key)
        inner, timestep = self._environment.step(step_key, task, state.inner, action)

        def fresh():
            first_state, first = self._environment.reset(reset_key, task)
            return first_state, first.observation

        inner, observation = jax.lax.cond(
            timestep.step_type == LAST, fresh, lambda: (inner, timestep.observation)
        )
        merged = timestep._replace(observation=observation)
        return AutoResetState(inner, timestep.observation), merged

    def markov_observation(self, state: AutoResetState) -> Observation:
        return self._environment.markov_observation(state.inner)
