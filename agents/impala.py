"""IMPALA: an actor-critic whose learner corrects for the lag of its actors by V-trace.

Source: L. Espeholt et al., "IMPALA: Scalable distributed deep-RL with importance weighted actor-learner
architectures", arXiv 1802.01561, section 4.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import dm_env
import haiku as hk
import jax
import jax.numpy as jnp
import optax
import rlax
from dm_env import specs

from ..envs import MID
from ._returns import cut_at_episode_ends
from ._tabular import num_actions
from ._types import EVALUATE, Agent, Trajectory
from .networks import example, heads, log_prob_and_entropy
from .torsos import Torso, default_torso


Core = Literal["none", "lstm"]
Optimiser = Literal["adam", "rmsprop"]


@dataclasses.dataclass(frozen=True)
class IMPALAConfig:
    """Settings of IMPALA. Losses are means over rows, where the paper's are sums.

    Attributes:
      learning_rate: step of the optimiser.
      gamma: discount per step, multiplied by the environment's own (0 at termination).
      lambda_: factor of the trace weights c; 1 is the paper's.
      clip_rho: bound of the importance ratios in the temporal differences; it decides what value the
        critic converges to.
      clip_policy_rho: bound of the importance ratios in the policy gradient.
      entropy_cost: weight of the entropy bonus.
      value_cost: weight of the squared error of the value, halved.
      reward_clip: rewards are clipped to [-reward_clip, reward_clip]; 0 leaves them as they are.
      core: `lstm` puts a recurrent core between torso and heads, `none` does not.
      core_width: units of the LSTM; it counts with `lstm` only.
      hidden: widths of the layers of the default torso; a torso that is given has its own.
      optimiser: `adam`, or the paper's `rmsprop`.
      eps: epsilon of the optimiser.
      max_gradient_norm: global norm at which the gradient is clipped.
    """

    learning_rate: float = 2e-3
    gamma: float = 0.99
    lambda_: float = 0.95
    clip_rho: float = 1.0
    clip_policy_rho: float = 1.0
    entropy_cost: float = 0.001
    value_cost: float = 0.5
    reward_clip: float = 0.0
    core: Core = "none"
    core_width: int = 128
    hidden: tuple[int, ...] = (64, 64)
    optimiser: Optimiser = "adam"
    eps: float = 1e-5
    max_gradient_norm: float = 0.5

    def __post_init__(self):
        for name in ("learning_rate", "clip_rho", "clip_policy_rho", "eps", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        for name in ("gamma", "lambda_"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        if self.reward_clip < 0:
            raise ValueError(f"reward_clip must be positive, or 0 for none, got {self.reward_clip}.")
        for name, known in (("core", get_args(Core)), ("optimiser", get_args(Optimiser))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.core_width < 1:
            raise ValueError(f"core_width must be at least 1, got {self.core_width}.")


class IMPALAExtras(NamedTuple):
    """What the actor leaves beside an action.

    Attributes:
      log_prob: float32, log mu(a | x) of the policy that took the action.
      first: bool, whether the observation began an episode, so that the core's state was reset.
    """

    log_prob: jax.Array
    first: jax.Array


class IMPALAState(NamedTuple):
    """params: the network's; opt_state: the optimiser's."""

    params: Any
    opt_state: Any


class VTrace(NamedTuple):
    """error: [T, B], target minus value, with the value's gradient; advantage: [T, B], of the policy gradient."""

    error: jax.Array
    advantage: jax.Array


def v_trace(
    trajectory: Trajectory,
    rho: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    gamma: float,
    lambda_: float = 1.0,
    clip_rho: float = 1.0,
    clip_policy_rho: float = 1.0,
) -> VTrace:
    """V-trace (section 4.1, equation 1) that never crosses an episode's end.

    Args:
      trajectory: [T, B].
      rho: [T, B], pi(a | x) / mu(a | x).
      values, next_values: [T, B], of `observation` and `next_observation`.
      gamma: discount per step.
      lambda_, clip_rho, clip_policy_rho: see `IMPALAConfig`.
    """
    rewards, discounts = cut_at_episode_ends(trajectory, next_values, gamma)

    def one(*columns: jax.Array) -> VTrace:
        out = rlax.vtrace_td_error_and_advantage(
            *columns, lambda_=lambda_, clip_rho_threshold=clip_rho, clip_pg_rho_threshold=clip_policy_rho
        )
        return VTrace(out.errors, jax.lax.stop_gradient(out.pg_advantage))

    return jax.vmap(one, 1, 1)(values, next_values, rewards, discounts, rho)


