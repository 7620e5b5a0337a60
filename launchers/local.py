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
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ._context import describe
from ._supervisor import End, Supervision, log_path, log_tail, open_log, supervise
from .faults import FaultPlan
from .program import Node, Outcome, Program


def run_local(
    program: Program,
    run_directory: str | os.PathLike[str],
    supervision: Supervision | None = None,
    faults: FaultPlan | None = None,
    stopping: threading.Event | None = None,
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

    Returns:
      How the program ended. A node's failure is told there and not raised.

    Raises:
      ProgramError: the faults name an unknown node, or a file in `nodes/` is damaged.
      ValueError: another process runs a program in the directory.
      OSError: the directory cannot be written.
    """
    directory = pathlib.Path(run_directory).resolve()
    back_end = LocalBackEnd(program, directory)
    return supervise(program, directory, back_end, supervision or Supervision(), faults, stopping)


class _Process(NamedTuple):
    process: subprocess.Popen[bytes]
    pipe: int  # Lines of JSON from the node.
    rest: bytearray  # What has come of the next line.


class LocalBackEnd:
    """See `BackEnd`.

    A node's process leads a session and a process group of its own, so that Ctrl-C in a terminal reaches only the
    supervisor and whatever the node starts can be killed with it. It is told what it is, the token included, on
    standard input, which is on no disk and in no list of processes.

    Args:
      program: whose nodes are run.
      run_directory: absolute.
    """

    def __init__(self, program: Program, run_directory: pathlib.Path):
        self._program, self._directory = program, run_directory
        self._token = secrets.token_hex(32)
        self._processes: dict[str, _Process] = {}
        self._reaping = threading.Lock()  # Held while a process ends, or is sent a signal.
        self._unread: list[tuple[str, dict[str, Any]]] = []
        self._selector = selectors.DefaultSelector()
        self._gpus = assign_gpus(program, visible_gpus())

    def start(self, node: Node, incarnation: int) -> None:
        pipe, childs_end = os.pipe()
        about = describe(self._program, node, self._directory, incarnation)
        about |= {"token": self._token, "pipe": childs_end}
        with open_log(self._directory, node.name, incarnation) as log:
            process = subprocess.Popen(
                # -P: the search path is this process's, no more.
                [sys.executable, "-P", "-m", f"{__package__}._node"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(node),
                pass_fds=(childs_end,),
                start_new_session=True,
            )
        os.close(childs_end)
        os.set_blocking(pipe, False)
        self._processes[node.name] = _Process(process, pipe, bytearray())
        self._selector.register(pipe, selectors.EVENT_READ, node.name)
        self._unread.append((node.name, {"pid": process.pid}))
        assert process.stdin is not None
        # A process that dies at once is seen by `ended`.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(about).encode() + b"\n")
            process.stdin.flush()

    def messages(self, wait_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        ready = self._selector.select(0.0 if self._unread else wait_s)
        for key, _ in ready:
            self._read(key.data)
        unread, self._unread = self._unread, []
        yield from unread

    def ended(self, node: str) -> End | None:
        started = self._processes[node]
        process = started.process
        # Asked without reaping it: until then nothing else can have its number, nor its group's.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        if started.pipe in self._selector.get_map():
            self._read(node)
            self._close_pipe(started)
            return None  # Its last words come first.
        with self._reaping:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # What it started and left behind.
            code = process.wait()
        _hang_up(process)
        return End(code == 0, f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}")

    def ask_to_stop(self, node: str) -> None:
        self._signal(node, os.kill, signal.SIGTERM)

    def kill(self, node: str) -> None:
        self._signal(node, os.killpg, signal.SIGKILL)

    def log(self, node: str) -> str:
        return log_tail(log_path(self._directory, node))

    def __enter__(self) -> "LocalBackEnd":
        return self

    def __exit__(self, *_: Any) -> None:
        for name, started in self._processes.items():
            self.kill(name)
            started.process.wait()
            _hang_up(started.process)
            if started.pipe in self._selector.get_map():
                self._close_pipe(started)
        self._selector.close()

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

    def _signal(self, node: str, send: Callable[[int, int], None], number: int) -> None:
        started = self._processes.get(node)
        with self._reaping, contextlib.suppress(ProcessLookupError):
            if started is not None and started.process.returncode is None:
                send(started.process.pid, number)

    def _environment(self, node: Node) -> dict[str, str]:
        # The node finds the same modules as this process, in the same order.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "PYTHONUNBUFFERED": "1",
        }
        if node.name in self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[node.name]
        return environment


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


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
