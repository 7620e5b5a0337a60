"""Calls by name: values and arrays, deadlines, deaths, and who is let in."""

import datetime
import hashlib
import hmac
import pickle
import socket
import struct
import threading
import time

import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
from limbeck.launchers import (
    AccessRefused,
    CallTimeout,
    Handle,
    MessageError,
    NodeGone,
    RemoteError,
    Server,
    rpc,
)


TOKEN = "a secret of this program"


def fail():
    raise KeyError("no such table")


@pytest.fixture
def release():
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def server(release: threading.Event):
    handlers = {"echo": lambda x: x, "fail": fail, "wait": release.wait, "let_go": release.set, "bad": object}
    with Server(handlers, token=TOKEN) as server:
        yield server


@pytest.fixture
def handle(server: Server):
    handle = Handle("replay", lambda: server.address, TOKEN)
    yield handle
    handle.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**63),
        2**64 - 1,
        1.5,
        "grüße",
        b"\0\xff",
        [1, [2, "x"], {}],
        {"a": 1, "b": [None]},
        {3: "x"},
    ],
)
def test_values_come_back(handle: Handle, value) -> None:
    back = handle.call("echo", x=value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::2],  # Not contiguous.
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(7, np.uint64),
        np.zeros((0, 5), np.float32),
        np.array(["ab", "c"]),
        np.array([b"xyz"]),
        np.array([True, False]),
        np.array([1 + 2j], np.complex64),
        np.arange(3, dtype=">i4"),
        np.array([datetime.date(2024, 2, 29)], "datetime64[D]"),
        np.arange(100_003, dtype=np.float64),  # Not sent with what stands before it.
        np.arange(4).astype(ml_dtypes.bfloat16),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back_writable(handle: Handle, array: np.ndarray) -> None:
    back = handle.call("echo", x=array)
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable and back.flags.owndata


def test_a_tree_of_many_arrays_keeps_their_order(handle: Handle) -> None:
    tree = {f"layer_{i}": {"w": np.full((i + 1, 5000), i, np.float32), "b": np.arange(i)} for i in range(6)}
    back = handle.call("echo", x=[tree, jnp.ones(3), np.float32(2.5), (1, 2)])
    for name, layer in tree.items():
        for key, array in layer.items():
            np.testing.assert_array_equal(back[0][name][key], array)
    np.testing.assert_array_equal(back[1], [1.0, 1.0, 1.0])
    assert back[2:] == [2.5, [1, 2]]


