"""A chunk of learning from a pure-JAX environment in one compiled call, with counts of what happened."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from limbeck.agents import EXPLORE, Agent, Trajectory

from limbeck import envs


class Learning(NamedTuple):
    """streams: environments; unroll: steps of each between updates; updates: of a call."""

    streams: int
    unroll: int
    updates: int

    @property
    def steps(self) -> int:
        """Environment steps of a call."""
        return self.streams * self.unroll * self.updates


def learn(
    agent: Agent,
    world: Any,
    config: Learning,
    counts: Callable[[Any, Any], tuple[jax.Array, ...]],
    learner: Any,
    actors: Any,
    key: jax.Array,
) -> tuple[Any, Any, jax.Array]:
    """`config.updates` updates of an agent without memory.

    Args:
      agent: feed-forward.
      world: an environment that draws its own tasks and is not wrapped in `AutoReset`.
      config: how much.
      counts: `(state, timestep) -> bools`, of a stream after a step, before it begins a new episode.
      learner: the agent's state.
      actors: (states, time-steps) of the streams.
      key: of this call.

    Returns:
      learner, actors, and how often each of the bools was true, `[counts]`.
    """

    def one(params, key, state, timestep):
        of_act, of_step, of_reset = jax.random.split(key, 3)
        action, extras, _ = agent.act(params, (), of_act, timestep, EXPLORE)
        after, led_to = world.step(of_step, 0, state, action)
        last = led_to.step_type == envs.LAST
        row = Trajectory(
            timestep.observation, action, led_to.reward, led_to.discount, led_to.step_type,
            led_to.observation, extras,
        )  # fmt: skip
        first, fresh = world.reset(of_reset, 0)
        state, observation = jax.tree.map(
            lambda a, b: jnp.where(last, a, b), (first, fresh.observation), (after, led_to.observation)
        )
        return (state, led_to._replace(observation=observation)), row, counts(after, led_to)

    def update(carry, number):
        learner, actors = carry

        def step(actors, time):
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, number), time), config.streams)
            actors, row, counted = jax.vmap(one, (None, 0, 0, 0))(learner.params, keys, *actors)
            return actors, (row, jnp.stack(counted).sum(1))

        actors, (rows, counted) = jax.lax.scan(step, actors, jnp.arange(config.unroll))
        weights = jnp.ones((config.streams,), jnp.float32)
        learner, _, _ = agent.update(
            learner, jax.random.fold_in(key, 10**6 + number), rows._replace(memory=()), weights
        )
        return (learner, actors), counted.sum(0)

    (learner, actors), counted = jax.lax.scan(update, (learner, actors), jnp.arange(config.updates))
    return learner, actors, counted.sum(0)
