"""Agents that give a curve its meaning: random, optimal and posterior sampling.

They know the environment's dynamics and must only find out (or, optimal, are told) the task. None of
them has anything to train: `init` returns an empty state and `update` changes nothing.
"""

import functools
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
from dm_env import specs

from ..envs import (
    DOWN,
    FIRST,
    LAST,
    LEFT,
    RIGHT,
    STAY,
    UP,
    AdversarialBandit,
    DarkRoom,
    Environment,
    KeyToDoor,
)
from ._types import EVALUATE, Agent


REFERENCES = ("random", "optimal", "posterior_sampling")


class ReferenceState(NamedTuple):
    """What `init` returns: there is nothing to learn outside the memory."""

    params: tuple[()] = ()


class SearchMemory(NamedTuple):
    """What is known of the hidden cells, S of them in a fixed order (the goal; or the key, then the door).

    Attributes:
      possible: bool [S, cells], cells not ruled out.
      known: int32 [S], the cell once found, else -1.
      target: int32, the cell that the agent walks to.
      stage: int32, which hidden cell is being looked for in this episode.
      landing: int32, the cell that the last action led to; -1 before the first action.
    """

    possible: jax.Array
    known: jax.Array
    target: jax.Array
    stage: jax.Array
    landing: jax.Array


class ThompsonMemory(NamedTuple):
    """wins and losses: float32 [arms], counts of what each arm paid; arm: int32, the last one pulled."""

    wins: jax.Array
    losses: jax.Array
    arm: jax.Array


def random_agent(action_spec: specs.DiscreteArray) -> Agent:
    """Takes each action with equal probability."""

    def act(params, memory, key, timestep, mode):
        del params, timestep, mode
        return jax.random.randint(key, (), 0, action_spec.num_values, jnp.int32), (), memory

    return _agent(lambda: (), act)


def optimal_agent(environment: Environment, task: Any) -> Agent:
    """Knows the task and gets the environment's optimal return: shortest paths, or the best arm.

    Raises:
      ValueError: for an environment that this module has no solution of.
    """
    core = _core(environment)
    if isinstance(core, AdversarialBandit):

        def act(params, memory, key, timestep, mode):
            del params, key, timestep, mode
            return jnp.argmax(task).astype(jnp.int32), (), memory

        return _agent(lambda: (), act)
    return _search_agent(core, known=jnp.atleast_1d(jnp.asarray(task, jnp.int32)))


def posterior_sampling(environment: Environment, task: Any = None) -> Agent:
    """Posterior sampling (Thompson 1933; Strens 2000) under a uniform prior over tasks.

    Dark Room: each episode it walks to a uniformly random cell that has not been ruled out, and to
    another on reaching one without reward; every cell on the way is ruled out too. Once the goal is
    found it goes there directly and stays. Key-to-Door: the same for the key and then, with the key in
    hand, for the door; cells that were visited without the key are not ruled out for the door.
    Bandit: Thompson sampling, each arm's payout under its own Beta(1, 1) prior.

    What it has found out outlives the episode: run it over a whole stream of episodes of one task.

    Args:
      environment: one of Limbeck's own.
      task: None, or a Dark Room task of which the agent is told one bit: whether the cell that every
        episode starts in is the goal. Without it, it must stay there for a step to know. The bit is
        worth about 0.2 of return in the first episodes of Dark Room and nothing from the tenth on; the
        curve that Limbeck compares with (2.49, 5.76, 8.28, …) has it. Other environments ignore it.

    Raises:
      ValueError: for an environment that this module has no posterior of.
    """
    core = _core(environment)
    if not isinstance(core, AdversarialBandit):
        return _search_agent(core, start_of=task)

    def initial_memory():
        return ThompsonMemory(jnp.zeros(core.num_arms), jnp.zeros(core.num_arms), jnp.int32(0))

    def act(params, memory, key, timestep, mode):
        del params, mode
        pulled = jax.nn.one_hot(memory.arm, core.num_arms) * (timestep.step_type != FIRST)
        wins = memory.wins + pulled * timestep.reward
        losses = memory.losses + pulled * (1 - timestep.reward)
        arm = jnp.argmax(_beta(key, 1 + wins, 1 + losses)).astype(jnp.int32)
        return arm, (), ThompsonMemory(wins, losses, arm)

    return _agent(initial_memory, act)


