"""Calls by name between the nodes of a program: msgpack values and NumPy arrays over TCP, nothing pickled.

Both sides prove that they know the program's token before the first message (HMAC-SHA256 over a nonce of each), so
that neither a stranger nor a foreign server at a reused port is talked to. What follows is not encrypted.
"""

import contextlib
import hashlib
import hmac
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ._wire import MAX_BYTES, exactly, receive, send
from ._wire import MessageError as MessageError


_log = logging.getLogger(__name__)
_NONCE, _PROOF = 32, 32
_REFUSED = bytes(_PROOF)
_HANDSHAKE_S = 5.0  # For the handshake, and for one attempt to connect.
_REPLY_S = 60.0  # A caller that does not take its answer for so long is dropped.
# The last entry of an answer after which the server closes the connection.
_ENDS = "ends"
_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5  # Between attempts to reach a node.
_CLOSING_ATTEMPTS_S = 1.0  # How long a dead node is looked for once the caller is stopping.


class RpcError(RuntimeError):
    """A call failed. One clear line."""


class CallTimeout(RpcError):
    """The node did not answer before the deadline. It may still carry the call out."""


class NodeGone(RpcError):
    """The node could not be reached before the deadline, or died during the call, which it may have carried out."""


class AccessRefused(NodeGone):
    """Whoever listens at the node's address does not share the program's token."""


class RemoteError(RpcError):
    """The handler raised an exception.

    Attributes:
      kind: the exception's type, such as "ValueError".
      message: the exception's.
    """

    def __init__(self, where: str, kind: str, message: str):
        super().__init__(f"{where} failed: {kind}: {message}")
        self.kind, self.message = kind, message


