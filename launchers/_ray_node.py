"""The process of one node on Ray: the actor that runs its function, and answers for it meanwhile."""

import os
import pathlib
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any, cast

from ._context import NodeContext, show_log
from ._supervisor import open_log
from .program import resolve


CONTROL = "control"  # The concurrency group of the calls that are answered while the node runs.
SHARED = ".shared"  # In RUN/nodes: what this launch wrote there, seen by machines that share the directory.
_LOOK_UP_S = 2.0


class NodeHost:
    """An actor named as its node, in the namespace of its program.

    `run` is called once in each process; everything else belongs to the group `CONTROL`.

    Args:
      namespace: the program's name.
      description: of `describe`, with the supervisor's `search_path`.
      token: the program's secret.
      launch: what this launch wrote to `RUN/nodes/.shared`.
    """

    def __init__(self, namespace: str, description: Mapping[str, Any], token: str, launch: str):
        self._namespace, self._description, self._token = namespace, description, token
        self._directory = pathlib.Path(description["run_directory"])
        mark = self._directory / "nodes" / SHARED
        self._shared = mark.is_file() and mark.read_text() == launch
        self._lock = threading.Lock()
        self._context: NodeContext | None = None
        self._stopping = False
        self._address: dict[str, str] = {}
        self._facts: dict[str, Any] = {}
        self._reports = 0

    def run(self, incarnation: int) -> None:
        """Runs the node to its end. A failure ends the process, as it does on the local back end."""
        import ray

        try:
            if self._shared:
                with open_log(self._directory, self._description["name"], incarnation) as log:
                    for descriptor in (1, 2):
                        os.dup2(log.fileno(), descriptor)
            self._directory.mkdir(parents=True, exist_ok=True)
            show_log()
            sys.path += [path for path in self._description["search_path"] if path not in sys.path]
            host = ray.util.get_node_ip_address()
            context = NodeContext({**self._description, "incarnation": incarnation}, self, host, self._token)
            with self._lock:
                self._context = context
                if self._stopping:
                    context.stopping.set()
            try:
                resolve(self._description["entry"])(context)
            finally:
                context.close()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(1)

    def advertise(self, key: str, value: str) -> None:
        with self._lock:
            self._address[key] = value

    def report(self, facts: dict[str, Any]) -> None:
        with self._lock:
            self._facts |= facts
            self._reports += 1

    def look_up(self, node: str, key: str) -> str | None:
        """What another node has put up, asked of its actor."""
        import ray
        from ray import exceptions

        try:
            actor = ray.get_actor(node, namespace=self._namespace)
            asked = actor.shown.options(concurrency_group=CONTROL).remote(key)
            return cast(str | None, ray.get(asked, timeout=_LOOK_UP_S))
        except (ValueError, exceptions.RayActorError, exceptions.GetTimeoutError):
            return None  # Not placed yet, or between two lives.

    def shown(self, key: str) -> str | None:
        """What this node has put up."""
        return self._address.get(key)

    def status(self) -> dict[str, Any]:
        """How the node is: its process, what it has put up and reported, and how often it has reported."""
        import ray

        with self._lock:
            return {
                "incarnation": self._context.incarnation if self._context else None,
                "pid": os.getpid(),
                "host": ray.util.get_node_ip_address(),
                "shared": self._shared,
                "address": dict(self._address),
                "facts": dict(self._facts),
                "reports": self._reports,
            }

    def stop(self) -> None:
        """Sets the node's `stopping`, now or when it begins."""
        with self._lock:
            self._stopping = True
            if self._context is not None:
                self._context.stopping.set()

    def die(self) -> None:
        """Ends the process as a crash would."""
        os.kill(os.getpid(), signal.SIGKILL)
