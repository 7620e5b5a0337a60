"""Muesli's network: policy and value of a state, and a deterministic recurrent model that goes on from it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import rlax


class Predictions(NamedTuple):
    """What the model says of a state.

    Attributes:
      reward: logits [..., bins], of the reward on the way into it.
      value: logits [..., bins].
      policy: logits [..., A].
    """

    reward: jax.Array
    value: jax.Array
    policy: jax.Array


class MuesliModel(NamedTuple):
    """Functions of parameters; leading axes are free.

    Attributes:
      init: `init(key, features [F]) -> params`.
      root: `root(params, features) -> (policy logits [..., A], value logits [..., bins])`.
      start: `start(params, features) -> state`, the model's at a real observation.
      advance: `advance(params, state, action) -> (state, Predictions)`, one action on.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    root: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]
    start: Callable[[Any, jax.Array], hk.LSTMState]
    advance: Callable[[Any, hk.LSTMState, jax.Array], tuple[hk.LSTMState, Predictions]]


def scalar_pair(max_transformed: float, bins: int) -> rlax.TxPair:
    """Numbers to two-hot probabilities [..., bins] over h(x), and back; h is R2D2's (MuZero, appendix F)."""
    return rlax.muzero_pair(-max_transformed, max_transformed, bins, rlax.SIGNED_HYPERBOLIC_PAIR)


def unroll_model(model: MuesliModel, params: Any, state: hk.LSTMState, actions: jax.Array) -> Predictions:
    """Predictions after 1, …, K actions, stacked in front.

    Args:
      state: of `start`, [..., H].
      actions: int32 [K, ...].
    """
    _, predictions = jax.lax.scan(lambda s, a: model.advance(params, s, a), state, actions)
    return predictions


def muesli_model(num_actions: int, head: tuple[int, ...], width: int, bins: int) -> MuesliModel:
    """An LSTM whose input is an embedding of the action; each head is an MLP of ReLU layers `head`.

    Args:
      num_actions: A.
      head: widths of the layers of every head.
      width: H, of the LSTM and of the action's embedding.
      bins: of the categorical rewards and values.
    """

    def functions() -> Any:
        def mlp(size: int, name: str) -> Callable[[jax.Array], jax.Array]:
            # The last layer begins at zero: a uniform policy, and values and rewards of 0. Advantages are
            # divided by their scale, so those of an untrained network would move the policy at full size.
            body = hk.nets.MLP(head, activate_final=True, name=name)
            last = hk.Linear(size, w_init=jnp.zeros, name=f"{name}_logits")
            return lambda features: last(body(features))

        policy, value = mlp(num_actions, "policy"), mlp(bins, "value")
        into = hk.Linear(2 * width, name="into_model")
        embed = hk.Embed(num_actions, width, name="action")
        core = hk.LSTM(width, name="model")
        model_reward, model_value = mlp(bins, "model_reward"), mlp(bins, "model_value")
        model_policy = mlp(num_actions, "model_policy")

        def root(features: jax.Array) -> tuple[jax.Array, jax.Array]:
            return policy(features), value(features)

        def start(features: jax.Array) -> hk.LSTMState:
            hidden, cell = jnp.split(into(features), 2, axis=-1)
            return hk.LSTMState(jnp.tanh(hidden), cell)

        def advance(state: hk.LSTMState, action: jax.Array) -> tuple[hk.LSTMState, Predictions]:
            shape = action.shape
            flat = jax.tree.map(lambda x: x.reshape(-1, width), state)
            _, new = core(embed(action.reshape(-1)), flat)
            new = jax.tree.map(lambda x: x.reshape(*shape, width), new)
            hidden = new.hidden
            return new, Predictions(model_reward(hidden), model_value(hidden), model_policy(hidden))

        def everything(features: jax.Array) -> Any:
            return root(features), advance(start(features), jnp.zeros((), jnp.int32))

        return everything, (root, start, advance)

    network = hk.without_apply_rng(hk.multi_transform(functions))
    root, start, advance = network.apply
    return MuesliModel(network.init, root, start, advance)
