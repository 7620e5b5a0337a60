"""What the process of one node of the local back end does once it has been forked.

A pipe, the lifeline, brings one line of JSON, which says what the node is, and then stays open: when it closes, the
supervisor has died, in whatever way, and this process and its children end at once.
"""

import contextlib
import json
import logging
import os
import pathlib
import signal
import sys
import threading
from typing import Any

from ._context import NodeContext, show_log
from .program import resolve


class FileBoard:
    """Tells the supervisor by a pipe, reads what it wrote of others in `RUN/nodes/`.

    Args:
      pipe: a file descriptor that takes lines of JSON.
      directory: `RUN/nodes`.
    """

    def __init__(self, pipe: int, directory: pathlib.Path):
        self._pipe, self._directory = pipe, directory
        self._lock = threading.Lock()

    def advertise(self, key: str, value: str) -> None:
        self._write({"address": {key: value}})

    def look_up(self, node: str, key: str) -> str | None:
        try:
            about = json.loads((self._directory / f"{node}.json").read_text())
        except FileNotFoundError:
            return None
        return about["address"].get(key)

    def report(self, facts: dict[str, Any]) -> None:
        self._write({"facts": facts})

    def _write(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        # Nobody reads any more: the supervisor is dying, and this process with it.
        with self._lock, contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._pipe, line) :]


def main(lifeline: int, pipe: int) -> None:
    """Runs the node. Raises whatever it raises.

    Args:
      lifeline: a file descriptor.
      pipe: a file descriptor that takes lines of JSON for the supervisor.
    """
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    told = os.fdopen(lifeline, "rb", buffering=0)
    line = told.readline()
    if not line.endswith(b"\n"):
        sys.exit(1)  # The supervisor died meanwhile.
    threading.Thread(target=_die_with_supervisor, args=(told,), daemon=True).start()
    description = json.loads(line)
    board = FileBoard(pipe, pathlib.Path(description["run_directory"]) / "nodes")
    context = NodeContext(description, board, "127.0.0.1", description["token"])
    signal.signal(signal.SIGTERM, lambda *_: context.stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle.
    show_log()
    try:
        resolve(description["entry"])(context)
    finally:
        context.close()
    logging.shutdown()


def _die_with_supervisor(lifeline: Any) -> None:
    while lifeline.read(4096):
        pass
    # The process leads a group of its own: what it started ends with it.
    os.killpg(0, signal.SIGKILL)
