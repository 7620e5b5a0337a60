"""UCB1 for bandits.

Source: P. Auer, N. Cesa-Bianchi and P. Fischer, "Finite-time analysis of the multiarmed bandit
problem", Machine Learning 47 (2002), figure 1; the exploration constant is a field.
"""

import dataclasses
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
from dm_env import specs

from ._tabular import choose, greedy, num_actions, uniforms
from ._types import EVALUATE, Agent, Trajectory


@dataclasses.dataclass(frozen=True)
class UCB1Config:
    """Settings of UCB1.

    Attributes:
      exploration: c in `mean + c * sqrt(ln(n) / n_arm)`, in units of reward; sqrt(2) is the
        published index for rewards in [0, 1].
    """

    exploration: float = 2.0**0.5

    def __post_init__(self):
        if self.exploration < 0:
            raise ValueError(f"exploration must not be negative, got {self.exploration}.")


class UCB1Params(NamedTuple):
    """pulls: float32 [A]; reward: float32 [A], the sum that each arm paid."""

    pulls: jax.Array
    reward: jax.Array


class UCB1State(NamedTuple):
    """params: what actors need."""

    params: UCB1Params


def ucb_index(params: UCB1Params, exploration: float) -> jax.Array:
    """The index of each arm [A]; infinite for an arm that was never pulled."""
    pulls = jnp.maximum(params.pulls, 1.0)
    total = jnp.maximum(jnp.sum(params.pulls), 1.0)
    index = params.reward / pulls + exploration * jnp.sqrt(jnp.log(total) / pulls)
    return jnp.where(params.pulls > 0, index, jnp.inf)


def ucb1(observation_spec: Any, action_spec: specs.DiscreteArray, config: UCB1Config = UCB1Config()) -> Agent:
    """UCB1; observations are ignored and ties are broken at random. Evaluating plays the best mean.

    Its counts go on over episode ends: in a bandit an episode is only a number of trials.

    Raises:
      ValueError: the actions are not discrete.
    """
    del observation_spec
    arms = num_actions(action_spec)

    def init(key: jax.Array) -> UCB1State:
        del key
        return UCB1State(UCB1Params(jnp.zeros((arms,), jnp.float32), jnp.zeros((arms,), jnp.float32)))

    def act(
        params: UCB1Params, memory: Any, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        del timestep
        (pick,) = uniforms(key, 1)
        exploration = 0.0 if mode == EVALUATE else config.exploration
        index = ucb_index(params, exploration)
        untried = jnp.isinf(index)
        candidates = jnp.where(jnp.any(untried), untried, greedy(jnp.where(untried, 0.0, index)))
        return choose(pick, candidates), (), memory

    def update(
        state: UCB1State, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[UCB1State, dict[str, jax.Array], jax.Array]:
        del key
        chosen = jax.nn.one_hot(trajectory.action, arms, dtype=jnp.float32)
        params = UCB1Params(
            state.params.pulls + jnp.sum(chosen, axis=(0, 1)),
            state.params.reward + jnp.sum(chosen * trajectory.reward[..., None], axis=(0, 1)),
        )
        mean = params.reward / jnp.maximum(params.pulls, 1.0)
        metrics = {"best_mean": jnp.max(mean), "pulls": jnp.sum(params.pulls)}
        return UCB1State(params), metrics, jnp.ones_like(weights)

    return Agent(init, lambda: (), act, update)
