"""The local back end: a program's nodes as supervised processes of this machine."""

import contextlib
import glob
import itertools
import json
import math
import os
import pathlib
import secrets
import selectors
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ._context import describe
from ._supervisor import End, Supervision, log_path, log_tail, open_log, supervise
from ._template import Template
from .faults import FaultPlan
from .program import Node, Outcome, Program


def run_local(
    program: Program,
    run_directory: str | os.PathLike[str],
    supervision: Supervision | None = None,
    faults: FaultPlan | None = None,
    stopping: threading.Event | None = None,
    template: Template | None = None,
) -> Outcome:
    """Runs a program on this machine, each node in a process of its own.

    A node that fails is started again with back-off, at most `restarts` times. SIGTERM and Ctrl-C (where this is the
    main thread) stop the program cleanly, and at once if they come a second time. However this process ends, its
    nodes end with it.

    Args:
      program: what to run.
      run_directory: takes `logs/<node>.log` and `nodes/<node>.json`; the nodes keep there what is theirs.
      supervision: how nodes are restarted and stopped; the defaults if None.
      faults: kills nodes on purpose while the program runs.
      stopping: stops the program when it is set.
      template: that was started beforehand, because it imports while the caller still prepares; ended at the end.

    Returns:
      How the program ended. A node's failure is told there and not raised.

    Raises:
      ProgramError: the faults name an unknown node, a file in `nodes/` is damaged, or the template was killed.
      ValueError: another process runs a program in the directory.
      OSError: the directory cannot be written.
    """
    directory = pathlib.Path(run_directory).resolve()
    with template or Template(imports(program)) as template:
        back_end = LocalBackEnd(program, directory, template)
        return supervise(program, directory, back_end, supervision or Supervision(), faults, stopping)


class _Process:
    """A node's process, as the supervisor knows it."""

    def __init__(self, number: int, lifeline: int, pipe: int):
        self.number = number  # Of the template's.
        self.lifeline = lifeline  # When it closes the process ends.
        self.pipe = pipe  # Lines of JSON from the node.
        self.rest = bytearray()  # What has come of the next line.
        self.code: int | None = None  # As of `subprocess`, once it has ended.

    def hang_up(self) -> None:
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1


class LocalBackEnd:
    """See `BackEnd`.

    A node's process is told what it is, the token included, on standard input, which is on no disk and in no list of
    processes.

    Args:
      program: whose nodes are run.
      run_directory: absolute.
      template: the process that they are forked from. It is the caller's to end.
    """

    def __init__(self, program: Program, run_directory: pathlib.Path, template: Template):
        self._program, self._directory, self._template = program, run_directory, template
        self._token = secrets.token_hex(32)
        self._processes: dict[str, _Process] = {}
        self._unread: list[tuple[str, dict[str, Any]]] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(template, selectors.EVENT_READ)
        self._gpus = assign_gpus(program, visible_gpus())

    def start(self, node: Node, incarnation: int) -> None:
        ends_at, lifeline = os.pipe()
        pipe, childs_end = os.pipe()
        gpus = {"CUDA_VISIBLE_DEVICES": self._gpus[node.name]} if node.name in self._gpus else {}
        with open_log(self._directory, node.name, incarnation) as log:
            number = self._template.start(ends_at, childs_end, log.fileno(), gpus)
        os.close(ends_at)
        os.close(childs_end)
        os.set_blocking(pipe, False)
        self._processes[node.name] = _Process(number, lifeline, pipe)
        self._selector.register(pipe, selectors.EVENT_READ, node.name)
        about = describe(self._program, node, self._directory, incarnation) | {"token": self._token}
        # A process that dies at once is seen by `ended`.
        with contextlib.suppress(BrokenPipeError):
            _write_all(lifeline, json.dumps(about).encode() + b"\n")

    def messages(self, wait_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        ready = self._selector.select(0.0 if self._unread else wait_s)
        for key, _ in ready:
            if key.data is None:
                self._hear_template()
            else:
                self._read(key.data)
        unread, self._unread = self._unread, []
        yield from unread

    def ended(self, node: str) -> End | None:
        started = self._processes[node]
        if started.code is None:
            return None
        if started.pipe in self._selector.get_map():
            self._read(node)
            self._close_pipe(started)
            return None  # Its last words come first.
        started.hang_up()
        code = started.code
        return End(code == 0, f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}")

    def ask_to_stop(self, node: str) -> None:
        self._signal(node, signal.SIGTERM, group=False)

    def kill(self, node: str) -> None:
        self._signal(node, signal.SIGKILL, group=True)

    def log(self, node: str) -> str:
        return log_tail(log_path(self._directory, node))

    def __enter__(self) -> "LocalBackEnd":
        return self

    def __exit__(self, *_: Any) -> None:
        for name, started in self._processes.items():
            self.kill(name)
            started.hang_up()
            self._close_pipe(started)
        self._selector.close()

    def _hear_template(self) -> None:
        names = {started.number: name for name, started in self._processes.items()}
        for message in self._template.receive():
            if "started" in message:
                self._unread.append((names[message["started"]], {"pid": message["pid"]}))
            elif message["ended"] in names:
                self._processes[names[message["ended"]]].code = message["code"]

    def _read(self, node: str) -> None:
        """Takes in what a node has said, without waiting."""
        started = self._processes[node]
        with contextlib.suppress(BlockingIOError):
            while data := os.read(started.pipe, 1 << 16):
                started.rest.extend(data)
            self._close_pipe(started)  # It has ended, or closed the pipe.
        *whole, rest = started.rest.split(b"\n")
        started.rest[:] = rest
        self._unread += [(node, json.loads(line)) for line in whole]

    def _close_pipe(self, started: _Process) -> None:
        if started.pipe in self._selector.get_map():
            self._selector.unregister(started.pipe)
            os.close(started.pipe)

    def _signal(self, node: str, sent: int, group: bool) -> None:
        started = self._processes.get(node)
        if started is not None:
            self._template.signal(started.number, sent, group)


def imports(program: Program) -> list[str]:
    """The modules of Limbeck's own nodes in a program, which the template imports.

    What a user's module does when it is imported is not known: only the node that needs it imports it.
    """
    modules = dict.fromkeys(node.entry.partition(":")[0] for node in program.nodes)
    ours = __name__.partition(".")[0] + "."
    return [module for module in modules if module.startswith(ours)]


def assign_gpus(program: Program, visible: Sequence[str]) -> dict[str, str]:
    """Each node's CUDA_VISIBLE_DEVICES: GPUs in turn for those that need some, none for the others.

    Args:
      program: whose nodes share them; when it needs more than there are, they are shared.
      visible: the machine's GPUs. Without any, nodes are left as they are.
    """
    if not visible:
        return {}
    turn = itertools.cycle(visible)
    counts = {node.name: min(math.ceil(node.gpus), len(visible)) for node in program.nodes}
    return {name: ",".join(itertools.islice(turn, count)) for name, count in counts.items()}


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip()]
    return [str(index) for index in range(len(glob.glob("/dev/nvidia[0-9]*")))]


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
