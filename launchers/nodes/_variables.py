"""The learner's variables as another node sees them."""

import logging
from typing import Any

import jax

from ...agents import Agent
from ..program import Context
from ..rpc import CallTimeout, Handle, NodeGone


_log = logging.getLogger(__name__)


class LearnerLink:
    """A node's way to the learner; a learner that is away for a while is waited for.

    Attributes:
      version: of `params`: the learner's updates; -1 before the first.
      params: the newest that was pulled.
    """

    def __init__(self, context: Context, agent: Agent):
        self._context = context
        shapes = jax.eval_shape(lambda key: agent.init(key).params, jax.eval_shape(jax.random.key, 0))
        self._structure = jax.tree.structure(shapes)
        self._handle: Handle | None = None
        self.version, self.params = -1, None

    def pull(self) -> bool:
        """Gets the newest variables; False where the learner is away, and the old ones stay."""
        found = self.call("pull", have=self.version)
        if found is None:
            return False
        if found:
            # On the device once, not at every step.
            leaves = jax.device_put(found["leaves"])
            self.version, self.params = found["version"], jax.tree.unflatten(self._structure, leaves)
        return True

    def wait(self) -> bool:
        """Until there are variables; False where the node is to stop first."""
        while not self._context.stopping.is_set():
            if self.pull() and self.version >= 0:
                return True
            self._context.stopping.wait(0.2)
        return False

    def call(self, method: str, **arguments: Any) -> Any:
        """Calls the learner; None where it is away, or this node is to stop and so may the learner have."""
        if self._context.stopping.is_set():
            return None
        try:
            if self._handle is None:
                self._handle = self._context.connect("learner", 5.0)
            return self._handle.call(method, deadline_s=10.0, **arguments)
        except (NodeGone, CallTimeout) as error:
            _log.info("the learner is away: %s", error)
            return None
