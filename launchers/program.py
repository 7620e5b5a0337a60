"""Programs: a named set of nodes, each a function that runs in a process of its own, and what a node sees."""

import dataclasses
import importlib
import importlib.util
import json
import math
import os
import pathlib
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from .rpc import Handle


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class ProgramError(ValueError):
    """A program cannot be run as it is written. One clear line."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One process of a program.

    Attributes:
      name: unlike that of any other node; letters, digits, ".", "_" and "-".
      role: what it does, such as "actor"; nodes of one role stand together in the status table.
      entry: `package.module:function`, called as `function(context)` with a `Context`. It returns when its work
        is done or `context.stopping` is set; an exception is a failure.
      settings: what it is told, JSON values.
      cpus: cores that it needs (Ray places by them; the local back end does not).
      gpus: GPUs that it needs; a node with 0 sees none.
      memory_gb: host memory that it needs, in GiB (Ray only).
      restarts: how often it may be started again after a failure; one more fails the program.
      beside: the name of a node that must be on the same machine.
    """

    name: str
    role: str
    entry: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 0.5
    restarts: int = 10
    beside: str | None = None

    def __post_init__(self):
        _check_plain("node", self.name)
        _check_plain(f"node {self.name}: role", self.role)
        if not isinstance(self.entry, str) or not _ENTRY.fullmatch(self.entry):
            raise ProgramError(f"node {self.name}: entry is package.module:function, got {self.entry!r}")
        object.__setattr__(self, "settings", _as_json(f"node {self.name}", self.settings))
        for field in ("cpus", "gpus", "memory_gb"):
            value = getattr(self, field)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise ProgramError(f"node {self.name}: {field} is a number of at least 0, got {value!r}")
        if not (isinstance(self.restarts, int) and self.restarts >= 0):
            raise ProgramError(
                f"node {self.name}: restarts is a whole number of at least 0, got {self.restarts!r}"
            )


