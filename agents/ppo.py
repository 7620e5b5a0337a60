"""Proximal policy optimisation with the clipped surrogate.

Source: J. Schulman et al., "Proximal policy optimization algorithms", arXiv 1707.06347, and for the
advantages "High-dimensional continuous control using generalized advantage estimation",
arXiv 1506.02438.
"""

import dataclasses
from typing import Any, NamedTuple, cast

import dm_env
import jax
import jax.numpy as jnp
import optax
import rlax
from dm_env import specs

from ._returns import cut_at_episode_ends
from ._tabular import num_actions
from ._types import EVALUATE, Agent, Trajectory
from .networks import log_prob_and_entropy, policy_and_value
from .torsos import Torso, default_torso


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO.

    Attributes:
      learning_rate: Adam's step.
      gamma: discount per step, multiplied by the environment's own (0 at termination).
      lambda_: mixing of generalised advantage estimation.
      clip: how far the probability ratio may leave 1 before its gradient stops.
      entropy_cost: weight of the entropy bonus.
      value_cost: weight of the squared error of the value, halved.
      epochs: passes over every trajectory.
      minibatches: parts of each pass; it divides the rows T * B of a trajectory.
      hidden: widths of the layers of the default torso; a torso that is given has its own.
      eps: Adam's epsilon.
      max_gradient_norm: global norm at which the gradient is clipped.
      advantage_floor: least standard deviation by which advantages are divided. Before the first reward
        they are the critic's noise, and at unit size that noise would drive the policy away from
        exploring. In units of the reward; the default is the usual normalisation, hosted jobs have 0.1.
    """

    learning_rate: float = 1e-3
    gamma: float = 0.99
    lambda_: float = 0.95
    clip: float = 0.2
    entropy_cost: float = 0.01
    value_cost: float = 0.5
    epochs: int = 4
    minibatches: int = 4
    hidden: tuple[int, ...] = (64, 64)
    eps: float = 1e-5
    max_gradient_norm: float = 0.5
    advantage_floor: float = 1e-8

    def __post_init__(self):
        for name in ("learning_rate", "max_gradient_norm", "clip", "advantage_floor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        for name in ("gamma", "lambda_"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


class PPOExtras(NamedTuple):
    """log_prob: float32, of the action when it was taken; value: float32, of the observation then."""

    log_prob: jax.Array
    value: jax.Array


class PPOState(NamedTuple):
    """params: the network's; opt_state: Adam's."""

    params: Any
    opt_state: Any


class _Rows(NamedTuple):
    """Rows to fit, [R, …] each."""

    observation: Any
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array
    weight: jax.Array


def advantages_of(
    trajectory: Trajectory, values: jax.Array, next_values: jax.Array, gamma: float, lambda_: float
) -> jax.Array:
    """Generalised advantages [T, B] that never cross an episode's end.

    Args:
      trajectory: [T, B].
      values, next_values: [T, B], of `observation` and `next_observation`.
    """
    rewards, discounts = cut_at_episode_ends(trajectory, next_values, gamma)
    stacked = jnp.concatenate([values, next_values[-1:]])
    estimate = jax.vmap(rlax.truncated_generalized_advantage_estimation, (1, 1, None, 1), 1)
    return cast(jax.Array, estimate(rewards, discounts, lambda_, stacked))


def ppo(
    observation_spec: Any,
    action_spec: specs.DiscreteArray,
    config: PPOConfig = PPOConfig(),
    torso: Torso | None = None,
) -> Agent:
    """PPO over any observation that its torso reads: one array, or a dictionary (see `default_torso`).

    Exploring samples from the policy, evaluating takes its mode. Advantages are normalised over each
    minibatch, their spread taken as `advantage_floor` at least. Bootstraps through truncation and not
    through termination.

    Raises:
      ValueError: the torso cannot read the observations, the actions are not discrete, or (in `update`)
        `minibatches` does not divide the rows.
    """
    actions = num_actions(action_spec)
    init_network, apply = policy_and_value(
        observation_spec, actions, torso or default_torso(observation_spec, config.hidden)
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.adam(config.learning_rate, eps=config.eps)
    )

    def init(key: jax.Array) -> PPOState:
        params = init_network(key)
        return PPOState(params, optimiser.init(params))

    def act(
        params: Any, memory: Any, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        logits, value = apply(params, timestep.observation)
        action = jnp.argmax(logits) if mode == EVALUATE else jax.random.categorical(key, logits)
        action = action.astype(jnp.int32)
        return action, PPOExtras(jax.nn.log_softmax(logits)[action], value), memory

    def loss(params: Any, rows: _Rows) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits, values = apply(params, rows.observation)
        log_prob, entropy = log_prob_and_entropy(logits, rows.action)
        ratio = jnp.exp(log_prob - rows.log_prob)
        spread = jnp.maximum(jnp.std(rows.advantage), config.advantage_floor)
        advantage = (rows.advantage - jnp.mean(rows.advantage)) / spread
        policy = rlax.clipped_surrogate_pg_loss(ratio, rows.weight * advantage, config.clip)
        value = 0.5 * jnp.mean(rows.weight * jnp.square(rows.target - values))
        total = policy - config.entropy_cost * jnp.mean(rows.weight * entropy) + config.value_cost * value
        metrics = {
            "loss": total,
            "policy_loss": policy,
            "value_loss": value,
            "entropy": jnp.mean(entropy),
            "kl": jnp.mean(ratio - 1 - (log_prob - rows.log_prob)),
            "clip_fraction": jnp.mean(jnp.abs(ratio - 1) > config.clip),
        }
        return total, metrics

    def fit(state: PPOState, rows: _Rows) -> tuple[PPOState, dict[str, jax.Array]]:
        gradient, metrics = jax.grad(loss, has_aux=True)(state.params, rows)
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        return PPOState(optax.apply_updates(state.params, updates), opt_state), metrics

    def update(
        state: PPOState, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[PPOState, dict[str, jax.Array], jax.Array]:
        length, batch = trajectory.reward.shape
        count = length * batch
        if count % config.minibatches:
            raise ValueError(
                f"minibatches must divide the {length} x {batch} = {count} rows of a trajectory, "
                f"got {config.minibatches}."
            )
        values = trajectory.extras.value
        _, next_values = apply(state.params, trajectory.next_observation)
        advantages = advantages_of(trajectory, values, next_values, config.gamma, config.lambda_)
        rows = _Rows(
            trajectory.observation, trajectory.action, trajectory.extras.log_prob, advantages,
            advantages + values, jnp.broadcast_to(weights, advantages.shape),
        )  # fmt: skip
        rows = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), rows)

        def epoch(state: PPOState, key: jax.Array) -> tuple[PPOState, dict[str, jax.Array]]:
            order = jax.random.permutation(key, count).reshape(config.minibatches, -1)
            return jax.lax.scan(lambda s, ids: fit(s, jax.tree.map(lambda x: x[ids], rows)), state, order)

        state, metrics = jax.lax.scan(epoch, state, jax.random.split(key, config.epochs))
        priorities = jnp.mean(jnp.abs(advantages), axis=0)
        return state, jax.tree.map(jnp.mean, metrics), priorities

    return Agent(init, lambda: (), act, update)