@pytest.mark.parametrize(
    "value, message",
    [
        (np.array([{}]), "dtype object cannot be sent"),
        (np.zeros(2, [("a", "i4")]), "no records"),
        ({"deep": [object()]}, "type object cannot be sent"),
        ({1, 2}, "type set cannot be sent"),
        (2**64, "cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_the_handle_survives(handle: Handle, value, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        handle.call("echo", x=value)
    assert handle.call("echo", x=1) == 1


def test_long_messages_are_refused_on_both_sides(server: Server, monkeypatch) -> None:
    # As where the next call comes before the refused one's connection is seen to end.
    monkeypatch.setattr(rpc, "_is_open", lambda sock: True)
    with Server({"zeros": np.zeros, "size": lambda x: x.size}, token=TOKEN, max_bytes=10_000) as small:
        handle = Handle("small", lambda: small.address, TOKEN)
        assert handle.call("zeros", shape=100).nbytes == 800
        with pytest.raises(RemoteError, match="the answer of zeros: a message of 0.1 MB"):
            handle.call("zeros", shape=10_000)
        assert handle.call("size", x=np.zeros(3)) == 3
        with pytest.raises((RemoteError, NodeGone)):  # The answer may be lost with the connection.
            handle.call("size", x=np.zeros(10_000))
        assert handle.call("size", x=np.zeros(3)) == 3
        handle.close()
        with pytest.raises(MessageError, match="was to be sent"):
            Handle("small", lambda: small.address, TOKEN, max_bytes=1000).call("size", x=np.zeros(1000))


def test_exceptions_reach_the_caller_and_the_server_survives(handle: Handle) -> None:
    with pytest.raises(RemoteError, match=r"replay\.fail failed: KeyError: 'no such table'") as caught:
        handle.call("fail")
    assert caught.value.kind == "KeyError"
    with pytest.raises(RemoteError, match="there is no method 'nothing'; known: echo, fail"):
        handle.call("nothing")
    with pytest.raises(RemoteError, match="TypeError.*unexpected keyword argument 'y'"):
        handle.call("echo", y=1)
    with pytest.raises(RemoteError, match="the answer of bad: a value of type object cannot be sent"):
        handle.call("bad")
    assert handle.call("echo", x="alive") == "alive"


def test_a_late_answer_is_a_named_timeout(handle: Handle) -> None:
    began = time.monotonic()
    with pytest.raises(CallTimeout, match=r"replay\.wait did not answer within 0\.2 s"):
        handle.call("wait", deadline_s=0.2)
    assert time.monotonic() - began < 5.0
    # The late answer is never taken for that of another call.
    assert handle.call("let_go") is None
    assert handle.call("echo", x=5) == 5


def test_callers_do_not_wait_for_each_other(handle: Handle) -> None:
    results: list[object] = []
    waiting = threading.Thread(target=lambda: results.append(handle.call("wait")))
    waiting.start()
    assert handle.call("echo", x=1) == 1  # The same handle, meanwhile.
    assert not results
    handle.call("let_go")
    waiting.join(10.0)
    assert results == [True]


def test_a_node_that_dies_during_a_call(server: Server, handle: Handle) -> None:
    threading.Timer(0.2, server.close).start()
    with pytest.raises(NodeGone, match="died during the call of wait"):
        handle.call("wait", deadline_s=20.0)


def test_a_dead_node_is_gone_at_the_deadline(server: Server, handle: Handle) -> None:
    handle.call("echo", x=1)
    server.close()
    with pytest.raises(NodeGone, match=r"replay was not reached within 0\.3 s: .*refused"):
        handle.call("echo", deadline_s=0.3, x=1)
    with pytest.raises(NodeGone, match="it has no address yet"):
        Handle("sink", lambda: None, TOKEN).call("echo", deadline_s=0.1)


def test_a_restarted_node_is_found_at_its_new_address() -> None:
    address = []
    handle = Handle("replay", lambda: address[-1] if address else None, TOKEN)
    first = Server({"which": lambda: 1}, token=TOKEN)
    address.append(first.address)
    assert handle.call("which") == 1
    first.close()

    def restart():
        time.sleep(0.3)
        address.append(Server({"which": lambda: 2}, token=TOKEN).address)

    threading.Thread(target=restart).start()
    assert handle.call("which", deadline_s=20.0) == 2
    handle.close()


def test_who_is_stopping_does_not_wait_for_a_dead_node() -> None:
    stopping = threading.Event()
    stopping.set()
    began = time.monotonic()
    with pytest.raises(NodeGone, match="while this node is stopping"):
        Handle("learner", lambda: None, TOKEN, stopping).call("pull", deadline_s=60.0)
    assert time.monotonic() - began < 10.0


def test_another_token_is_refused(server: Server) -> None:
    with pytest.raises(AccessRefused, match="refused the token"):
        Handle("replay", lambda: server.address, "another").call("echo", deadline_s=0.2, x=1)
    with pytest.raises(ValueError, match="token"):
        Server({}, token="")


def test_a_foreign_server_is_not_trusted() -> None:
    """It takes any token, as a program's server at a reused port might be taken for ours."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pretend():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.sendall(bytes(range(32)))
                nonce_and_proof = sock.recv(64, socket.MSG_WAITALL)
                sock.sendall(nonce_and_proof[32:])  # The caller's own proof sent back.

    threading.Thread(target=pretend, daemon=True).start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(AccessRefused, match="does not know the token"):
        Handle("replay", lambda: address, TOKEN).call("echo", deadline_s=0.2, x=1)
    listener.close()


def admitted(server: Server) -> socket.socket:
    """A raw connection after the handshake, worked out by hand."""
    host, port = server.address.split(":")
    sock = socket.create_connection((host, int(port)), timeout=10.0)
    theirs, ours = sock.recv(32, socket.MSG_WAITALL), bytes(32)
    sock.sendall(ours + hmac.digest(TOKEN.encode(), b"caller" + theirs + ours, hashlib.sha256))
    expected = hmac.digest(TOKEN.encode(), b"server" + theirs + ours, hashlib.sha256)
    assert sock.recv(32, socket.MSG_WAITALL) == expected
    return sock


def test_nothing_is_read_before_the_token(server: Server, release: threading.Event) -> None:
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10.0) as sock:
        request = msgpack.packb(["let_go", {}])
        sock.recv(32, socket.MSG_WAITALL)
        sock.sendall(bytes(64) + struct.pack(">IQ", len(request), 0) + request)
        assert sock.recv(32, socket.MSG_WAITALL) == bytes(32)  # Refused.
        with pytest.raises((ConnectionError, AssertionError)):
            assert sock.recv(1) != b""
    assert not release.wait(0.2)


ARRAY = msgpack.packb(["<f8", [2**40]])


@pytest.mark.parametrize(
    "body, arrays",
    [
        (b"\xc1", 0),  # No msgpack at all.
        (pickle.dumps(["echo", {}]), 0),
        (msgpack.packb(["echo", {"x": msgpack.ExtType(1, ARRAY)}]), 8),  # Longer than was said.
        (msgpack.packb(["echo", {"x": msgpack.ExtType(1, msgpack.packb(["|O", [1]]))}]), 8),
        (msgpack.packb(["echo", {"x": msgpack.ExtType(1, msgpack.packb(["<U0", [2**50]]))}]), 0),
        (msgpack.packb(["echo", {"x": msgpack.ExtType(1, msgpack.packb(["<f8", [-1]]))}]), 0),
        (msgpack.packb(["echo", {"x": msgpack.ExtType(1, msgpack.packb(["finfo", [1]]))}]), 0),
        (msgpack.packb(["echo", {"x": msgpack.ExtType(9, b"")}]), 0),
        (msgpack.packb(3), 0),
        (msgpack.packb([[], {}]), 0),
        (b"", 2**40),  # More than a message may have.
    ],
)
def test_damaged_messages_end_the_connection_only(
    server: Server, handle: Handle, body: bytes, arrays: int
) -> None:
    with admitted(server) as sock:
        sock.sendall(struct.pack(">IQ", len(body), arrays) + body)
        head = sock.recv(12, socket.MSG_WAITALL)
        answer = msgpack.unpackb(sock.recv(struct.unpack(">IQ", head)[0], socket.MSG_WAITALL))
        assert answer[0] is False
        assert sock.recv(1) == b""
    assert handle.call("echo", x=1) == 1
