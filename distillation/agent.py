"""The distilled Transformer as an `Agent`: its memory is its context, its weights are frozen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
from dm_env import specs

from ..encoders import CACHE_AXES, empty_cache
from ..envs import MID
from .model import Inputs, ModelConfig, make_network


class Memory(NamedTuple):
    """The context.

    Attributes:
      context: a `Cache` of keys and values, or a `_Recent` of the last steps to be recomputed.
      previous_action: int32, the number of actions where there is none.
      step_in_episode: int32, of the next step to act on.
    """

    context: Any
    previous_action: jax.Array
    step_in_episode: jax.Array


class _Recent(NamedTuple):
    """The last `window` steps, oldest first, the first `filled` of them taken."""

    inputs: Inputs
    filled: jax.Array


class InContextAgent(NamedTuple):
    """An `Agent` (the same four functions) that learns in its memory.

    Attributes:
      init: `init(key) -> params`; nothing else is state, for the weights are frozen.
      initial_memory: the empty context.
      act: as `Agent.act`; actions are sampled in both modes, as in the paper.
      update: returns what it was given: learning happens in the memory.
      memory_axes: `in_axes` and `out_axes` of the memory under `vmap`, for streams that step together.
      clear: `clear(memory, where) -> memory`, emptied where the unbatched bool says so, shared parts
        left alone; what the control that forgets at every episode uses.
    """

    init: Callable[[jax.Array], Any]
    initial_memory: Callable[[], Memory]
    act: Callable[..., tuple[jax.Array, Any, Memory]]
    update: Callable[..., Any]
    memory_axes: Any
    clear: Callable[[Memory, jax.Array], Memory]


def in_context_agent(
    config: ModelConfig,
    observation_spec: specs.Array,
    action_spec: specs.DiscreteArray,
    max_steps: int,
    temperature: float = 1.0,
) -> InContextAgent:
    """The distilled network as an agent.

    Args:
      config: the network.
      observation_spec: of the environment it was trained on.
      action_spec: of that environment.
      max_steps: that environment's horizon.
      temperature: divides the logits before sampling; 0 takes the likeliest action. Low values end
        exploration: the distilled algorithm explores by sampling.

    Raises:
      ValueError: for a negative temperature, or specs that the network cannot read.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or more, got {temperature}.")
    num_actions = int(action_spec.num_values)
    network = make_network(config, observation_spec, num_actions, max_steps)
    cached = config.context == "cached"

    def initial_memory() -> Memory:
        if cached:
            context: Any = empty_cache(config.transformer)
        else:
            none = Inputs(
                jnp.zeros((config.window, *observation_spec.shape), observation_spec.dtype),
                jnp.full((config.window,), num_actions, jnp.int32),
                jnp.zeros((config.window,), jnp.float32),
                jnp.zeros((config.window,), jnp.int32),
            )
            context = _Recent(none, jnp.int32(0))
        return Memory(context, jnp.int32(num_actions), jnp.int32(0))

    def act(params: Any, memory: Memory, key: jax.Array, timestep: dm_env.TimeStep, mode: str):
        del mode
        step = jnp.where(timestep.step_type == MID, memory.step_in_episode, 0)
        fresh = memory.previous_action == num_actions
        reward = jnp.where(fresh, 0.0, jnp.asarray(timestep.reward, jnp.float32))
        inputs = Inputs(timestep.observation, memory.previous_action, reward, step)
        if cached:
            logits, context = network.step(params, inputs, memory.context)
        else:
            context = _append(memory.context, inputs)
            last = jnp.minimum(context.filled, config.window) - 1
            logits = network.logits(params, None, context.inputs)[last]
        if temperature:
            action = jax.random.categorical(key, logits / temperature)
        else:
            action = jnp.argmax(logits, axis=-1)
        action = action.astype(jnp.int32)
        return action, {"logits": logits}, Memory(context, action, step + 1)

    def update(state, key, trajectory, weights):
        del key, trajectory
        return state, {}, jnp.zeros_like(weights)

    def clear(memory: Memory, where: jax.Array) -> Memory:
        if cached:
            start = jnp.where(where, memory.context.position, memory.context.start)
            context = memory.context._replace(start=start)
        else:
            context = memory.context._replace(filled=jnp.where(where, 0, memory.context.filled))
        return Memory(
            context,
            jnp.where(where, num_actions, memory.previous_action),
            jnp.where(where, 0, memory.step_in_episode),
        )

    axes = Memory(CACHE_AXES if cached else 0, 0, 0)  # pyright: ignore[reportArgumentType]  # axes of arrays
    return InContextAgent(network.init, initial_memory, act, update, axes, clear)


def _append(recent: _Recent, inputs: Inputs) -> _Recent:
    """Adds a step behind the others; when all places are taken the oldest goes."""
    window = recent.inputs.previous_action.shape[0]
    full = recent.filled >= window
    at = jnp.minimum(recent.filled, window - 1)

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        old = jnp.where(full, jnp.roll(old, -1, axis=0), old)
        return old.at[at].set(new)

    # A cleared buffer's leftovers lie behind `at` and a causal model does not see them.
    return _Recent(jax.tree.map(put, recent.inputs, inputs), jnp.minimum(recent.filled + 1, window))
