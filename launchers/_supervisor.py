"""Keeps the nodes of a program running until it is done, fails, or is told to stop, on whichever back end."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import pathlib
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

from . import runs
from .faults import FaultPlan, Saboteur
from .program import Node, NodeState, Outcome, Program, ProgramError, check_entries
from .status import StatusTable


_LOOK_S = 0.05  # The longest time between two looks at the nodes.
_TAIL_LINES, _TAIL_BYTES = 20, 16384
_KILLED_S = 10.0  # A killed process is gone by then, unless the kernel holds it.


@dataclasses.dataclass(frozen=True)
class Supervision:
    """How nodes are kept running.

    Attributes:
      grace_s: seconds that all nodes together have to flush and return when the program stops, before they are
        killed; one that hangs cannot use up what those after it need.
      first_pause_s: seconds before a node is started again after its first failure; doubled at each further one.
      longest_pause_s: the most that this grows to.
      healthy_after_s: a node that ran for so long begins again at `first_pause_s`.
      status_every_s: seconds between the status lines where there is no terminal.
    """

    grace_s: float = 30.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    healthy_after_s: float = 60.0
    status_every_s: float = 30.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 0:
                raise ProgramError(f"{field.name} is at least 0, got {getattr(self, field.name)}")


class End(NamedTuple):
    """How a node's process ended.

    Attributes:
      clean: whether its function returned.
      how: in words, such as "exit code 1".
    """

    clean: bool
    how: str


class BackEnd(Protocol):
    """Runs the processes of nodes. A context manager; leaving it ends them all."""

    def start(self, node: Node, incarnation: int) -> None:
        """Starts a node's process, or starts it again. What goes wrong with it is told by `ended`."""
        ...

    def messages(self, wait_s: float) -> Iterable[tuple[str, dict[str, Any]]]:
        """(node, what it said) since the last call. Waits at most so many seconds for the first.

        What it said has any of the keys `pid`, `address` (by key), `facts` (by name) and `note` (for people).
        """
        ...

    def ended(self, node: str) -> End | None:
        """How the process has ended, or None where it runs. Its messages have come before."""
        ...

    def ask_to_stop(self, node: str) -> None:
        """Sets the node's `stopping`."""
        ...

    def kill(self, node: str) -> None:
        """SIGKILLs the process. May be called from another thread."""
        ...

    def log(self, node: str) -> str:
        """Where the node's log is, and its last lines."""
        ...

    def __enter__(self) -> "BackEnd": ...

    def __exit__(self, *_: Any) -> None: ...


