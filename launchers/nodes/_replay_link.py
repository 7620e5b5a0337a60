"""A node's way to the replay server, whichever start of it is alive."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ..program import Context
from ..rpc import NodeGone
from .replay import ADDRESS


_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ReplayLink:
    """Calls the replay server until a call succeeds or the node is to stop. One thread at a time."""

    def __init__(self, context: Context):
        from ...agents import replay  # Reverb and TensorFlow come only into the nodes that use them.

        self._context, self._replay = context, replay
        self._client: Any = None

    def call(self, work: Callable[[Any], _T], within_s: float | None = None) -> _T | None:
        """`work(client)`, again after a failure.

        A call that is late because the other side is slow (a full table, an empty queue) is simply made again;
        after any other failure the server's address is looked up, for a restarted one has a new address.

        Args:
          work: makes one call with a deadline of its own.
          within_s: give up after so long, with one call at least, and do not mind that the node is to stop;
            without it try until it is.

        Returns:
          What `work` returned, or None where it was given up.
        """
        deadline = None if within_s is None else time.monotonic() + within_s
        while deadline is not None or not self._context.stopping.is_set():
            try:
                if self._client is None:
                    self._client = self._replay.ReplayClient(self._context.find("replay", ADDRESS, 5.0))
                return work(self._client)
            except NodeGone as error:
                _log.info("no replay server yet: %s", error)
                time.sleep(0.2)
            except self._replay.ReplayTimeout as error:
                _log.debug("%s", error)
                self._renew()
            except self._replay.ReplayError as error:
                _log.warning("%s", error)
                self._renew()
                time.sleep(0.5)
            if deadline is not None and time.monotonic() > deadline:
                break
        return None

    def close(self) -> None:
        """Drops the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _renew(self) -> None:
        """Forgets the client where the server has another address than it, or none."""
        try:
            address = self._context.find("replay", ADDRESS, 1.0)
        except NodeGone:
            address = None
        if self._client is not None and self._client.address != address:
            self.close()
