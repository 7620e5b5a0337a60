"""A process that has imported what nodes need, and from which they are forked.

Importing JAX takes seconds of a core, TensorFlow and Reverb several more; a fork takes milliseconds, so that a program
of five nodes starts as fast as one, and a node that died is back at once. The template only imports: a fork of a
process in which JAX has made its backend, or Reverb a server, would hang.

The two sides talk over a pair of sockets, a JSON object a packet, file descriptors beside it. The template alone
waits for the processes, so that none is sent a signal after its number has gone to another.
"""

import array
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from .program import ProgramError


_LOOK_S = 0.05  # Between two looks at the processes.
_MOST_BYTES = 1 << 16
_FDS = 3


class Template:
    """The supervisor's side. A context manager; leaving it ends the template and every process forked from it.

    Args:
      modules: imported beforehand. One that fails to import is left to the node that needs it, which says so.
    """

    def __init__(self, modules: Sequence[str]):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            # The nodes find the same modules as this process, in the same order.
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "PYTHONUNBUFFERED": "1",
        }
        self._process = subprocess.Popen(
            # -P: the search path is this process's, no more.
            [sys.executable, "-P", "-m", __name__, *modules],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        theirs.close()
        self._living: dict[int, int | None] = {}  # Number -> process, once it is known.
        self._started = 0
        self._lock = threading.Lock()

    def start(self, lifeline: int, pipe: int, log: int, environment: Mapping[str, str]) -> int:
        """Asks for a process of `_node.main`. The descriptors may be closed afterwards.

        Args:
          lifeline: its standard input.
          pipe: where it tells the supervisor.
          log: takes what it prints.
          environment: variables that only it has.

        Returns:
          The number by which `signal` and `receive` know it.

        Raises:
          ProgramError: the template has died.
        """
        with self._lock:
            number, self._started = self._started, self._started + 1
            self._living[number] = None
        self._send({"start": number, "environment": dict(environment)}, [lifeline, pipe, log])
        return number

    def signal(self, number: int, sent: int, group: bool) -> None:
        """Sends a process, or whatever is in its group, a signal; nothing where it has ended. For any thread."""
        if number in self._living:
            with contextlib.suppress(ProgramError):  # `receive` tells.
                self._send({"signal": number, "sent": sent, "group": group})

    def receive(self) -> list[dict[str, Any]]:
        """What the template has said: `started` with `pid`, or `ended` with `code`, as of `subprocess`, per number.

        Raises:
          ProgramError: it has died.
        """
        said: list[dict[str, Any]] = []
        while True:
            try:
                packet = self._socket.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return said
            except OSError:
                packet = b""
            if not packet:
                raise ProgramError("the process from which nodes are forked has died")
            message = json.loads(packet)
            if "started" in message:
                self._living[message["started"]] = message["pid"]
            else:
                self._living.pop(message["ended"], None)
            said.append(message)

    def fileno(self) -> int:
        return self._socket.fileno()

    def __enter__(self) -> "Template":
        return self

    def __exit__(self, *_: Any) -> None:
        if not self._living:
            self._process.kill()  # It may still be importing, for nobody.
        # At the end of its input it kills what is left and returns; one that hangs is killed itself.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            for pid in filter(None, self._living.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        self._living.clear()
        self._socket.close()

    def _send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], fds)
        except OSError as error:
            raise ProgramError("the process from which nodes are forked has died") from error


class _Request(NamedTuple):
    message: dict[str, Any]
    fds: list[int]


def main() -> None:
    """The template's side: standard input is its socket, the arguments are modules."""
    supervisor = socket.socket(fileno=os.dup(0))
    for module in sys.argv[1:]:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    children: dict[int, int] = {}
    try:
        while True:
            ready, _, _ = select.select([supervisor], [], [], _LOOK_S if children else None)
            if ready:
                request = _read(supervisor)
                if request is None:
                    break
                _serve(supervisor, request, children)
            for number in _ended(children):
                _tell(supervisor, {"ended": number, "code": _reap(children.pop(number))})
    finally:
        for pid in children.values():
            _reap(pid)


def _serve(supervisor: socket.socket, request: _Request, children: dict[int, int]) -> None:
    message = request.message
    if "start" in message:
        pid = _fork(supervisor, request)
        children[message["start"]] = pid
        _tell(supervisor, {"started": message["start"], "pid": pid})
    elif (pid := children.get(message["signal"])) is not None:
        # Nothing has waited for it yet: its number is its own. It may not have made its group yet.
        for send in (os.kill, os.killpg) if message["group"] else (os.kill,):
            with contextlib.suppress(ProcessLookupError):
                send(pid, message["sent"])


def _fork(supervisor: socket.socket, request: _Request) -> int:
    with warnings.catch_warnings():
        # JAX and newer Pythons warn of threads, of which there are only those of NumPy's BLAS: they are made anew.
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        supervisor.close()
        _become_node(request)
    for fd in request.fds:
        os.close(fd)
    return pid


def _become_node(request: _Request) -> NoReturn:
    code = 1
    try:
        # A group of its own: Ctrl-C in a terminal reaches only the supervisor, and what it starts is killed with it.
        os.setsid()
        lifeline, pipe, log = request.fds
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.environ.update(request.message["environment"])
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()  # Or all nodes would draw the same numbers.
        from . import _node

        _node.main(lifeline, pipe)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # Not the interpreter's own end: a library's thread that still waits would hold it up, or abort it from C++.
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _ended(children: Mapping[int, int]) -> list[int]:
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return [number for number, pid in children.items() if os.waitid(os.P_PID, pid, options) is not None]


def _reap(pid: int) -> int:
    """Kills a process with all that it started, and returns its exit code."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            send(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read(supervisor: socket.socket) -> _Request | None:
    """The next packet; None where the supervisor has closed its end or has died."""
    fds = array.array("i")
    try:
        packet, ancillary, _, _ = supervisor.recvmsg(_MOST_BYTES, socket.CMSG_LEN(_FDS * fds.itemsize))
    except OSError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return _Request(json.loads(packet), fds.tolist()) if packet else None


def _tell(supervisor: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # The supervisor has died: the next packet says so.
        supervisor.send(json.dumps(message).encode())


if __name__ == "__main__":
    main()