class Supervisor:
    """One launch of a program.

    Args:
      program: what to run.
      run_directory: where `nodes/` is kept: a file for each node with its process and addresses.
      back_end: runs the processes.
      supervision: how.
      status: where events are noted.

    Attributes:
      failure: why the program failed; empty if it did not.
    """

    def __init__(
        self,
        program: Program,
        run_directory: pathlib.Path,
        back_end: BackEnd,
        supervision: Supervision,
        status: StatusTable,
    ):
        self._program, self._back_end, self._supervision, self._status = (
            program,
            back_end,
            supervision,
            status,
        )
        self._directory = run_directory / "nodes"
        self._lock = threading.Lock()
        self._states = {node.name: NodeState(node.name, node.role) for node in program.nodes}
        self._due = {node.name: 0.0 for node in program.nodes}  # When a waiting node is to be started.
        self._failures = {node.name: 0 for node in program.nodes}  # In a row, for the back-off.
        self._random = random.Random()
        self._asked: set[str] = set()  # Those whose `stopping` is set.
        self._stopping = False
        self.failure = ""
        self._told: Literal["", "stopped", "interrupted"] = ""
        self._hurry = False
        for name, state in self._states.items():
            state.incarnation = _past_starts(self._directory / f"{name}.json")
            self._save(name)

    def states(self) -> dict[str, NodeState]:
        with self._lock:
            return {
                name: dataclasses.replace(state, address=dict(state.address), facts=dict(state.facts))
                for name, state in self._states.items()
            }

    def kill(self, node: str) -> None:
        self._back_end.kill(node)

    def tell_to_stop(self, why: Literal["stopped", "interrupted"]) -> None:
        """Ends the program from outside; a second time without grace. May be called by a signal handler."""
        self._hurry = bool(self._told)
        self._told = self._told or why

    def run(self, stopping: threading.Event) -> Literal["finished", "stopped", "interrupted", "failed"]:
        """Runs the program to its end, or until `stopping` is set. Returns how it ended; `failure` says why."""
        while not (self.failure or self._told or self._is_done()):
            if stopping.is_set():
                self.tell_to_stop("stopped")
            for name, due in self._due.items():
                if self._states[name].state == "waiting" and time.monotonic() >= due:
                    self._start(name)
            self._look()
        self._stop_all()
        self._status.update(self.states(), last=True)
        if self.failure:
            return "failed"
        return "finished" if self._is_done() else self._told or "stopped"

    def _is_done(self) -> bool:
        return all(self._states[name].state == "done" for name in self._program.awaited)

    def _start(self, name: str) -> None:
        with self._lock:
            state = self._states[name]
            state.state, state.since = "running", time.time()
            state.pid, state.reported, state.address = None, None, {}
        self._save(name)
        self._back_end.start(self._program.node(name), state.incarnation)

    def _look(self) -> None:
        """Waits a moment, and takes in what has happened meanwhile."""
        for name, message in self._back_end.messages(_LOOK_S):
            self._take(name, message)
        for name, state in self._states.items():
            if state.state == "running" and (end := self._back_end.ended(name)) is not None:
                self._take_end(name, end)
        self._status.update(self.states())

    def _take(self, name: str, message: dict[str, Any]) -> None:
        state = self._states[name]
        with self._lock:
            state.pid = message.get("pid", state.pid)
            state.address |= message.get("address", {})
            if "facts" in message:
                state.facts |= message["facts"]
                state.reported = time.monotonic()
        if "note" in message:
            self._status.note(f"{name}: {message['note']}")
        if message.keys() & {"pid", "address"}:
            self._save(name)

    def _take_end(self, name: str, end: End) -> None:
        state = self._states[name]
        ran_s = time.time() - state.since
        with self._lock:
            state.pid, state.address = None, {}
            # A process that dies of the signal while it is told to stop had nothing to flush yet.
            stopped = name in self._asked and (end.clean or end.how == "signal SIGTERM")
            state.state = "stopped" if stopped else "done" if end.clean else "failed"
        if state.state != "failed":
            self._status.note(f"{name} has {'stopped' if stopped else 'returned'}")
        elif self._stopping:
            self._status.note(f"{name} did not stop as it should: {end.how}")
        elif state.restarts >= self._program.node(name).restarts:
            self.failure = (
                f"node {name} failed ({end.how}) after {state.restarts} restarts, which is its bound; "
                f"{self._back_end.log(name)}"
            )
        else:
            self._plan_restart(state, ran_s, end)
        self._save(name)

    def _plan_restart(self, state: NodeState, ran_s: float, end: End) -> None:
        with self._lock:
            state.state = "waiting"
            state.restarts += 1
            state.incarnation += 1
            state.since, state.reported = 0.0, None
        healthy = ran_s >= self._supervision.healthy_after_s
        self._failures[state.name] = 1 if healthy else self._failures[state.name] + 1
        pause = backoff_s(self._failures[state.name], self._supervision, self._random)
        self._due[state.name] = time.monotonic() + pause
        bound = self._program.node(state.name).restarts
        self._status.note(
            f"{state.name} failed ({end.how}); restart {state.restarts} of at most {bound} in {pause:.1f} s"
        )

    def _stop_all(self) -> None:
        """Stops the nodes from the last to the first, neighbours of one role together."""
        self._stopping = True
        for name, state in self._states.items():
            if state.state == "waiting":
                with self._lock:
                    state.state = "stopped"
                self._save(name)
        groups = itertools.groupby(reversed(self._program.nodes), key=lambda node: node.role)
        stages = [stage for _, group in groups if (stage := self._running(node.name for node in group))]
        deadline = time.monotonic() + self._supervision.grace_s
        for left, stage in zip(range(len(stages), 0, -1), stages):
            limit = time.monotonic() + (deadline - time.monotonic()) / left
            for name in stage:
                self._asked.add(name)
                self._back_end.ask_to_stop(name)
            while self._running(stage) and time.monotonic() < limit and not self._hurry:
                self._look()
            for name in self._running(stage):
                self._back_end.kill(name)
        limit = time.monotonic() + _KILLED_S
        while self._running(self._states) and time.monotonic() < limit:
            self._look()

    def _running(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self._states[name].state == "running"]

    def _save(self, name: str) -> None:
        """Leaves what other processes may know of a node in `nodes/`; its facts change too often for that."""
        about = dataclasses.asdict(self._states[name])
        del about["facts"], about["reported"]
        runs.write_json(self._directory / f"{name}.json", about)


def supervise(
    program: Program,
    run_directory: pathlib.Path,
    back_end: BackEnd,
    supervision: Supervision,
    faults: FaultPlan | None,
    stopping: threading.Event | None,
) -> Outcome:
    """Runs a program on a back end to its end; see `run_local`."""
    check_entries(program)
    run_directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (
        runs.locked(run_directory / "nodes"),
        StatusTable(program.name, supervision.status_every_s) as status,
        back_end,
    ):
        supervisor = Supervisor(program, run_directory, back_end, supervision, status)
        saboteur = Saboteur(faults, supervisor) if faults is not None else None
        with _signals(supervisor):
            if saboteur is not None:
                saboteur.start()
            state = supervisor.run(stopping or threading.Event())
        recoveries = saboteur.finish() if saboteur is not None else ()
    return Outcome(state, time.monotonic() - began, supervisor.states(), supervisor.failure, recoveries)


def backoff_s(failures: int, supervision: Supervision, random: random.Random) -> float:
    """Seconds before a restart: doubled at each failure in a row, capped, less up to half of it at random.

    The jitter keeps nodes that died together from coming back together.
    """
    pause = supervision.first_pause_s * 2.0 ** min(failures - 1, 60)
    return min(pause, supervision.longest_pause_s) * random.uniform(0.5, 1.0)


def open_log(run_directory: pathlib.Path, node: str, incarnation: int) -> BinaryIO:
    """A node's log, to be appended to below the heading of this incarnation."""
    path = log_path(run_directory, node)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab", buffering=0)
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    file.write(f"--- {node}, incarnation {incarnation}, {now}\n".encode())
    return file


def log_path(run_directory: pathlib.Path, node: str) -> pathlib.Path:
    return run_directory / "logs" / f"{node}.log"


def log_tail(path: pathlib.Path) -> str:
    """Where a log is, and its last lines."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"its log {path} ends with", *tail])


def _past_starts(path: pathlib.Path) -> int:
    """How often a node was started in this run directory by earlier launches."""
    try:
        about = json.loads(path.read_text())
        return about["incarnation"] + (about["since"] > 0)
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError) as error:
        raise ProgramError(f"{path} is damaged: {error!r}; remove it") from error


@contextlib.contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    """SIGTERM and Ctrl-C stop the program, a second one at once; only the main thread can see to that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: supervisor.tell_to_stop("stopped")),
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: supervisor.tell_to_stop("interrupted")),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
