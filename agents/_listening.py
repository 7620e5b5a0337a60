"""What a server written in C++ needs around it: a port of its own, and its chatter dropped."""

import contextlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator

from .tables import ReplayError


_STDERR = threading.Lock()


def check_free(port: int) -> None:
    """Raises `ReplayError` where a port is taken: gRPC would share it, and clients would reach either server."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Old connections do not matter.
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ReplayError(f"Cannot listen on port {port}: {error.strerror}.") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops the lines that Reverb's C++ writes to stderr without asking; all others are passed on."""
    sys.stderr.flush()
    with _STDERR, tempfile.TemporaryFile() as caught:
        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not line.startswith(b"[reverb/cc/"):
                    os.write(2, line)