class Server:
    """Answers calls, each connection in a thread of its own.

    Args:
      handlers: method -> function, called with the caller's keyword arguments in the connection's thread, several
        at a time. Its result is sent back; an exception reaches the caller as `RemoteError`.
      host: to listen on. Anything but loopback lets other machines try the token.
      token: the program's secret.
      port: 0 takes a free one.
      max_bytes: most of one message.

    Attributes:
      address: "host:port".
    """

    def __init__(
        self,
        handlers: Mapping[str, Callable[..., Any]],
        host: str = "127.0.0.1",
        token: str = "",
        port: int = 0,
        max_bytes: int = MAX_BYTES,
    ):
        if not token:
            raise ValueError("a server needs the program's token; got an empty one")
        self._handlers, self._token, self._max_bytes = dict(handlers), token.encode(), max_bytes
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=128)
        bound = self._listener.getsockname()[1]
        self.address = f"[{host}]:{bound}" if family == socket.AF_INET6 else f"{host}:{bound}"
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, name="rpc-server", daemon=True).start()

    def close(self) -> None:
        """Stops listening and drops the callers. Handlers that run are not interrupted."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        for sock in (self._listener, *connections):
            # Wakes the thread that waits on it, which closing alone does not.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if not self._closed:  # Such as too many open files: callers try again.
                    _log.warning("A caller could not be accepted: %s", error)
                    time.sleep(_PAUSE_S)
                continue
            threading.Thread(target=self._talk, args=(sock,), name="rpc-caller", daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with self._lock:
            self._connections.add(sock)
        try:
            with sock, contextlib.suppress(OSError):
                _prepare(sock)
                if not self._closed and _admit(sock, self._token):
                    while self._answer(sock):
                        pass
        finally:
            with self._lock:
                self._connections.discard(sock)

    def _answer(self, sock: socket.socket) -> bool:
        """One call. Whether the connection can go on."""
        try:
            request = receive(sock, None, self._max_bytes)
            method, arguments = request
            reply = self._carry_out(method, arguments)
        except (MessageError, TypeError, ValueError) as error:
            # Where the next message would begin is not known any more. The caller must know that the connection ends,
            # or its next call might be sent before it does.
            reply = [False, type(error).__name__, str(error), _ENDS]
            send(sock, reply, time.monotonic() + _REPLY_S, self._max_bytes)
            return False
        try:
            send(sock, reply, time.monotonic() + _REPLY_S, self._max_bytes)
        except MessageError as error:
            reply = [False, "MessageError", f"the answer of {method}: {error}"]
            send(sock, reply, time.monotonic() + _REPLY_S, self._max_bytes)
        return True

    def _carry_out(self, method: str, arguments: dict[str, Any]) -> list[Any]:
        handler = self._handlers.get(method)
        if handler is None:
            return [
                False,
                "LookupError",
                f"there is no method {method!r}; known: {', '.join(self._handlers)}",
            ]
        try:
            return [True, handler(**arguments)]
        except Exception as error:
            _log.info("A call of %s failed.", method, exc_info=True)
            return [False, type(error).__name__, str(error)]


class Handle:
    """Calls the methods that a node serves, wherever it is at the moment. Threads may share it.

    Args:
      node: its name, for messages.
      resolve: returns the node's present "host:port", or None while it has none. It must return soon.
      token: the program's secret.
      stopping: once it is set, a node that cannot be reached is not waited for.
      max_bytes: most of one message.
    """

    def __init__(
        self,
        node: str,
        resolve: Callable[[], str | None],
        token: str,
        stopping: threading.Event | None = None,
        max_bytes: int = MAX_BYTES,
    ):
        self.node = node
        self._resolve, self._token, self._max_bytes = resolve, token.encode(), max_bytes
        self._stopping = stopping or threading.Event()
        self._idle: list[tuple[str, socket.socket]] = []
        self._lock = threading.Lock()

    def call(self, method: str, /, deadline_s: float = 60.0, **arguments: Any) -> Any:
        """Calls a method and returns what it returns.

        While the node cannot be reached, as between its death and its restart, the call waits for it. A call whose
        request was sent is never sent again.

        Args:
          method: one of the node's handlers.
          deadline_s: seconds for all of it.
          **arguments: its keyword arguments; see `_wire.send` for what they may hold. The same goes for the result;
            tuples arrive as lists, JAX arrays as NumPy arrays.

        Raises:
          CallTimeout: no answer before the deadline.
          NodeGone: the node was not reached before the deadline, or died during the call.
          AccessRefused: the token is not that of whoever listens there.
          RemoteError: the handler raised.
          MessageError: an argument cannot be sent.
        """
        deadline = time.monotonic() + deadline_s
        address, sock = self._connection(deadline, deadline_s)
        keep = False
        try:
            send(sock, [method, arguments], deadline, self._max_bytes)
            reply = receive(sock, deadline, self._max_bytes)
            keep = reply[0] or _ENDS not in reply[3:]
        except MessageError:
            raise
        except TimeoutError as error:
            raise CallTimeout(f"{self.node}.{method} did not answer within {deadline_s:g} s") from error
        except OSError as error:
            raise NodeGone(f"{self.node} at {address} died during the call of {method}: {error}") from error
        finally:
            if keep:
                with self._lock:
                    self._idle.append((address, sock))
            else:
                sock.close()
        if reply[0]:
            return reply[1]
        raise RemoteError(f"{self.node}.{method}", reply[1], reply[2])

    def wait(self, deadline_s: float = 60.0) -> None:
        """Returns once the node can be called. Raises `NodeGone`."""
        connection = self._connection(time.monotonic() + deadline_s, deadline_s)
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Closes the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, sock in idle:
            sock.close()

    def _connection(self, deadline: float, deadline_s: float) -> tuple[str, socket.socket]:
        """A connection that nobody else uses."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            if _is_open(connection[1]):
                return connection
            connection[1].close()
        pause, why, kind = _PAUSE_S, "it has no address yet", NodeGone
        began = time.monotonic()
        while True:
            address = self._resolve()
            if address is not None:
                try:
                    return address, _open(address, self._token, deadline)
                except AccessRefused as error:
                    why, kind = str(error), AccessRefused
                except OSError as error:
                    why, kind = f"{address}: {error or type(error).__name__}", NodeGone
            now = time.monotonic()
            if self._stopping.is_set() and now - began > _CLOSING_ATTEMPTS_S:
                raise kind(f"{self.node} was not reached while this node is stopping: {why}")
            if now + pause > deadline:
                raise kind(f"{self.node} was not reached within {deadline_s:g} s: {why}")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _open(address: str, token: bytes, deadline: float) -> socket.socket:
    """Connects and shakes hands. Raises `AccessRefused` or `OSError`."""
    host, _, port = address.rpartition(":")
    # One attempt at a machine that is gone takes minutes; meanwhile the node may be up on another one.
    deadline = min(deadline, time.monotonic() + _HANDSHAKE_S)
    sock = socket.create_connection(
        (host.strip("[]"), int(port)), timeout=max(0.01, deadline - time.monotonic())
    )
    try:
        _prepare(sock)
        theirs, ours = bytes(exactly(sock, _NONCE, deadline)), os.urandom(_NONCE)
        sock.sendall(ours + _proof(token, b"caller", theirs, ours))
        answer = bytes(exactly(sock, _PROOF, deadline))
        if answer == _REFUSED:
            raise AccessRefused(f"{address} refused the token")
        if not hmac.compare_digest(answer, _proof(token, b"server", theirs, ours)):
            raise AccessRefused(f"{address} does not know the token")
    except BaseException:
        sock.close()
        raise
    return sock


def _admit(sock: socket.socket, token: bytes) -> bool:
    """The server's side of the handshake: whether the caller knows the token."""
    deadline = time.monotonic() + _HANDSHAKE_S
    ours = os.urandom(_NONCE)
    sock.settimeout(_HANDSHAKE_S)
    sock.sendall(ours)
    answer = bytes(exactly(sock, _NONCE + _PROOF, deadline))
    theirs, proof = answer[:_NONCE], answer[_NONCE:]
    known = hmac.compare_digest(proof, _proof(token, b"caller", ours, theirs))
    sock.sendall(_proof(token, b"server", ours, theirs) if known else _REFUSED)
    return known


def _proof(token: bytes, side: bytes, server_nonce: bytes, caller_nonce: bytes) -> bytes:
    return hmac.digest(token, side + server_nonce + caller_nonce, hashlib.sha256)


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that is switched off says nothing: without probes a connection to it stays open for ever.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _is_open(sock: socket.socket) -> bool:
    """Whether the other side still holds an idle connection: nothing can be read from one that it does."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)
