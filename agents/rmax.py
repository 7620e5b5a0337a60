"""R-max: optimism in the face of uncertainty with a learned tabular model.

Source: R. I. Brafman and M. Tennenholtz, "R-max: a general polynomial time algorithm for
near-optimal reinforcement learning", JMLR 3 (2002). Their planner solves the model anew whenever
a pair becomes known; here value iteration goes on from the values it had, a few sweeps a step.
"""

import dataclasses
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
from dm_env import specs

from ._tabular import choose, greedy, num_actions, state_index, uniforms, write
from ._types import Agent, Trajectory


@dataclasses.dataclass(frozen=True)
class RMaxConfig:
    """Settings of R-max.

    Attributes:
      gamma: discount per step, below 1, multiplied by the environment's own (0 at termination).
      known_after: visits m after which a state-action pair counts as known; its model is the mean of
        those visits. 1 is right for deterministic worlds.
      r_max: reward per step that an unknown pair is believed to pay for ever. The true maximum gives the
        paper's guarantee and explores everything that could still be better; less makes the learner
        settle sooner on what it has found. The default suits Dark Room: above 0.5, what stepping off
        the goal and on again pays, and low enough to stay at a goal once found.
      sweeps: sweeps of value iteration after every update, each over all pairs.
    """

    gamma: float = 0.95
    known_after: int = 1
    r_max: float = 0.6
    sweeps: int = 1

    def __post_init__(self):
        if not 0 <= self.gamma < 1:
            raise ValueError(
                f"gamma must lie in [0, 1), got {self.gamma}: unknown pairs are worth r_max/(1-gamma)."
            )
        for name in ("known_after", "sweeps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


class RMaxModel(NamedTuple):
    """What was seen of each pair (flat index p = state * A + action) at its first m visits.

    visits: int32 [S*A], at most m; reward: float32 [S*A], sum over visits; next_state: int32 [S*A, m];
    discount: float32 [S*A, m], the environment's.
    """

    visits: jax.Array
    reward: jax.Array
    next_state: jax.Array
    discount: jax.Array


class RMaxState(NamedTuple):
    """params: float32 [S, A] optimistic action values, what actors need; model: see `RMaxModel`."""

    params: jax.Array
    model: RMaxModel


def sweep(values: jax.Array, model: RMaxModel, config: RMaxConfig) -> jax.Array:
    """One sweep of value iteration on the optimistic model; `values` and result are [S, A]."""
    best = jnp.max(values, axis=1)
    ahead = jnp.sum(model.discount * best[model.next_state], axis=1)
    known = (model.reward + config.gamma * ahead) / config.known_after
    optimistic = config.r_max / (1 - config.gamma)
    return jnp.where(model.visits >= config.known_after, known, optimistic).reshape(values.shape)


def rmax(observation_spec: Any, action_spec: specs.DiscreteArray, config: RMaxConfig = RMaxConfig()) -> Agent:
    """R-max over an integer observation; greedy on optimistic values, ties broken at random.

    Bootstraps through truncation and not through termination. Both modes of `act` are greedy: all
    of R-max's exploration lies in its values.

    Raises:
      ValueError: the observations are not a bounded integer array, or the actions not discrete.
    """
    states, index = state_index(observation_spec)
    actions = num_actions(action_spec)
    pairs, visits = states * actions, config.known_after

    def init(key: jax.Array) -> RMaxState:
        del key
        model = RMaxModel(
            jnp.zeros((pairs,), jnp.int32),
            jnp.zeros((pairs,), jnp.float32),
            jnp.zeros((pairs, visits), jnp.int32),
            jnp.zeros((pairs, visits), jnp.float32),
        )
        return RMaxState(jnp.full((states, actions), config.r_max / (1 - config.gamma), jnp.float32), model)

    def act(
        params: jax.Array, memory: Any, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        del mode
        (pick,) = uniforms(key, 1)
        return choose(pick, greedy(params[index(timestep.observation)])), (), memory

    def observe(model: RMaxModel, row: Trajectory) -> tuple[RMaxModel, jax.Array]:
        pair = index(row.observation) * actions + row.action
        seen = model.visits[pair]
        new = seen < visits
        slot = (jnp.arange(visits) == seen) & new
        next_state = jnp.where(slot, index(row.next_observation), model.next_state[pair])
        model = RMaxModel(
            write(model.visits, pair, seen + new),
            write(model.reward, pair, model.reward[pair] + jnp.where(new, row.reward, 0.0)),
            write(model.next_state, pair, next_state),
            write(model.discount, pair, jnp.where(slot, row.discount, model.discount[pair])),
        )
        return model, new & (seen + 1 == visits)

    def update(
        state: RMaxState, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[RMaxState, dict[str, jax.Array], jax.Array]:
        del key
        length, batch = trajectory.reward.shape
        rows = jax.tree.map(lambda x: x.reshape(length * batch, *x.shape[2:]), trajectory)
        model, learned = jax.lax.scan(observe, state.model, rows)
        # A loop and not an unrolled chain: XLA would fuse the sweeps and compute each maximum again
        # for every pair that leads to it.
        values = jax.lax.fori_loop(
            0, config.sweeps, lambda _, values: sweep(values, model, config), state.params
        )
        metrics = {
            "known_fraction": jnp.mean(model.visits >= visits),
            "new_pairs": jnp.sum(learned, dtype=jnp.int32),
            "value_change": jnp.max(jnp.abs(values - state.params)),
        }
        return RMaxState(values, model), metrics, jnp.ones_like(weights)

    return Agent(init, lambda: (), act, update)