def reference_curve(
    environment: Environment, tasks: Any, which: str, episodes: int, num_seeds: int, key: jax.Array
) -> jax.Array:
    """Returns of a reference agent, one stream of episodes per task and seed; compiled.

    Args:
      environment: one of Limbeck's own.
      tasks: stacked tasks, `[N, …]`.
      which: one of `REFERENCES`. Posterior sampling is given the bit that `posterior_sampling` describes.
      episodes: episodes per stream.
      num_seeds: streams per task.
      key: a PRNG key.

    Returns:
      Undiscounted returns, float32 [N, num_seeds, episodes].

    Raises:
      ValueError: for another `which`, an environment without such an agent, or counts below 1.
    """
    if which not in REFERENCES:
        raise ValueError(f"There is no reference {which!r}; known: {', '.join(REFERENCES)}.")
    if episodes < 1 or num_seeds < 1:
        raise ValueError(f"A curve needs an episode and a seed, got {episodes} and {num_seeds}.")
    return _curve(environment, tasks, key, which=which, episodes=episodes, num_seeds=num_seeds)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("which", "episodes", "num_seeds"))
def _curve(environment, tasks, key, *, which, episodes, num_seeds):
    num_tasks = len(jax.tree.leaves(tasks)[0])
    keys = jax.random.split(key, (num_tasks, num_seeds))

    def stream(task, key):
        if which == "random":
            agent = random_agent(environment.action_spec())
        elif which == "optimal":
            agent = optimal_agent(environment, task)
        else:
            agent = posterior_sampling(environment, task)
        return stream_returns(environment, agent, (), task, key, episodes)

    return jax.vmap(lambda task, keys: jax.vmap(lambda k: stream(task, k))(keys))(tasks, keys)


def stream_returns(
    environment: Environment, agent: Agent, params: Any, task: Any, key: jax.Array, episodes: int
) -> jax.Array:
    """Returns of an agent that keeps its memory over `episodes` episodes of one task, float32 [episodes].

    The agent sees the merged stream of `limbeck.envs.AutoReset`, with the environment's own
    observations. Episodes may end before `max_steps`. Pure; vmap it over tasks and keys.
    """

    def step(carry, key):
        memory, state, timestep, total, done = carry
        act_key, step_key = jax.random.split(key)
        action, _, next_memory = agent.act(params, memory, act_key, timestep, EVALUATE)
        next_state, next_timestep = environment.step(step_key, task, state, action)
        live = (
            next_memory,
            next_state,
            next_timestep,
            total + next_timestep.reward,
            next_timestep.step_type == LAST,
        )
        return jax.tree.map(lambda old, new: jnp.where(done, old, new), carry, live), None

    def episode(carry, inputs):
        memory, timestep = carry
        index, key = inputs
        reset_key, steps_key = jax.random.split(key)
        state, first = environment.reset(reset_key, task)
        merged = timestep._replace(observation=first.observation)
        start = jax.tree.map(lambda a, b: jnp.where(index == 0, a, b), first, merged)
        keys = jax.random.split(steps_key, environment.max_steps)
        carry = (memory, state, start, jnp.float32(0), jnp.bool_(False))
        (memory, _, timestep, total, _), _ = jax.lax.scan(step, carry, keys)
        return (memory, timestep), total

    key, shape_key = jax.random.split(key)
    _, blank = environment.reset(shape_key, task)
    inputs = (jnp.arange(episodes), jax.random.split(key, episodes))
    return jax.lax.scan(episode, (agent.initial_memory(), blank), inputs)[1]


def _agent(initial_memory, act) -> Agent:
    def update(state, key, trajectory, weights):
        del key, trajectory
        return state, {}, jnp.ones_like(weights)

    return Agent(lambda key: ReferenceState(), initial_memory, act, update)


def _core(environment: Environment) -> DarkRoom | KeyToDoor | AdversarialBandit:
    """The environment itself, from under an `AutoReset`, where it is one that this module knows."""
    core = getattr(environment, "unwrapped", environment)
    if not isinstance(core, (DarkRoom, KeyToDoor, AdversarialBandit)):
        raise ValueError(
            f"There is no optimal agent and no posterior for {environment.name}: it is none of Dark Room, "
            "Key-to-Door and the adversarial bandit."
        )
    return core


