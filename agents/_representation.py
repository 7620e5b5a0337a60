"""What a learner from replay sees of a stream: features of a torso, or of an LSTM over one.

An LSTM starts each replayed sequence from the state that the actor had there, as R2D2 does
(S. Kapturowski et al., "Recurrent experience replay in distributed reinforcement learning", ICLR 2019).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import dm_env
import haiku as hk
import jax
import jax.numpy as jnp

from ..envs import MID
from ._types import Trajectory
from .networks import example
from .torsos import Torso


class RecurrentInputs(NamedTuple):
    """What the core saw beside the observation at a row, kept as `extras`: the row before may be elsewhere.

    Attributes:
      first: bool, the observation begins an episode: state, action and reward are then read as zeros.
      action: int32, the action before.
      reward: float32, the reward before.
    """

    first: jax.Array
    action: jax.Array
    reward: jax.Array


class RecurrentMemory(NamedTuple):
    """state: the LSTM's, [H] each; action: int32, the last one taken."""

    state: hk.LSTMState
    action: jax.Array


class Representation(NamedTuple):
    """A network from a stream to features [F], feed-forward or recurrent.

    Attributes:
      init: `init(key) -> (params, features)`, the features zeros [F], to make a head by.
      initial_memory: `initial_memory() -> memory`.
      step: `step(params, memory, timestep) -> (features, inputs, memory)`, unbatched; `inputs` is what
        `unroll` needs of every row.
      remember: `remember(memory, action) -> memory`, after the action was chosen.
      unroll: `unroll(params, memory, inputs, trajectory, burn_in) -> (features, next_features)`, both
        [T - burn_in, B, F]: of each row's observation and of what its action led to, an episode's
        final observation included. No gradient flows into the `burn_in` first rows.
    """

    init: Callable[[jax.Array], tuple[Any, jax.Array]]
    initial_memory: Callable[[], Any]
    step: Callable[[Any, Any, dm_env.TimeStep], tuple[jax.Array, Any, Any]]
    remember: Callable[[Any, jax.Array], Any]
    unroll: Callable[..., tuple[jax.Array, jax.Array]]


def _after_burn_in(trajectory: Trajectory, burn_in: int) -> Any:
    """(observation, next_observation) of the rows that are learned from. Raises where none is left."""
    length = trajectory.reward.shape[0]
    if burn_in >= length:
        raise ValueError(
            f"burn_in must be below the {length} rows of a trajectory, or none is left to learn from, "
            f"got {burn_in}. Make the unroll longer."
        )
    return jax.tree.map(lambda x: x[burn_in:], (trajectory.observation, trajectory.next_observation))


def feed_forward(observation_spec: Any, torso: Torso) -> Representation:
    """The torso alone; memory and inputs are `()`."""
    network = hk.without_apply_rng(hk.transform(torso))
    shown = example(observation_spec)

    def init(key: jax.Array) -> tuple[Any, jax.Array]:
        params = network.init(key, shown)
        return params, jnp.zeros_like(network.apply(params, shown))

    def step(params: Any, memory: Any, timestep: dm_env.TimeStep) -> tuple[jax.Array, Any, Any]:
        return network.apply(params, timestep.observation), (), memory

    def unroll(
        params: Any, memory: Any, inputs: Any, trajectory: Trajectory, burn_in: int = 0
    ) -> tuple[jax.Array, jax.Array]:
        del memory, inputs
        here, ahead = _after_burn_in(trajectory, burn_in)
        return network.apply(params, here), network.apply(params, ahead)

    return Representation(init, lambda: (), step, lambda memory, action: memory, unroll)


def recurrent(
    observation_spec: Any,
    num_actions: int,
    torso: Torso,
    width: int,
    previous_action: bool = True,
    previous_reward: bool = True,
) -> Representation:
    """An LSTM over the torso's features and, where wanted, the action and reward before.

    Its state is zero at every episode's first step, and so are the action and reward before.

    Args:
      observation_spec: an array's spec or a dictionary of them.
      num_actions: A.
      torso: observations [..., *shape] to features [..., F'].
      width: H, of the LSTM and of the features.
      previous_action: show the action before, one-hot.
      previous_reward: show the reward before.
    """
    encode = hk.without_apply_rng(hk.transform(torso))
    core = hk.without_apply_rng(hk.transform(lambda x, state: hk.LSTM(width, name="core")(x, state)))

    def zero_state() -> hk.LSTMState:
        return hk.LSTMState(jnp.zeros((width,)), jnp.zeros((width,)))

    def embed(params: Any, observation: Any, inputs: RecurrentInputs) -> jax.Array:
        parts = [encode.apply(params["torso"], observation)]
        kept = 1.0 - inputs.first[..., None].astype(jnp.float32)
        if previous_action:
            parts.append(kept * jax.nn.one_hot(inputs.action, num_actions))
        if previous_reward:
            parts.append(kept * inputs.reward[..., None])
        return jnp.concatenate(parts, axis=-1)

    def advance(params: Any, state: hk.LSTMState, x: jax.Array, first: jax.Array) -> Any:
        state = jax.tree.map(lambda s: jnp.where(first[..., None], jnp.zeros_like(s), s), state)
        return core.apply(params["core"], x, state)

    def init(key: jax.Array) -> tuple[Any, jax.Array]:
        torso_key, core_key = jax.random.split(key)
        params = {"torso": encode.init(torso_key, example(observation_spec))}
        nothing = RecurrentInputs(jnp.bool_(True), jnp.int32(0), jnp.float32(0))
        x = embed(params, example(observation_spec), nothing)
        params["core"] = core.init(core_key, x, zero_state())
        return params, jnp.zeros((width,))

    def initial_memory() -> RecurrentMemory:
        return RecurrentMemory(zero_state(), jnp.int32(0))

    def step(params: Any, memory: RecurrentMemory, timestep: dm_env.TimeStep) -> tuple[jax.Array, Any, Any]:
        # In the merged stream an episode's first observation comes with FIRST or LAST.
        first = jnp.asarray(timestep.step_type) != MID
        inputs = RecurrentInputs(first, memory.action, jnp.asarray(timestep.reward, jnp.float32))
        x = embed(params, timestep.observation, inputs)
        features, state = advance(params, memory.state, x, first)
        return features, inputs, memory._replace(state=state)

    def unroll(
        params: Any,
        memory: RecurrentMemory,
        inputs: RecurrentInputs,
        trajectory: Trajectory,
        burn_in: int = 0,
    ) -> tuple[jax.Array, jax.Array]:
        _, ahead = _after_burn_in(trajectory, burn_in)

        def row(state: hk.LSTMState, row: Any) -> tuple[hk.LSTMState, Any]:
            features, state = advance(params, state, *row)
            return state, (features, state)

        rows = (embed(params, trajectory.observation, inputs), inputs.first)
        before, learned = jax.tree.map(lambda x: x[:burn_in], rows), jax.tree.map(lambda x: x[burn_in:], rows)
        state, _ = jax.lax.scan(row, memory.state, before)
        _, (features, states) = jax.lax.scan(row, jax.lax.stop_gradient(state), learned)

        # One step on from every row, within its own episode, so that a truncated one bootstraps too.
        action, reward = trajectory.action[burn_in:], trajectory.reward[burn_in:]
        inside = RecurrentInputs(jnp.zeros_like(action, bool), action, reward)
        next_features, _ = jax.vmap(lambda s, x, f: advance(params, s, x, f))(
            states, embed(params, ahead, inside), inside.first
        )
        return features, next_features

    return Representation(
        init, initial_memory, step, lambda memory, action: memory._replace(action=action), unroll
    )
