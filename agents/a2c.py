"""Advantage actor-critic with lambda returns, one learner for many streams.

Source: V. Mnih et al., "Asynchronous methods for deep reinforcement learning", arXiv 1602.01783, in
the synchronous form; settings of M. Laskin et al., arXiv 2210.14215, appendix M.1, table 4.
"""

import dataclasses
from typing import Any, NamedTuple

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
class A2CConfig:
    """Settings of A2C. All but the learning rate and the loss weights of the value are the paper's.

    Attributes:
      learning_rate: Adam's step. The paper's is 1e-4 (`A2CConfig.paper()`), for runs of a length that
        it does not state; the default learns Dark Room within 200 episodes of 100 streams.
      gamma: discount per step, multiplied by the environment's own (0 at termination).
      lambda_: mixing of the lambda returns.
      entropy_cost: weight of the entropy bonus.
      value_cost: weight of the squared error of the value, halved.
      hidden: widths of the layers of the default torso; a torso that is given has its own.
      b1, b2, eps: Adam's other settings.
      max_gradient_norm: global norm at which the gradient is clipped.
    """

    learning_rate: float = 1e-3
    gamma: float = 0.99
    lambda_: float = 0.95
    entropy_cost: float = 0.01
    value_cost: float = 0.5
    hidden: tuple[int, ...] = (128, 128, 128)
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    max_gradient_norm: float = 1.0

    def __post_init__(self):
        for name in ("learning_rate", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        for name in ("gamma", "lambda_"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")

    @classmethod
    def paper(cls, **overrides: Any) -> "A2CConfig":
        """The paper's learning rate, with the rest as here."""
        return cls(**{"learning_rate": 1e-4, **overrides})


class A2CState(NamedTuple):
    """params: the network's; opt_state: Adam's."""

    params: Any
    opt_state: Any


def a2c(
    observation_spec: Any,
    action_spec: specs.DiscreteArray,
    config: A2CConfig = A2CConfig(),
    torso: Torso | None = None,
) -> Agent:
    """A2C over any observation that its torso reads: one array, or a dictionary (see `default_torso`).

    Exploring samples from the policy, evaluating takes its mode. Bootstraps through truncation and
    not through termination; returns never cross an episode's end.

    Raises:
      ValueError: the torso cannot read the observations, or the actions are not discrete.
    """
    actions = num_actions(action_spec)
    init_network, apply = policy_and_value(
        observation_spec, actions, torso or default_torso(observation_spec, config.hidden)
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adam(config.learning_rate, b1=config.b1, b2=config.b2, eps=config.eps),
    )

    def init(key: jax.Array) -> A2CState:
        params = init_network(key)
        return A2CState(params, optimiser.init(params))

    def act(
        params: Any, memory: Any, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        logits, _ = apply(params, timestep.observation)
        action = jnp.argmax(logits) if mode == EVALUATE else jax.random.categorical(key, logits)
        return action.astype(jnp.int32), (), memory

    def loss(params: Any, trajectory: Trajectory, weights: jax.Array) -> tuple[jax.Array, Any]:
        logits, values = apply(params, trajectory.observation)
        _, next_values = apply(jax.lax.stop_gradient(params), trajectory.next_observation)
        rewards, discounts = cut_at_episode_ends(trajectory, next_values, config.gamma)
        returns = jax.vmap(rlax.lambda_returns, (1, 1, 1, None), 1)(
            rewards, discounts, next_values, config.lambda_
        )
        advantages = jax.lax.stop_gradient(returns) - values
        log_prob, entropy = log_prob_and_entropy(logits, trajectory.action)
        policy = -jnp.mean(weights * log_prob * jax.lax.stop_gradient(advantages))
        value = 0.5 * jnp.mean(weights * jnp.square(advantages))
        total = policy - config.entropy_cost * jnp.mean(weights * entropy) + config.value_cost * value
        metrics = {
            "loss": total,
            "policy_loss": policy,
            "value_loss": value,
            "entropy": jnp.mean(entropy),
            "return_mean": jnp.mean(returns),
        }
        return total, (metrics, jnp.mean(jnp.abs(advantages), axis=0))

    def update(
        state: A2CState, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[A2CState, dict[str, jax.Array], jax.Array]:
        del key
        gradient, (metrics, priorities) = jax.grad(loss, has_aux=True)(state.params, trajectory, weights)
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        return A2CState(optax.apply_updates(state.params, updates), opt_state), metrics, priorities

    return Agent(init, lambda: (), act, update)
