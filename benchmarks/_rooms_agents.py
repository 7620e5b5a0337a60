"""A language-conditioned PPO agent in Rooms, trained by whatever reward, in compiled chunks."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.agents import EXPLORE, PPOConfig, Trajectory, ppo
from limbeck.rewards.paid import Paid, Pay

from limbeck import envs


STREAMS, UNROLL, CHUNK = 64, 64, 8  # Environments, steps between updates, updates of a compiled call.
PPO = PPOConfig(learning_rate=5e-4, entropy_cost=0.02, epochs=3, minibatches=8, hidden=(256, 128))
VIEWS = ("symbols", "direction", "text")


class Curve(NamedTuple):
    """A training, by chunks.

    Attributes:
      steps: environment steps so far.
      labelled: share of the ended episodes that were paid 1.
      true: share of the ended episodes in which the goal was true at some time.
      first_hits: episodes that were paid 1.
      right_hits: those of them in which the goal was true at that step.
      held_out: share of episodes on held-out goals in which the goal became true, by the agent at that time.
    """

    steps: list[int]
    labelled: list[float]
    true: list[float]
    first_hits: list[int]
    right_hits: list[int]
    held_out: list[float]


def train(
    room: Any,
    pay: Pay,
    goals: np.ndarray,
    held_out: np.ndarray,
    steps: int,
    seed: int,
    evaluate_every: int = 4,
) -> Curve:
    """Trains on some goals and evaluates on others, by the truth.

    Args:
      room: of `make("rooms", reward="none", views=VIEWS)`.
      pay: the reward.
      goals: numbers of the goals of training.
      held_out: numbers of the others.
      steps: of the environment.
      seed: of everything.
      evaluate_every: chunks between two evaluations.
    """
    world = envs.SampledTasks(Paid(room, pay), goals.tolist())
    agent = ppo(room.observation_spec(), room.action_spec(), PPO)
    of_init, of_reset, of_run = jax.random.split(jax.random.key(seed), 3)
    learner = jax.jit(agent.init)(of_init)
    actors = jax.jit(jax.vmap(world.reset, (0, None)))(jax.random.split(of_reset, STREAMS), 0)
    run = jax.jit(functools.partial(_chunk, agent, world), donate_argnums=(0, 1))
    play = jax.jit(
        functools.partial(_play, agent, envs.SampledTasks(room, held_out.tolist()), room.max_steps)
    )
    curve = Curve([], [], [], [], [], [])
    chunks = -(-steps // (STREAMS * UNROLL * CHUNK))
    for chunk in range(chunks):
        learner, actors, ended = run(learner, actors, jax.random.fold_in(of_run, chunk))
        episodes, hits, true, right = (int(x) for x in ended)
        curve.steps.append((chunk + 1) * STREAMS * UNROLL * CHUNK)
        curve.labelled.append(hits / max(1, episodes))
        curve.true.append(true / max(1, episodes))
        curve.first_hits.append(hits)
        curve.right_hits.append(right)
        judged = chunk % evaluate_every == evaluate_every - 1 or chunk == chunks - 1
        held = (
            float(play(learner.params, jax.random.fold_in(of_run, 10**6 + chunk))) if judged else float("nan")
        )
        curve.held_out.append(held)
    return curve


def _chunk(agent: Any, world: Any, learner: Any, actors: Any, key: jax.Array) -> Any:
    """`CHUNK` updates; returns learner, actors, and of the episodes that ended: all, paid, true, paid and true."""

    def one(params, key, state, timestep):
        of_act, of_step, of_reset = jax.random.split(key, 3)
        action, extras, _ = agent.act(params, (), of_act, timestep, EXPLORE)
        after, led_to = world.step(of_step, 0, state, action)
        last = led_to.step_type == envs.LAST
        paid = last & (led_to.reward >= 1)
        row = Trajectory(
            timestep.observation, action, led_to.reward, led_to.discount, led_to.step_type,
            led_to.observation, extras,
        )  # fmt: skip
        first, fresh = world.reset(of_reset, 0)
        state, observation = jax.tree.map(
            lambda a, b: jnp.where(last, a, b), (first, fresh.observation), (after, led_to.observation)
        )
        right = paid & (after.inner.true_reward > 0)
        return (
            (state, led_to._replace(observation=observation)),
            row,
            (last, paid, last & after.inner.reached, right),
        )

    def update(carry, number):
        learner, actors = carry

        def step(actors, time):
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, number), time), STREAMS)
            actors, row, ended = jax.vmap(one, (None, 0, 0, 0))(learner.params, keys, *actors)
            return actors, (row, jnp.stack(ended).sum(1))

        actors, (rows, ended) = jax.lax.scan(step, actors, jnp.arange(UNROLL))
        weights = jnp.ones((STREAMS,), jnp.float32)
        learner, _, _ = agent.update(
            learner, jax.random.fold_in(key, 10**6 + number), rows._replace(memory=()), weights
        )
        return (learner, actors), ended.sum(0)

    (learner, actors), ended = jax.lax.scan(update, (learner, actors), jnp.arange(CHUNK))
    return learner, actors, ended.sum(0)


def _play(agent: Any, judge: Any, steps: int, params: Any, key: jax.Array, episodes: int = 256) -> jax.Array:
    """Share of episodes in which the goal becomes true; nothing is paid and none ends early."""

    def episode(key):
        of_reset, of_steps = jax.random.split(key)
        state, timestep = judge.reset(of_reset, 0)

        def step(carry, key):
            state, timestep = carry
            action, _, _ = agent.act(params, (), key, timestep, EXPLORE)
            state, timestep = judge.step(key, 0, state, action)
            return (state, timestep), None

        (state, _), _ = jax.lax.scan(step, (state, timestep), jax.random.split(of_steps, steps))
        return state.inner.reached

    return jax.vmap(episode)(jax.random.split(key, episodes)).mean()
