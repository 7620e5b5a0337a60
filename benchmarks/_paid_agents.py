"""A language-conditioned PPO agent, trained by whatever reward, in compiled chunks."""

import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.agents import EXPLORE, PPOConfig, Trajectory, make_torso, ppo
from limbeck.rewards.paid import Paid, Pay

from limbeck import envs


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """How an agent learns.

    Attributes:
      ppo: its settings; `hidden` are the last layers of the torso `goal`.
      streams: environments.
      unroll: steps between updates.
      chunk: updates of a compiled call.
      judged: episodes of an evaluation on held-out goals.
      played: episodes that are kept at every evaluation, on goals of training.
    """

    ppo: PPOConfig = PPOConfig(
        learning_rate=5e-4, entropy_cost=0.02, epochs=3, minibatches=8, hidden=(256, 128)
    )
    streams: int = 64
    unroll: int = 64
    chunk: int = 8
    judged: int = 256
    played: int = 512


class Curve(NamedTuple):
    """A training, by chunks.

    Attributes:
      steps: environment steps so far.
      labelled: share of the ended episodes that were paid 1.
      true: share of the ended episodes in which the goal was true at some time.
      first_hits: episodes that were paid 1.
      right_hits: those of them in which the goal was true at that step.
      held_out: share of episodes on held-out goals in which the goal became true, by the agent at that time; NaN
        where it was not judged.
      seconds: since the beginning, compilation included.
    """

    steps: list[int]
    labelled: list[float]
    true: list[float]
    first_hits: list[int]
    right_hits: list[int]
    held_out: list[float]
    seconds: list[float]


class Plays(NamedTuple):
    """Episodes to their horizon, whatever is paid.

    Attributes:
      symbols: uint8 `[E, T, …]`, after each action.
      goal: int32 `[E]`, its number.
    """

    symbols: np.ndarray
    goal: np.ndarray


def train(
    environment: Any,
    pay: Pay,
    goals: np.ndarray,
    held_out: np.ndarray,
    steps: int,
    seed: int,
    config: AgentConfig,
    evaluations: int = 8,
) -> tuple[Curve, list[Plays]]:
    """Trains on some goals and evaluates on others, by the truth.

    Args:
      environment: that pays nothing by itself.
      pay: the reward.
      goals: numbers of the goals of training.
      held_out: numbers of the others.
      steps: of the environment.
      seed: of everything.
      config: how.
      evaluations: after the first chunk, the last, and so many less two evenly between.

    Returns:
      The training, and what the agent of each evaluation played.
    """
    world = envs.SampledTasks(Paid(environment, pay), goals.tolist())
    torso = make_torso("goal", environment.observation_spec(), hidden=config.ppo.hidden)
    agent = ppo(environment.observation_spec(), environment.action_spec(), config.ppo, torso)
    of_init, of_reset, of_run = jax.random.split(jax.random.key(seed), 3)
    learner = jax.jit(agent.init)(of_init)
    actors = jax.jit(jax.vmap(world.reset, (0, None)))(jax.random.split(of_reset, config.streams), 0)
    run = jax.jit(functools.partial(_chunk, agent, world, config), donate_argnums=(0, 1))
    judge, player = (
        jax.jit(functools.partial(_play, agent, envs.SampledTasks(environment, some.tolist()), count))
        for some, count in ((held_out, config.judged), (goals, config.played))
    )
    curve, plays = Curve([], [], [], [], [], [], []), []
    chunk_steps = config.streams * config.unroll * config.chunk
    chunks = -(-steps // chunk_steps)
    judged = set(np.linspace(0, chunks - 1, min(evaluations, chunks)).round().astype(int).tolist())
    began = time.perf_counter()
    for chunk in range(chunks):
        learner, actors, ended = run(learner, actors, jax.random.fold_in(of_run, chunk))
        episodes, hits, true, right = (int(x) for x in ended)
        curve.steps.append((chunk + 1) * chunk_steps)
        curve.labelled.append(hits / max(1, episodes))
        curve.true.append(true / max(1, episodes))
        curve.first_hits.append(hits)
        curve.right_hits.append(right)
        held = float("nan")
        if chunk in judged:
            of_judge, of_player = (jax.random.fold_in(of_run, 10**6 * i + chunk) for i in (1, 2))
            held = float(judge(learner.params, of_judge)[0].mean())
            _, symbols, goal = player(learner.params, of_player)
            plays.append(Plays(np.asarray(symbols), np.asarray(goal, np.int32)))
        curve.held_out.append(held)
        curve.seconds.append(round(time.perf_counter() - began, 2))
    return curve, plays


def _chunk(agent: Any, world: Any, config: AgentConfig, learner: Any, actors: Any, key: jax.Array) -> Any:
    """`chunk` updates; returns learner, actors, and of the episodes that ended: all, paid, true, paid and true."""

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
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, number), time), config.streams)
            actors, row, ended = jax.vmap(one, (None, 0, 0, 0))(learner.params, keys, *actors)
            return actors, (row, jnp.stack(ended).sum(1))

        actors, (rows, ended) = jax.lax.scan(step, actors, jnp.arange(config.unroll))
        weights = jnp.ones((config.streams,), jnp.float32)
        learner, _, _ = agent.update(
            learner, jax.random.fold_in(key, 10**6 + number), rows._replace(memory=()), weights
        )
        return (learner, actors), ended.sum(0)

    (learner, actors), ended = jax.lax.scan(update, (learner, actors), jnp.arange(config.chunk))
    return learner, actors, ended.sum(0)


def _play(agent: Any, world: Any, episodes: int, params: Any, key: jax.Array) -> Any:
    """Episodes of which none ends early: whether the goal became true `[E]`, symbols `[E, T, …]`, goals `[E]`."""

    def episode(key):
        of_reset, of_steps = jax.random.split(key)
        state, timestep = world.reset(of_reset, 0)

        def step(carry, key):
            state, timestep = carry
            of_act, of_step = jax.random.split(key)
            action, _, _ = agent.act(params, (), of_act, timestep, EXPLORE)
            state, timestep = world.step(of_step, 0, state, action)
            return (state, timestep), timestep.observation["symbols"]

        keys = jax.random.split(of_steps, world.max_steps)
        (state, _), symbols = jax.lax.scan(step, (state, timestep), keys)
        return state.inner.reached, symbols, state.drawn

    return jax.vmap(episode)(jax.random.split(key, episodes))
