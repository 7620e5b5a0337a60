"""A learner: updates an agent from batches of items, and publishes its variables by version."""

import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._types import Agent, Trajectory
from .items import from_items


class Batch(NamedTuple):
    """Items as a learner takes them.

    Attributes:
      data: name -> `[B, …]`.
      probabilities: with which each was drawn, `[B]` float64.
      table_size: items that could have been drawn.
    """

    data: Any
    probabilities: np.ndarray
    table_size: int


class LearnerState(NamedTuple):
    """What a checkpoint of a learner holds.

    Attributes:
      agent: the agent's own state.
      key: of all that is random in the updates; each update folds its number in.
      updates: int32, done.
    """

    agent: Any
    key: jax.Array
    updates: jax.Array


class Learner:
    """Owns an agent's state. `update` is for one thread; `pull` for any.

    Attributes:
      spec: of the trajectories it takes.
      updates: done so far.
      version: of the variables: the number of updates they have behind them.
    """

    def __init__(
        self, agent: Agent, spec: Trajectory, seed: int, importance_exponent: float = 0.0, state: Any = None
    ):
        """A new learner, or one that goes on from a `LearnerState`.

        Args:
          agent: the functions.
          spec: `trajectory_spec` of its items.
          seed: of the weights and the updates.
          importance_exponent: beta of prioritised replay; 0 leaves every weight 1 (Schaul et al. 2016, 3.4).
          state: to go on from.
        """
        self.spec, self._beta = spec, importance_exponent
        self._agent = agent
        self.state = self.template(agent, seed) if state is None else state
        self.updates = int(self.state.updates)
        self._lock = threading.Lock()
        self._params, self.version = _copied(self.state.agent.params), self.updates
        self._update = jax.jit(_update(agent), donate_argnums=0)

    @staticmethod
    def template(agent: Agent, seed: int) -> LearnerState:
        """The state of a learner that has learned nothing: also the form of its checkpoints."""
        key = jax.random.key(seed)
        # Compiled as wholes: operation by operation they take seconds.
        state = jax.jit(agent.init)(jax.random.fold_in(key, 0))
        # A target network begins as the very arrays of the online one, and updates donate each leaf once.
        state = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))(state)
        return LearnerState(state, jax.random.fold_in(key, 1), jnp.int32(0))

    def update(self, batch: Batch) -> tuple[dict[str, Any], jax.Array, np.ndarray]:
        """One update.

        Returns:
          Metrics (scalars, still on their way), new priorities `[B]`, and the policy versions `[B]`.

        Raises:
          ValueError: where the items are not of this agent.
        """
        trajectory, versions = from_items(self.spec, batch.data)
        weights = importance_weights(batch.probabilities, batch.table_size, self._beta)
        self.state, metrics, priorities = self._update(self.state, trajectory, weights)
        self.updates += 1
        return metrics, priorities, versions

    def publish(self) -> int:
        """Makes the newest parameters the ones that `pull` gives; returns their version."""
        params = _copied(self.state.agent.params)
        with self._lock:
            self._params, self.version = params, self.updates
        return self.version

    def pull(self, have: int) -> tuple[int, Any] | None:
        """(version, params) as published last, or None where `have` is that version.

        A learner that was restored from a checkpoint may be behind `have`.
        """
        with self._lock:
            return None if have == self.version else (self.version, self._params)


def importance_weights(probabilities: np.ndarray, table_size: int, beta: float) -> np.ndarray:
    """`(N p)^-beta` over their largest, float32 `[B]` (Schaul et al. 2016, arXiv 1511.05952, section 3.4)."""
    if not beta:
        return np.ones(len(probabilities), np.float32)
    weights = (max(table_size, 1) * np.maximum(probabilities, 1e-12)) ** -beta
    return (weights / weights.max()).astype(np.float32)


def _update(agent: Agent) -> Any:
    def update(state: LearnerState, trajectory: Trajectory, weights: jax.Array) -> Any:
        key = jax.random.fold_in(state.key, state.updates)
        new, metrics, priorities = agent.update(state.agent, key, trajectory, weights)
        return LearnerState(new, state.key, state.updates + 1), metrics, priorities

    return update


def _copied(params: Any) -> Any:
    """Copies on the host: the next update donates the originals."""
    return jax.tree.map(lambda x: np.array(x), params)
