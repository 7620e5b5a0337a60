"""What DQN and R2D2 share: one learner of action values from sequences of rows, whatever its network."""

import dataclasses
from typing import Any, NamedTuple, cast

import dm_env
import haiku as hk
import jax
import jax.numpy as jnp
import optax
import rlax

from ._exploration import UNDRAWN, annealed, draw_rank, epsilon_greedy, stream_epsilon
from ._representation import Representation
from ._returns import cut_at_episode_ends
from ._types import EVALUATE, Agent, Trajectory
from .q_networks import q_head


@dataclasses.dataclass(frozen=True)
class ValueBasedConfig:
    """Settings of a learner of action values.

    Attributes:
      learning_rate: Adam's step.
      gamma: discount per step, multiplied by the environment's own (0 at termination).
      n_step: rewards in a return before it bootstraps; fewer at an episode's or a trajectory's end.
      double: the online network chooses the action whose value the target network gives; without it the
        target network does both.
      duelling: value and advantages in two branches.
      hidden: widths of the layers of the default torso; a torso that is given has its own.
      head: widths of the layers after the features; where duelling, of both branches.
      huber_delta: TD error at which the loss turns from squared to linear; None for squared throughout.
      target_period: updates between two moves of the target network.
      target_rate: how far each move goes towards the online network: 1 copies it. A period of 1 and a
        small rate is the moving average of Polyak.
      priority_max: share of the largest |TD error| of a trajectory in its priority; the rest is the mean.
      epsilon_start: probability of a uniformly random action before the first update.
      epsilon_end: that probability from update `epsilon_updates` on.
      epsilon_updates: updates over which it is annealed in a straight line.
      ladder: how far streams differ: a stream with the place u in [0, 1) acts with
        epsilon ** (1 + ladder * u); 0 gives all streams the same.
      eps: Adam's epsilon.
      max_gradient_norm: global norm at which the gradient is clipped.
    """

    learning_rate: float = 5e-4
    gamma: float = 0.99
    n_step: int = 3
    double: bool = True
    duelling: bool = True
    hidden: tuple[int, ...] = (128,)
    head: tuple[int, ...] = (128,)
    huber_delta: float | None = 1.0
    target_period: int = 100
    target_rate: float = 1.0
    priority_max: float = 0.9
    epsilon_start: float = 1.0
    epsilon_end: float = 0.1
    epsilon_updates: int = 1000
    ladder: float = 0.0
    eps: float = 1e-5
    max_gradient_norm: float = 10.0

    def __post_init__(self):
        for name in ("learning_rate", "eps", "max_gradient_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        for name in ("gamma", "priority_max", "epsilon_start", "epsilon_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        for name in ("n_step", "target_period", "epsilon_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate must lie in (0, 1], got {self.target_rate}.")
        if self.huber_delta is not None and not self.huber_delta > 0:
            raise ValueError(
                f"huber_delta must be positive, or None for a squared loss, got {self.huber_delta}."
            )
        if self.ladder < 0:
            raise ValueError(f"ladder must be at least 0, got {self.ladder}.")


class ValueParams(NamedTuple):
    """representation, head: parameters of the network; epsilon: float32, the annealed one."""

    representation: Any
    head: hk.Params
    epsilon: jax.Array


class ValueState(NamedTuple):
    """params: what actors need; target: (representation, head) of the target network; updates: int32."""

    params: ValueParams
    target: Any
    opt_state: Any
    updates: jax.Array


class ValueMemory(NamedTuple):
    """core: the representation's; rank: float32, the stream's place on the ladder, negative until drawn."""

    core: Any
    rank: jax.Array


def n_step_returns(trajectory: Trajectory, next_values: jax.Array, gamma: float, n_step: int) -> jax.Array:
    """Returns [T, B] of `n_step` rewards and a bootstrap that never cross an episode's end.

    An episode that ends sooner is bootstrapped from its final observation where it was truncated and
    from nothing where it terminated. The last rows bootstrap from where the trajectory ends.

    Args:
      trajectory: [T, B].
      next_values: [T, B], values of `trajectory.next_observation`.
    """
    rewards, discounts = cut_at_episode_ends(trajectory, next_values, gamma)
    returns = jax.vmap(
        lambda r, d, v: rlax.n_step_bootstrapped_returns(r, d, v, n_step), in_axes=1, out_axes=1
    )(rewards, discounts, next_values)
    return cast(jax.Array, returns)


def priorities_of(td_errors: jax.Array, priority_max: float) -> jax.Array:
    """eta * max + (1 - eta) * mean of |TD error| over the rows [T, B] -> [B] (R2D2, section 2.3)."""
    size = jnp.abs(td_errors)
    return priority_max * jnp.max(size, axis=0) + (1 - priority_max) * jnp.mean(size, axis=0)


def value_based(
    representation: Representation,
    num_actions: int,
    config: ValueBasedConfig,
    transform: rlax.TxPair = rlax.IDENTITY_PAIR,
    burn_in: int = 0,
) -> Agent:
    """An epsilon-greedy agent that learns action values by (double) n-step Q-learning.

    Args:
      representation: from a stream to features.
      num_actions: A.
      config: settings.
      transform: h and its inverse; the network's outputs are h(value).
      burn_in: rows of each trajectory that only warm the representation's state.
    """
    head = hk.without_apply_rng(hk.transform(q_head(num_actions, config.head, config.duelling)))
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.adam(config.learning_rate, eps=config.eps)
    )

    def epsilon(updates: jax.Array) -> jax.Array:
        return annealed(config.epsilon_start, config.epsilon_end, config.epsilon_updates, updates)

    def init(key: jax.Array) -> ValueState:
        representation_key, head_key = jax.random.split(key)
        params, features = representation.init(representation_key)
        network = (params, head.init(head_key, features))
        updates = jnp.int32(0)
        return ValueState(ValueParams(*network, epsilon(updates)), network, optimiser.init(network), updates)

    def initial_memory() -> ValueMemory:
        return ValueMemory(representation.initial_memory(), jnp.float32(UNDRAWN))

    def act(
        params: ValueParams, memory: ValueMemory, key: jax.Array, timestep: dm_env.TimeStep, mode: str
    ) -> tuple[jax.Array, Any, Any]:
        features, inputs, core = representation.step(params.representation, memory.core, timestep)
        values = head.apply(params.head, features)
        rank_key, act_key = jax.random.split(key)
        rank = draw_rank(rank_key, memory.rank)
        if mode == EVALUATE:
            action = jnp.argmax(values).astype(jnp.int32)
        else:
            action = epsilon_greedy(act_key, values, stream_epsilon(params.epsilon, config.ladder, rank))
        return action, inputs, ValueMemory(representation.remember(core, action), rank)

    def loss(network: Any, target: Any, trajectory: Trajectory, weights: jax.Array) -> tuple[jax.Array, Any]:
        def values_of(network: Any) -> Any:
            params, head_params = network
            features = representation.unroll(
                params, trajectory.memory.core, trajectory.extras, trajectory, burn_in
            )
            return [head.apply(head_params, x) for x in features]

        values, next_values = values_of(network)
        _, target_next_values = values_of(target)
        chosen = jnp.argmax(next_values if config.double else target_next_values, axis=-1)
        bootstrap = transform.apply_inv(_pick(target_next_values, chosen))

        rows = jax.tree.map(lambda x: x[burn_in:], trajectory._replace(memory=()))
        returns = n_step_returns(rows, bootstrap, config.gamma, config.n_step)
        targets = jax.lax.stop_gradient(transform.apply(returns))
        predicted = _pick(values, rows.action)
        td_errors = targets - predicted
        if config.huber_delta is None:
            losses = rlax.l2_loss(td_errors)
        else:
            losses = rlax.huber_loss(td_errors, config.huber_delta)
        total = jnp.mean(weights * losses)
        metrics = {
            "loss": total,
            "td_error": jnp.mean(jnp.abs(td_errors)),
            "value_mean": jnp.mean(transform.apply_inv(predicted)),
            "return_mean": jnp.mean(returns),
        }
        return total, (metrics, priorities_of(td_errors, config.priority_max))

    def update(
        state: ValueState, key: jax.Array, trajectory: Trajectory, weights: jax.Array
    ) -> tuple[ValueState, dict[str, jax.Array], jax.Array]:
        del key
        network = (state.params.representation, state.params.head)
        gradient, (metrics, priorities) = jax.grad(loss, has_aux=True)(
            network, state.target, trajectory, weights
        )
        changes, opt_state = optimiser.update(gradient, state.opt_state, network)
        network = cast(tuple[Any, Any], optax.apply_updates(network, changes))
        updates = state.updates + 1
        moves = updates % config.target_period == 0
        target = optax.incremental_update(network, state.target, jnp.where(moves, config.target_rate, 0.0))
        metrics |= {"epsilon": state.params.epsilon, "gradient_norm": optax.tree.norm(gradient)}
        params = ValueParams(*network, epsilon(updates))
        return ValueState(params, target, opt_state, updates), metrics, priorities

    return Agent(init, initial_memory, act, update)


def _pick(values: jax.Array, action: jax.Array) -> jax.Array:
    """values [..., A] at action [...]."""
    return jnp.squeeze(jnp.take_along_axis(values, action[..., None], axis=-1), -1)
