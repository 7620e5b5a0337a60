"""An environment and an algorithm of one's own, as `limbeck run gymnasium` takes them by name."""

import dataclasses
from typing import Any, NamedTuple

import gymnasium
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import rlax
from limbeck.agents import EVALUATE, Agent, Algorithm, ReplayPlan, default_torso
from limbeck.envs import LAST


class Corridor(gymnasium.Env):
    """Walk to the right end; all that is seen is how far it is."""

    def __init__(self, length: int = 6):
        self.length, self.place, self.age = length, 0, 0
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.age = 0, 0
        return self._seen(), {}

    def step(self, action):
        self.place, self.age = max(0, self.place + (1 if action else -1)), self.age + 1
        arrived = self.place == self.length
        return self._seen(), float(arrived), arrived, self.age >= 5 * self.length, {"is_success": arrived}

    def _seen(self):
        return np.array([1 - self.place / self.length], np.float32)


make = Corridor  # Anything that can be called and returns an environment.


@dataclasses.dataclass(frozen=True)
class ReinforceConfig:
    learning_rate: float = 0.02
    gamma: float = 0.95


class ReinforceState(NamedTuple):
    params: Any
    opt_state: Any


def reinforce(observation_spec, action_spec, config, torso=None) -> Agent:
    """Policy gradient; returns end with the episode or the trajectory, and their mean is the baseline."""
    torso = torso or default_torso(observation_spec, (32,))
    network = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(action_spec.num_values)(torso(x))))
    optimiser = optax.adam(config.learning_rate)

    def init(key):
        params = network.init(key, observation_spec.generate_value())
        return ReinforceState(params, optimiser.init(params))

    def act(params, memory, key, timestep, mode):
        logits = network.apply(params, timestep.observation)
        action = jnp.argmax(logits) if mode == EVALUATE else jax.random.categorical(key, logits)
        return action.astype(jnp.int32), (), memory

    def loss(params, rows):  # every leaf [T, B, …]
        discounts = config.gamma * (rows.step_type != LAST)
        returns = jax.vmap(rlax.discounted_returns, (1, 1, None), 1)(rows.reward, discounts, jnp.zeros(()))
        logits, better = network.apply(params, rows.observation), returns - returns.mean()
        losses = jax.vmap(rlax.policy_gradient_loss, 1)(logits, rows.action, better, jnp.ones_like(better))
        return losses.mean()

    def update(state, key, trajectory, weights):
        value, gradient = jax.value_and_grad(loss)(state.params, trajectory)
        changes, opt_state = optimiser.update(gradient, state.opt_state)
        return ReinforceState(optax.apply_updates(state.params, changes), opt_state), {"loss": value}, weights

    return Agent(init, lambda: (), act, update)


def algorithm() -> Algorithm:
    plan = ReplayPlan("queue", unroll=40, period=40, batch=8, max_size=8)
    return Algorithm(reinforce, ReinforceConfig, "REINFORCE, as short as it gets.", plan)
