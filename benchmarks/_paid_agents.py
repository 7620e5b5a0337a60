"""A language-conditioned PPO agent, trained by whatever reward, in compiled chunks."""

import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from limbeck.agents import EXPLORE, PPOConfig, make_torso, ppo
from limbeck.rewards.paid import Paid, Pay

from limbeck import envs

from ._compiled_learning import Learning, learn


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
    learning = Learning(config.streams, config.unroll, config.chunk)
    run = jax.jit(functools.partial(learn, agent, world, learning, _hits), donate_argnums=(0, 1))
    judge, player = (
        jax.jit(functools.partial(_play, agent, envs.SampledTasks(environment, some.tolist()), count))
        for some, count in ((held_out, config.judged), (goals, config.played))
    )
    curve, plays = Curve([], [], [], [], [], [], []), []
    chunk_steps = learning.steps
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


def _hits(state: Any, led_to: Any) -> tuple[jax.Array, ...]:
    """Of an episode that ends: that it did; that it was paid; that its goal was true at some time; and when paid."""
    last = led_to.step_type == envs.LAST
    paid = last & (led_to.reward >= 1)
    return last, paid, last & state.inner.reached, paid & (state.inner.true_reward > 0)


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