@dataclasses.dataclass(frozen=True)
class Program:
    """A named set of nodes.

    Attributes:
      name: letters, digits, ".", "_" and "-"; the namespace on Ray.
      nodes: servers before those that call them. A program is stopped from the last node to the first,
        neighbours of one role together, so that a node can rely on those before it to its end.
      settings: what all nodes are told, JSON values.
      until: names of nodes; the program is done when all of them have returned. Empty means every node.
    """

    name: str
    nodes: Sequence[Node]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    until: Sequence[str] = ()

    def __post_init__(self):
        _check_plain("program", self.name)
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "until", tuple(self.until))
        object.__setattr__(self, "settings", _as_json(f"program {self.name}", self.settings))
        if not self.nodes:
            raise ProgramError(f"program {self.name} has no nodes")
        names = [node.name for node in self.nodes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ProgramError(f"program {self.name}: more than one node is called {', '.join(twice)}")
        for name in self.until:
            self._check_known(f"program {self.name}: until", name)
        for node in self.nodes:
            if node.beside == node.name:
                raise ProgramError(f"node {node.name}: beside names itself")
            if node.beside is not None:
                self._check_known(f"node {node.name}: beside", node.beside)

    def _check_known(self, what: str, name: str) -> None:
        names = [node.name for node in self.nodes]
        if name not in names:
            raise ProgramError(f"{what} names {name!r}, which is no node; known: {', '.join(names)}")

    def node(self, name: str) -> Node:
        """The node of that name. Raises `ProgramError` where there is none."""
        self._check_known(f"program {self.name}: node", name)
        return next(node for node in self.nodes if node.name == name)

    @property
    def awaited(self) -> tuple[str, ...]:
        """The nodes whose return ends the program: `until`, or all."""
        return tuple(self.until) or tuple(node.name for node in self.nodes)

    def machines(self) -> list[list[str]]:
        """Groups of node names, each of which must be on one machine; nodes that may be anywhere alone."""
        group = {node.name: {node.name} for node in self.nodes}
        for node in self.nodes:
            if node.beside is not None:
                joined = group[node.name] | group[node.beside]
                group |= dict.fromkeys(joined, joined)
        seen: set[str] = set()
        result = []
        for node in self.nodes:
            if node.name not in seen:
                result.append([other.name for other in self.nodes if other.name in group[node.name]])
                seen |= group[node.name]
        return result


class Context(Protocol):
    """All that a node sees of the back end that runs it.

    Attributes:
      name: the node's.
      settings: the node's.
      program_settings: the program's.
      run_directory: where the program keeps what it writes; on Ray every machine needs to see the same one.
      incarnation: how often this node was started before in this run directory: 0 at the very first time.
      stopping: set when the node is to finish, flush and return.
    """

    name: str
    settings: dict[str, Any]
    program_settings: dict[str, Any]
    run_directory: pathlib.Path
    incarnation: int
    stopping: threading.Event

    def serve(self, handlers: Mapping[str, Callable[..., Any]]) -> str:
        """Answers calls by name from now on, each caller in a thread of its own.

        Args:
          handlers: method -> function; see `rpc.Server`.

        Returns:
          "host:port", where other nodes find it by `connect`.
        """
        ...

    def connect(self, node: str, deadline_s: float = 60.0) -> Handle:
        """A handle of a node that serves, once it does.

        Raises:
          NodeGone: it does not answer before the deadline, or `stopping` was set meanwhile.
        """
        ...

    def advertise(self, key: str, value: str) -> None:
        """Lets other nodes `find` something of this node, such as the address of a foreign server."""
        ...

    def find(self, node: str, key: str, deadline_s: float = 60.0) -> str:
        """What a node advertised since its last start.

        Raises:
          NodeGone: nothing before the deadline, or `stopping` was set meanwhile.
        """
        ...

    def report(self, **facts: Any) -> None:
        """Facts for the status table (numbers and short strings). The latest value of each is kept."""
        ...


@dataclasses.dataclass
class NodeState:
    """How a node is at this moment.

    Attributes:
      name: the node's.
      role: the node's.
      state: "waiting" (to be started, at first or again), "running", "done" (returned), "stopped" (ended when
        told to), or "failed".
      pid: of its process, None where it has none.
      incarnation: which start this is; see `Context`.
      restarts: how often this launch has started it again.
      since: when its process was started, in seconds of `time.time()`; 0 before it is.
      address: what it advertised, by key.
      facts: what it reported last, by name.
      reported: when it last reported, in seconds of `time.monotonic()`; None before it has in this incarnation.
    """

    name: str
    role: str
    state: Literal["waiting", "running", "done", "stopped", "failed"] = "waiting"
    pid: int | None = None
    incarnation: int = 0
    restarts: int = 0
    since: float = 0.0
    address: dict[str, str] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    reported: float | None = None


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What became of a node that was killed on purpose.

    Attributes:
      node: its name.
      killed_s: when, in seconds since the faults began.
      recovery_s: seconds until its next incarnation reported; None where it had not when the program ended.
    """

    node: str
    killed_s: float
    recovery_s: float | None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
      state: "finished" (all awaited nodes returned), "stopped" (SIGTERM, or `stopping`), "interrupted" (Ctrl-C) or
        "failed".
      seconds: from start to end.
      nodes: the last state of each node, by name.
      failure: why it failed: the node's name and the last lines of its log; empty otherwise.
      recoveries: one for each kill of a `FaultPlan`.
    """

    state: Literal["finished", "stopped", "interrupted", "failed"]
    seconds: float
    nodes: Mapping[str, NodeState]
    failure: str = ""
    recoveries: Sequence[Recovery] = ()

    @property
    def exit_code(self) -> int:
        """For the shell: 0 finished or stopped, 130 interrupted, 1 failed."""
        return {"finished": 0, "stopped": 0, "interrupted": 130, "failed": 1}[self.state]


def resolve(entry: str) -> Callable[[Context], Any]:
    """Imports a node's function.

    The current directory is appended to the search path, so that it never hides an installed module.

    Args:
      entry: `package.module:function`.

    Raises:
      ProgramError: there is no such module, or no such function in it. What the module's own code raises when it
        is imported is passed on.
    """
    if not _ENTRY.fullmatch(entry):
        raise ProgramError(f"entry is package.module:function, got {entry!r}")
    _append_current_directory()
    name, _, function = entry.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not _is_part(error.name, name):
            raise
        raise _no_module(entry, name) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise ProgramError(f"entry {entry}: {name} has no function {function}")
    return found


def check_entries(program: Program) -> None:
    """Looks for the modules of all entries, without importing more than the packages that they are in.

    Raises:
      ProgramError: one is missing. A program that cannot run is not begun.
    """
    _append_current_directory()
    for node in program.nodes:
        module = node.entry.partition(":")[0]
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError as error:
            if not _is_part(error.name, module):
                raise
            found = None
        if found is None:
            raise _no_module(node.entry, module)


def _append_current_directory() -> None:
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())


def _is_part(missing: str | None, module: str) -> bool:
    """Whether what could not be imported is the module itself, or a package that it is in."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _no_module(entry: str, module: str) -> ProgramError:
    return ProgramError(
        f"entry {entry}: there is no module {module}; it must be installed, or lie in the current directory"
    )


def _check_plain(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        raise ProgramError(
            f"{what} {name!r}: expected letters, digits, '.', '_' and '-', beginning with a letter or digit, at most "
            "128 of them"
        )


def _as_json(what: str, settings: Any) -> dict[str, Any]:
    """Settings as they come back from JSON."""
    if not isinstance(settings, Mapping):
        raise ProgramError(f"{what}: settings are a dictionary, got {type(settings).__name__}")
    try:
        return json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ProgramError(f"{what}: settings must be JSON values: {error}") from error
