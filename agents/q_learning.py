"""Tabular Q-learning (Watkins 1989), epsilon-greedy or optimistic.

Source: C. J. C. H. Watkins, "Learning from Delayed Rewards", 1989; Sutton and Barto, 2nd edition,
section 6.5, and section 2.6 for optimistic initial values.
"""

import dataclasses
from typing import Any, NamedTuple, cast

import dm_env
import jax
import jax.numpy as jnp
import rlax
from dm_env import specs

from ._tabular import choose, greedy, num_actions, state_index, uniforms, write
from ._types import EVALUATE, Agent, Trajectory


@dataclasses.dataclass(frozen=True)
class QLearningConfig:
    """Settings of Q-learning.

    Attributes:
      learning_rate: step towards the target, in (0, 1]; 0.9 suits deterministic worlds.
      gamma: discount per step, multiplied by the environment's own (0 at termination).
      epsilon_start: probability of a uniformly random action at the first step.
      epsilon_end: that probability from step `epsilon_steps` on.
      epsilon_steps: environment steps of the learner (all streams) over which it is annealed linearly.
      initial_value: value of every pair before its first update. Above what is attainable
        (`r_max / (1 - gamma)` is always enough) it makes the greedy policy try everything; with
        epsilon 0 that is optimistic Q-learning.
    """

    learning_rate: float = 0.9
    gamma: float = 0.9
    epsilon_start: float = 1.0
    epsilon_end: float = 0.0
    epsilon_steps: int = 3600
    initial_value: float = 0.0

    def __post_init__(self):
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate must lie in (0, 1], got {self.learning_rate}.")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], got {self.gamma}.")
        if not (0 <= self.epsilon_start <= 1 and 0 <= self.epsilon_end <= 1):
            raise ValueError(f"epsilon must lie in [0, 1], got {self.epsilon_start} to {self.epsilon_end}.")
        if self.epsilon_steps < 1:
            raise ValueError(f"epsilon_steps must be at least 1, got {self.epsilon_steps}.")


class QParams(NamedTuple):
    """values: float32 [S, A]; epsilon: float32, probability of a random action."""

    values: jax.Array
    epsilon: jax.Array


class QState(NamedTuple):
    """params: what actors need; steps: int32, environment steps learned from."""

    params: QParams
    steps: jax.Array


def q_learning(
    observation_spec: Any, action_spec: specs.DiscreteArray, config: QLearningConfig = QLearningConfig()
) -> Agent:
    """Tabular Q-learning over an integer observation.

    Rows of a trajectory are applied one by one in time order, streams in turn. Bootstraps through
    truncation and not through termination. Ties among greedy actions are broken at random.

    Raises:
      ValueError: the observations are not a bounded integer array, or the actions not discrete.
    """
    states, index = state_index(observation_spec)
    actions = num_actions(action_spec)

    def epsilon(steps: jax.Array) -> jax.Array:
        done = jnp.minimum(steps / config.epsilon_steps, 1.0)
        return (config.epsilon_start + (config.epsilon_end - config.epsilon_start) * done).astype(jnp.float32)

    def init(key: jax.Array) -> QState:
        del key
        values = jnp.full((states, actions), config.initial_value, jnp.float32)
        return QState(QParams(values, epsilon(jnp.int32(0))), jnp.int32(0))

    def act(
        params: QParams, memory: Any, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        explore, pick = uniforms(key, 2)
        candidates = greedy(params.values[index(timestep.observation)])
        if mode != EVALUATE:
            candidates = candidates | (explore < params.epsilon)
        return choose(pick, candidates), (), memory

    def learn(values: jax.Array, row: Trajectory, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        s_tm1, s_t = index(row.observation), index(row.next_observation)
        q_tm1, q_t = values[s_tm1], values[s_t]
        error = rlax.q_learning(q_tm1, row.action, row.reward, config.gamma * row.discount, q_t)
        learned = q_tm1 + jnp.where(
            jnp.arange(actions) == row.action, config.learning_rate * weight * error, 0.0
        )
        return write(values, s_tm1, learned), cast(jax.Array, error)

    def update(
        state: QState, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[QState, dict[str, jax.Array], jax.Array]:
        del key
        length, batch = trajectory.reward.shape
        rows = jax.tree.map(lambda x: x.reshape(length * batch, *x.shape[2:]), trajectory)
        values, errors = jax.lax.scan(
            lambda q, row: learn(q, *row), state.params.values, (rows, jnp.tile(weights, length))
        )
        steps = state.steps + length * batch
        state = QState(QParams(values, epsilon(steps)), steps)
        metrics = {
            "td_error": jnp.mean(jnp.abs(errors)),
            "epsilon": state.params.epsilon,
            "value_mean": jnp.mean(values),
        }
        return state, metrics, jnp.mean(jnp.abs(errors).reshape(length, batch), axis=0)

    return Agent(init, lambda: (), act, update)
