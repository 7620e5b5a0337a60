"""Muesli: a policy gradient, a regulariser towards a clipped MPO policy, and a model that learns beside them.

Source: M. Hessel et al., "Muesli: combining improvements in policy optimization", arXiv 2104.06159. What
the paper leaves open, or what is simpler here, is listed in docs/algorithms/muesli.md.
"""

import dataclasses
from typing import Any, NamedTuple, cast

import dm_env
import jax
import jax.numpy as jnp
import optax
from dm_env import specs

from ..envs import LAST
from ._muesli_model import muesli_model, scalar_pair, unroll_model
from ._muesli_targets import alive, retrace_returns, shifted
from ._representation import feed_forward, recurrent
from ._tabular import num_actions
from ._types import EVALUATE, Agent, Trajectory
from .cmpo import CMPOTarget, SecondMoment, cmpo_exact, cmpo_sampled, kl_from, no_moment, update_moment
from .networks import log_prob_and_entropy
from .torsos import Torso, default_torso


@dataclasses.dataclass(frozen=True)
class MuesliConfig:
    """Settings of Muesli. Where the paper gives a number it is the default, network sizes apart.

    Attributes:
      learning_rate: Adam's step at the first update.
      decay_updates: updates over which it falls to 0 in a straight line; None keeps it. Advantages are
        divided by their scale, so nothing else makes the steps shorter near the optimum.
      gamma: discount per step, multiplied by the environment's own (0 at termination).
      lambda_: of Retrace.
      clip: c, where the regulariser's normalised advantages are clipped.
      regulariser: weight of KL(pi_CMPO, pi).
      model_policy_cost: weight of the model's policies.
      reward_cost: weight of the model's rewards.
      value_cost: weight of the values, the model's and the network's own.
      model_steps: K, how many actions the model is unrolled for from every row.
      samples: actions drawn from the prior for every estimate over its actions; 0 uses all actions,
        which costs a model step for each.
      target_rate: how far the target network, which is the prior too, moves at each update.
      moment_decay: of the moving average of squared advantages.
      moment_eps: added to that average under the root.
      hidden: widths of the layers of the default torso; a torso that is given has its own.
      core: width of an LSTM over the torso, 0 for none.
      previous_action, previous_reward: show the LSTM the action and the reward before. Switch the reward off
        where the learner's rewards are not those that the actor sees (rewards from a model).
      head: widths of the layers of every head.
      model: width of the model's LSTM.
      bins: of the categorical rewards and values.
      max_transformed: the last bin's h(x); 30 is x = 875.
      eps: Adam's epsilon.
      max_gradient_norm: global norm at which the gradient is clipped.
    """

    learning_rate: float = 3e-4
    decay_updates: int | None = None
    gamma: float = 0.995
    lambda_: float = 0.95
    clip: float = 1.0
    regulariser: float = 1.0
    model_policy_cost: float = 1.0
    reward_cost: float = 1.0
    value_cost: float = 0.25
    model_steps: int = 5
    samples: int = 0
    target_rate: float = 0.1
    moment_decay: float = 0.99
    moment_eps: float = 1e-12
    hidden: tuple[int, ...] = (128,)
    core: int = 0
    previous_action: bool = True
    previous_reward: bool = True
    head: tuple[int, ...] = (128,)
    model: int = 128
    bins: int = 61
    max_transformed: float = 30.0
    eps: float = 1e-8
    max_gradient_norm: float = 10.0

    def __post_init__(self):
        for name in ("learning_rate", "clip", "moment_eps", "max_transformed", "eps", "max_gradient_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        for name in ("regulariser", "model_policy_cost", "reward_cost", "value_cost", "samples", "core"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        for name in ("gamma", "lambda_"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        if not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate must lie in (0, 1], got {self.target_rate}.")
        if not 0 <= self.moment_decay < 1:
            raise ValueError(f"moment_decay must lie in [0, 1), got {self.moment_decay}.")
        for name, least in (("model_steps", 1), ("model", 1), ("bins", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if self.decay_updates is not None and self.decay_updates < 1:
            raise ValueError(
                f"decay_updates must be at least 1, or None for a constant rate, got {self.decay_updates}."
            )


class MuesliExtras(NamedTuple):
    """log_prob: float32, of the action when it was taken; inputs: what an LSTM saw beside the observation."""

    log_prob: jax.Array
    inputs: Any


class MuesliParams(NamedTuple):
    """representation: of the torso and its LSTM; network: of heads and model."""

    representation: Any
    network: Any


class MuesliState(NamedTuple):
    """params, target: `MuesliParams`; opt_state: Adam's; moment: of the advantages."""

    params: MuesliParams
    target: MuesliParams
    opt_state: Any
    moment: SecondMoment


class Estimates(NamedTuple):
    """What the target network makes of a trajectory, no gradient in any of it.

    Attributes:
      target: pi_CMPO of every row, [T, B, N].
      advantage: [T, B], G_t - v(o_t), divided by its scale.
      value: [T, B], what v(o_t) should be.
      next_value: [T, B], what the value of where a_t led to should be, times the environment's discount.
      moment: the moving average with this trajectory's advantages.
    """

    target: CMPOTarget
    advantage: jax.Array
    value: jax.Array
    next_value: jax.Array
    moment: SecondMoment


def muesli(
    observation_spec: Any,
    action_spec: specs.DiscreteArray,
    config: MuesliConfig = MuesliConfig(),
    torso: Torso | None = None,
) -> Agent:
    """Muesli over any observation that its torso reads: one array, or a dictionary (see `default_torso`).

    Exploring samples from the policy, evaluating takes its mode. The target network gives the prior
    policy, the action values r(o, a) + gamma v(o, a) of one model step, the baseline and the bootstraps.
    Bootstraps through truncation and not through termination; neither returns nor the model cross an
    episode's end.

    Raises:
      ValueError: the torso cannot read the observations, or the actions are not discrete.
    """
    actions = num_actions(action_spec)
    torso = torso or default_torso(observation_spec, config.hidden)
    if config.core:
        representation = recurrent(
            observation_spec, actions, torso, config.core, config.previous_action, config.previous_reward
        )
    else:
        representation = feed_forward(observation_spec, torso)
    model = muesli_model(actions, config.head, config.model, config.bins)
    pair = scalar_pair(config.max_transformed, config.bins)
    rate = config.learning_rate
    if config.decay_updates is not None:
        rate = optax.linear_schedule(rate, 0.0, config.decay_updates)
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.adam(rate, eps=config.eps)
    )

    def scalar(logits: jax.Array) -> jax.Array:
        return cast(jax.Array, pair.apply_inv(jax.nn.softmax(logits)))

    def init(key: jax.Array) -> MuesliState:
        representation_key, network_key = jax.random.split(key)
        shown, features = representation.init(representation_key)
        params = MuesliParams(shown, model.init(network_key, features))
        return MuesliState(params, params, optimiser.init(params), no_moment())

    def act(
        params: MuesliParams, memory: Any, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        features, inputs, memory = representation.step(params.representation, memory, timestep)
        logits, _ = model.root(params.network, features)
        action = jnp.argmax(logits) if mode == EVALUATE else jax.random.categorical(key, logits)
        action = action.astype(jnp.int32)
        extras = MuesliExtras(jax.nn.log_softmax(logits)[action], inputs)
        return action, extras, representation.remember(memory, action)

    def see(params: MuesliParams, trajectory: Trajectory) -> tuple[jax.Array, jax.Array]:
        return representation.unroll(
            params.representation, trajectory.memory, trajectory.extras.inputs, trajectory, 0
        )

    def estimate(
        target: MuesliParams, moment: SecondMoment, key: jax.Array, trajectory: Trajectory
    ) -> Estimates:
        features, next_features = see(target, trajectory)
        prior, value_logits = model.root(target.network, features)
        value = scalar(value_logits)
        next_value = scalar(model.root(target.network, next_features)[1])

        shape = trajectory.action.shape
        if config.samples:
            drawn = jax.random.categorical(key, prior[..., None, :], shape=(*shape, config.samples))
            drawn = drawn.astype(jnp.int32)
            share = jnp.full(drawn.shape, 1 / config.samples)
        else:
            drawn = jnp.broadcast_to(jnp.arange(actions, dtype=jnp.int32), (*shape, actions))
            share = jax.nn.softmax(prior)
        tried = jnp.concatenate([drawn, trajectory.action[..., None]], axis=-1)
        state = jax.tree.map(
            lambda x: jnp.broadcast_to(x[..., None, :], (*tried.shape, x.shape[-1])),
            model.start(target.network, features),
        )
        _, ahead = model.advance(target.network, state, tried)
        q = scalar(ahead.reward) + config.gamma * scalar(ahead.value)
        q_drawn, q_taken = q[..., :-1], q[..., -1]
        expected_q = jnp.sum(share * q_drawn, axis=-1)

        log_prior, _ = log_prob_and_entropy(prior, trajectory.action)
        trace = config.lambda_ * jnp.minimum(1.0, jnp.exp(log_prior - trajectory.extras.log_prob))
        returns = retrace_returns(trajectory, q_taken, expected_q, next_value, trace, config.gamma)
        advantage = returns - value
        moment = update_moment(moment, advantage, config.moment_decay)
        scale = jnp.sqrt(moment.value + config.moment_eps)
        normal = (q_drawn - value[..., None]) / scale
        if config.samples:
            cmpo = cmpo_sampled(prior, drawn, normal, config.clip)
        else:
            cmpo = cmpo_exact(prior, normal, config.clip)

        target_value = expected_q + trace * (returns - q_taken)
        within = jnp.concatenate([target_value[1:], next_value[-1:]])
        next_target = jnp.where(trajectory.step_type == LAST, next_value, within)
        return Estimates(cmpo, advantage / scale, target_value, trajectory.discount * next_target, moment)

    def loss(
        params: MuesliParams, given: Estimates, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        features, _ = see(params, trajectory)
        logits, value_logits = model.root(params.network, features)
        log_prob, entropy = log_prob_and_entropy(logits, trajectory.action)
        ratio = jnp.exp(jax.lax.stop_gradient(log_prob) - trajectory.extras.log_prob)
        gradient = -jnp.mean(weights * jnp.minimum(1.0, ratio) * log_prob * given.advantage)
        kl = jnp.mean(weights * kl_from(given.target, logits))

        steps = config.model_steps
        actions_ahead = shifted(trajectory.action, steps)
        predicted = unroll_model(model, params.network, model.start(params.network, features), actions_ahead)
        mask = alive(trajectory.step_type, steps)

        def mean(losses: jax.Array, mask: jax.Array) -> jax.Array:
            return jnp.sum(weights * mask * losses) / jnp.maximum(jnp.sum(mask), 1)

        def error(logits: jax.Array, numbers: jax.Array) -> jax.Array:
            return cast(jax.Array, optax.softmax_cross_entropy(logits, pair.apply(numbers)))

        # The model after k actions: reward and value of row t + k - 1, the policy of row t + k.
        reward = mean(error(predicted.reward, shifted(trajectory.reward, steps)), mask[:-1])
        values = jnp.concatenate([value_logits[None], predicted.value])
        value_targets = jnp.concatenate([given.value[None], shifted(given.next_value, steps)])
        value = mean(error(values, value_targets), jnp.concatenate([mask[:1], mask[:-1]]))
        ahead = jax.tree.map(lambda x: shifted(x, steps + 1)[1:], given.target)
        policy = mean(kl_from(ahead, predicted.policy), mask[1:])

        total = (
            gradient
            + config.regulariser * kl
            + config.model_policy_cost * policy
            + config.reward_cost * reward
            + config.value_cost * value
        )
        metrics = {
            "loss": total,
            "policy_loss": gradient,
            "cmpo_kl": kl,
            "model_policy_kl": policy,
            "reward_loss": reward,
            "value_loss": value,
            "entropy": jnp.mean(entropy),
            "ratio_mean": jnp.mean(ratio),
            "value_mean": jnp.mean(given.value),
        }
        return total, metrics

    def update(
        state: MuesliState, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[MuesliState, dict[str, jax.Array], jax.Array]:
        given = estimate(state.target, state.moment, key, trajectory)
        gradient, metrics = jax.grad(loss, has_aux=True)(state.params, given, trajectory, weights)
        changes, opt_state = optimiser.update(gradient, state.opt_state, state.params)
        params = cast(MuesliParams, optax.apply_updates(state.params, changes))
        target = optax.incremental_update(params, state.target, config.target_rate)
        scale = jnp.sqrt(given.moment.value + config.moment_eps)
        metrics |= {"advantage_scale": scale, "gradient_norm": optax.tree.norm(gradient)}
        priorities = jnp.mean(jnp.abs(given.advantage), axis=0) * scale
        return MuesliState(params, cast(MuesliParams, target), opt_state, given.moment), metrics, priorities

    return Agent(init, representation.initial_memory, act, update)
