"""The one wrapper that resets."""

from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp

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
    """

    def __init__(self, environment: Environment):
        self._environment = environment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def reset(self, key: jax.Array, task: Task) -> tuple[AutoResetState, dm_env.TimeStep]:
        state, timestep = self._environment.reset(key, task)
        return AutoResetState(state, timestep.observation), timestep

    def step(
        self, key: jax.Array, task: Task, state: AutoResetState, action: jax.Array
    ) -> tuple[AutoResetState, dm_env.TimeStep]:
        step_key, reset_key = jax.random.split(key)
        inner, timestep = self._environment.step(step_key, task, state.inner, action)
        fresh, first = self._environment.reset(reset_key, task)
        last = timestep.step_type == LAST

        def pick(new, old):
            return jax.tree.map(lambda a, b: jnp.where(last, a, b), new, old)

        merged = timestep._replace(observation=pick(first.observation, timestep.observation))
        return AutoResetState(pick(fresh, inner), timestep.observation), merged

    def markov_observation(self, state: AutoResetState) -> Observation:
        return self._environment.markov_observation(state.inner)
