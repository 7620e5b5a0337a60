"""The contract of an agent: pure functions over arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


Params = Any
Memory = Any

EXPLORE = "explore"
EVALUATE = "evaluate"


class Trajectory(NamedTuple):
    """Time-major experience, `[T, B, …]`. Row t holds o_t, a_t, r_{t+1}, discount_{t+1}, step_type_{t+1}.

    Streams run on through episode ends (`limbeck.envs.AutoReset`): where `step_type` is LAST the next
    row's observation belongs to the next episode, and `next_observation` is the ended one's last.

    Attributes:
      observation: o_t.
      action: a_t, int32.
      reward: r_{t+1}, float32.
      discount: discount_{t+1}, float32: 0 at termination, 1 at truncation and elsewhere.
      step_type: step_type_{t+1}, int32.
      next_observation: what a_t led to, an episode's final observation included.
      extras: what `act` returned beside the action (log-probabilities, values, …).
      memory: memory before the first row, `[B, …]`; `()` for feed-forward agents.
    """

    observation: Any
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    step_type: jax.Array
    next_observation: Any
    extras: Any = ()
    memory: Any = ()


class Agent(NamedTuple):
    """A reinforcement-learning agent as four pure functions.

    Attributes:
      init: `init(key) -> state`. `state.params` is what actors pull.
      initial_memory: `initial_memory() -> memory`: `()`, a recurrent state, or a KV cache.
      act: `act(params, memory, key, timestep, mode) -> (action, extras, memory)`, unbatched; mode is
        EXPLORE or EVALUATE and static. `timestep` is the merged one of `limbeck.envs.AutoReset`: at an
        episode's first step it is FIRST when the stream begins and LAST ever after, with the reward
        that ended the episode before beside the new episode's first observation.
      update: `update(state, key, trajectory, weights) -> (state, metrics, priorities)` with a time-major
        `Trajectory` `[T, B]`, importance weights `[B]` and priorities `[B]`.
    """

    init: Callable[[jax.Array], Any]
    initial_memory: Callable[[], Memory]
    act: Callable[..., tuple[jax.Array, Any, Memory]]
    update: Callable[..., tuple[Any, dict[str, jax.Array], jax.Array]]