def _network(
    actions: int, torso: Torso, config: IMPALAConfig
) -> Callable[[Any, jax.Array, Any], tuple[jax.Array, jax.Array, Any]]:
    """Observations [T, B, …], whether each began an episode [T, B], memory before them [B, …] ->
    logits [T, B, A], values [T, B], memory after each row [T, B, …]."""

    def unroll(observation: Any, first: jax.Array, memory: Any) -> tuple[jax.Array, jax.Array, Any]:
        features, memories = torso(observation), ()
        if config.core == "lstm":
            core = hk.ResetCore(hk.LSTM(config.core_width))
            out, memories = hk.dynamic_unroll(core, (features, first), memory, return_all_states=True)
            features = cast(jax.Array, out)
        return *heads(features, actions), memories

    return unroll


def impala(
    observation_spec: Any,
    action_spec: specs.DiscreteArray,
    config: IMPALAConfig = IMPALAConfig(),
    torso: Torso | None = None,
) -> Agent:
    """IMPALA over any observation that its torso reads.

    Exploring samples from the policy, evaluating takes its mode. The core's state is set to zero at an
    episode's first observation, in `act` and in the learner's unroll alike. Bootstraps through truncation
    and not through termination.

    Raises:
      ValueError: the torso cannot read the observations, or the actions are not discrete.
    """
    actions = num_actions(action_spec)
    unroll = _network(actions, torso or default_torso(observation_spec, config.hidden), config)
    network = hk.without_apply_rng(hk.transform(unroll))
    if config.optimiser == "adam":
        step = optax.adam(config.learning_rate, eps=config.eps)
    else:
        step = optax.rmsprop(config.learning_rate, decay=0.99, eps=config.eps)
    optimiser = optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), step)

    def initial_memory() -> Any:
        if config.core == "none":
            return ()
        return hk.LSTMState(*jnp.zeros((2, config.core_width), jnp.float32))

    def one_row(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x)[None, None], tree)

    def init(key: jax.Array) -> IMPALAState:
        memory = jax.tree.map(lambda x: x[None], initial_memory())
        params = network.init(key, one_row(example(observation_spec)), jnp.ones((1, 1), bool), memory)
        return IMPALAState(params, optimiser.init(params))

    def act(
        params: Any, memory: Any, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        # The first observation of an episode comes with the step type that ended the one before.
        first = jnp.asarray(timestep.step_type != MID)
        before = jax.tree.map(lambda x: x[None], memory)
        logits, _, after = network.apply(params, one_row(timestep.observation), one_row(first), before)
        logits, after = jax.tree.map(lambda x: x[0, 0], (logits, after))
        action = jnp.argmax(logits) if mode == EVALUATE else jax.random.categorical(key, logits)
        action = action.astype(jnp.int32)
        return action, IMPALAExtras(jax.nn.log_softmax(logits)[action], first), after

    def values_ahead(params: Any, trajectory: Trajectory, memories: Any) -> jax.Array:
        """Values [T, B] of `next_observation`, each seen with the memory that its own row left."""
        shape = trajectory.reward.shape
        rows = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), trajectory.next_observation)
        before = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), memories)
        _, values, _ = network.apply(params, rows, jnp.zeros((1, shape[0] * shape[1]), bool), before)
        return values.reshape(shape)

    def loss(params: Any, trajectory: Trajectory, weights: jax.Array) -> tuple[jax.Array, Any]:
        logits, values, memories = network.apply(
            params, trajectory.observation, trajectory.extras.first, trajectory.memory
        )
        next_values = values_ahead(*jax.lax.stop_gradient((params, trajectory, memories)))
        log_prob, entropy = log_prob_and_entropy(logits, trajectory.action)
        log_rho = jax.lax.stop_gradient(log_prob) - trajectory.extras.log_prob
        rho = jnp.exp(log_rho)
        if config.reward_clip:
            reward = jnp.clip(trajectory.reward, -config.reward_clip, config.reward_clip)
            trajectory = trajectory._replace(reward=reward)
        error, advantage = v_trace(
            trajectory, rho, values, next_values,
            config.gamma, config.lambda_, config.clip_rho, config.clip_policy_rho,
        )  # fmt: skip
        policy = -jnp.mean(weights * log_prob * advantage)
        value = 0.5 * jnp.mean(weights * jnp.square(error))
        total = policy - config.entropy_cost * jnp.mean(weights * entropy) + config.value_cost * value
        metrics = {
            "loss": total,
            "policy_loss": policy,
            "value_loss": value,
            "entropy": jnp.mean(entropy),
            "kl": jnp.mean(rho - 1 - log_rho),
            "rho_clipped": jnp.mean(rho > config.clip_rho),
            "target_mean": jnp.mean(values + error),
        }
        return total, (metrics, jnp.mean(jnp.abs(error), axis=0))

    def update(
        state: IMPALAState, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[IMPALAState, dict[str, jax.Array], jax.Array]:
        del key
        gradient, (metrics, priorities) = jax.grad(loss, has_aux=True)(state.params, trajectory, weights)
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        return IMPALAState(optax.apply_updates(state.params, updates), opt_state), metrics, priorities

    return Agent(init, initial_memory, act, update)