def _search_agent(core: DarkRoom | KeyToDoor, known: jax.Array | None = None, start_of: Any = None) -> Agent:
    """Walks to hidden cells, in order where there are several.

    Args:
      core: the environment.
      known: int32 [S], the hidden cells; or None to search.
      start_of: a Dark Room task, to begin with the knowledge of whether its start cell is the goal; or None.
    """
    stages = 2 if isinstance(core, KeyToDoor) else 1
    transitions = core.transitions
    cells = len(transitions)

    def initial_memory():
        possible = jnp.ones((stages, cells), bool)
        found = jnp.full((stages,), -1, jnp.int32) if known is None else known
        if start_of is not None and isinstance(core, DarkRoom):
            possible = possible.at[0, core.start].set(False)
            found = jnp.where(jnp.asarray(start_of) == core.start, core.start, found).astype(jnp.int32)
        nowhere = jnp.int32(-1)
        return SearchMemory(possible, found, nowhere, jnp.int32(0), nowhere)

    def act(params: Any, memory: SearchMemory, key: jax.Array, timestep: dm_env.TimeStep, mode: str):
        del params, mode
        which_cell, which_axis = jax.random.uniform(key, (2,))
        starts = (timestep.step_type == FIRST) | (timestep.step_type == LAST)

        # What the last action showed. In the merged stream the cell that it led to is not in the
        # observation when it ended an episode, so it is remembered from the known dynamics.
        moved = timestep.step_type != FIRST
        paid = moved & (timestep.reward > 0)
        searched = jnp.arange(stages) == memory.stage
        found = jnp.where(searched & paid & (memory.known < 0), memory.landing, memory.known)
        missed = moved & ~paid & searched[:, None] & (jnp.arange(cells) == memory.landing)
        possible = memory.possible & ~missed
        stage = jnp.where(starts, 0, jnp.minimum(memory.stage + paid, stages - 1)).astype(jnp.int32)

        # Where to go.
        candidates = possible[stage]
        lost = starts | (stage != memory.stage) | ~candidates[jnp.maximum(memory.target, 0)]
        rank = jnp.floor(which_cell * candidates.sum())
        drawn = jnp.argmax(jnp.cumsum(candidates) > rank)
        target = jnp.where(lost, drawn, memory.target)
        target = jnp.where(found[stage] >= 0, found[stage], target).astype(jnp.int32)

        # How to get there: a shortest path, its axes in random order.
        x, y = timestep.observation[0], timestep.observation[1]
        dx, dy = target % core.size - x, target // core.size - y
        along_x = jnp.where(dx < 0, LEFT, RIGHT)
        along_y = jnp.where(dy < 0, UP, DOWN)
        use_x = jnp.where((dx != 0) & (dy != 0), which_axis < 0.5, dx != 0)
        action = jnp.where(use_x, along_x, jnp.where(dy != 0, along_y, STAY)).astype(jnp.int32)
        landing = jnp.asarray(transitions)[y * core.size + x, action]
        return action, (), SearchMemory(possible, found, target, stage, landing)

    return _agent(initial_memory, act)


def _beta(key: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Beta(a, b) samples for a, b >= 1.

    A ratio of gammas by Marsaglia and Tsang (2000), each the first accepted of four proposals that are
    drawn at once. All four fail with a probability below 1e-5; the mode is returned then. On a CPU this is
    many times faster than `jax.random.beta`, whose rejection loop runs element by element.
    """
    shape = jnp.stack([a, b])
    d = shape - 1 / 3
    normal_key, uniform_key = jax.random.split(key)
    z = jax.random.normal(normal_key, (4, *shape.shape))
    v = (1 + z / jnp.sqrt(9 * d)) ** 3
    safe = jnp.where(v > 0, v, 1.0)
    u = jax.random.uniform(uniform_key, z.shape, minval=jnp.finfo(z.dtype).tiny)
    accepted = (v > 0) & (jnp.log(u) < 0.5 * z**2 + d * (1 - safe + jnp.log(safe)))
    first = jnp.take_along_axis(safe, jnp.argmax(accepted, axis=0)[None], axis=0)[0]
    gamma = d * jnp.where(accepted.any(axis=0), first, 1.0)
    return gamma[0] / (gamma[0] + gamma[1])
