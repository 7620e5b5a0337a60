"""The `Context` of both back ends, over the little that they do differently."""

import contextlib
import json
import logging
import pathlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from .program import Node, Program, ProgramError
from .rpc import Handle, NodeGone, Server


_PAUSE_S, _CLOSING_S = (
    0.05,
    1.0,
)  # Between looks at what a node advertises; how long once this one is stopping.
_ADDRESS = "rpc"  # The key under which a node advertises where it serves.


class Board(Protocol):
    """Where a node says what it is reached by and how it is, and looks that up of others."""

    def advertise(self, key: str, value: str) -> None:
        """Puts up something of this node."""
        ...

    def look_up(self, node: str, key: str) -> str | None:
        """What a node has put up since its last start, or None. Returns soon."""
        ...

    def report(self, facts: dict[str, Any]) -> None:
        """Tells the supervisor facts of this node, JSON values."""
        ...


def describe(program: Program, node: Node, run_directory: pathlib.Path, incarnation: int) -> dict[str, Any]:
    """What a node's process must be told to make its context and find its function, as JSON values."""
    return {
        "name": node.name,
        "entry": node.entry,
        "settings": node.settings,
        "program_settings": program.settings,
        "nodes": [other.name for other in program.nodes],
        "run_directory": str(run_directory),
        "incarnation": incarnation,
    }


class NodeContext:
    """See `Context`.

    Args:
      description: of `describe`.
      board: of the back end.
      host: to serve on.
      token: the program's secret.
    """

    def __init__(self, description: Mapping[str, Any], board: Board, host: str, token: str):
        self.name: str = description["name"]
        self.settings: dict[str, Any] = description["settings"]
        self.program_settings: dict[str, Any] = description["program_settings"]
        self.run_directory = pathlib.Path(description["run_directory"])
        self.incarnation: int = description["incarnation"]
        self.stopping = threading.Event()
        self._nodes, self._board, self._host, self._token = description["nodes"], board, host, token
        self._open = contextlib.ExitStack()
        self._serves = False

    def serve(self, handlers: Mapping[str, Callable[..., Any]]) -> str:
        if self._serves:
            raise ProgramError(f"node {self.name} serves already; give all its handlers at once")
        self._serves = True
        server = self._open.enter_context(Server(handlers, self._host, self._token))
        self._board.advertise(_ADDRESS, server.address)
        return server.address

    def connect(self, node: str, deadline_s: float = 60.0) -> Handle:
        self._check_known(node)
        handle = Handle(node, lambda: self._board.look_up(node, _ADDRESS), self._token, self.stopping)
        self._open.callback(handle.close)
        handle.wait(deadline_s)
        return handle

    def advertise(self, key: str, value: str) -> None:
        if key == _ADDRESS:
            raise ProgramError(f"node {self.name}: the key {key!r} is that of `serve`; take another one")
        self._board.advertise(key, value)

    def find(self, node: str, key: str, deadline_s: float = 60.0) -> str:
        self._check_known(node)
        began = time.monotonic()
        while (value := self._board.look_up(node, key)) is None:
            waited = time.monotonic() - began
            if self.stopping.is_set() and waited > _CLOSING_S:
                raise NodeGone(f"{node} did not advertise {key!r}, and this node is stopping")
            if waited + _PAUSE_S > deadline_s:
                raise NodeGone(f"{node} did not advertise {key!r} within {deadline_s:g} s")
            time.sleep(_PAUSE_S)
        return value

    def report(self, **facts: Any) -> None:
        self._board.report(json.loads(json.dumps(facts, default=_plain)))

    def close(self) -> None:
        """Ends its server and handles."""
        self._open.close()

    def _check_known(self, node: str) -> None:
        if node not in self._nodes:
            raise ProgramError(
                f"node {self.name} looks for {node!r}, which is no node; known: {', '.join(self._nodes)}"
            )


def show_log() -> None:
    """What Limbeck logs goes to stderr, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("limbeck")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _plain(value: Any) -> Any:
    """An array of one number, of NumPy or JAX, as that number."""
    if np.size(value) != 1 or np.asarray(value).dtype.kind not in "biuf":
        raise ProgramError(f"facts are numbers and short strings, got {type(value).__name__}")
    return np.asarray(value).item()
