"""Reverb behind deadlines: every call ends, and says what it waited for."""

import importlib.util
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest


pytestmark = [
    pytest.mark.replay,
    pytest.mark.skipif(
        importlib.util.find_spec("reverb") is None, reason="Reverb, of the replay extra, is not installed"
    ),
]

SIGNATURE = {"a": ((3,), "int32"), "b": ((), "float32")}
SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from limbeck.agents.replay import ReplayServer, queue_table
with ReplayServer([queue_table("rows", {"a": ((3,), "int32"), "b": ((), "float32")}, 4)], int(sys.argv[2])):
    print("up", flush=True)
    time.sleep(120)
"""


def item(i):
    return {"a": np.arange(3, dtype=np.int32) + i, "b": np.float32(i)}


@pytest.fixture
def server():
    from limbeck.agents.replay import ReplayServer, queue_table

    with ReplayServer([queue_table("rows", SIGNATURE, 4)]) as server:
        yield server


@pytest.fixture
def client(server):
    from limbeck.agents.replay import ReplayClient

    with ReplayClient(server.address) as client:
        yield client


def drain(client):
    """Ends the sampler that lives in the server's own process, which the server would wait for."""
    client.insert("rows", item(0), 2)


def test_a_queue_keeps_order_and_gives_each_item_once(client):
    for i in range(4):
        client.insert("rows", item(i), 5)
    for i in range(4):
        found = client.sample("rows", 5)
        assert found["a"].tolist() == [i, i + 1, i + 2]
        assert found["b"].dtype == np.float32 and float(found["b"]) == i
    assert client.info()["rows"].current_size == 0
    drain(client)


def test_a_full_table_makes_inserts_wait_and_drops_nothing(client):
    from limbeck.agents.replay import ReplayTimeout

    for i in range(4):
        client.insert("rows", item(i), 5)
    started = time.monotonic()
    with pytest.raises(ReplayTimeout) as error:
        client.insert("rows", item(4), 0.3)
    assert time.monotonic() - started < 3.5
    assert "Could not insert into rows at the replay server at localhost:" in str(error.value)
    assert "the table holds 4 of at most 4 items after 4 inserts and 0 samples; inserts wait" in str(
        error.value
    )
    assert [int(client.sample("rows", 5)["b"]) for _ in range(4)] == [0, 1, 2, 3]
    drain(client)


def test_an_empty_table_makes_samples_wait(client):
    from limbeck.agents.replay import ReplayTimeout

    started = time.monotonic()
    with pytest.raises(ReplayTimeout, match="0 of at most 4 items .* samples wait for inserts"):
        client.sample("rows", 0.3)
    assert time.monotonic() - started < 3.5
    client.insert("rows", item(7), 5)
    assert float(client.sample("rows", 5)["b"]) == 7
    drain(client)


def test_wrong_items_tables_and_ports(server, client):
    from limbeck.agents.replay import ReplayError, ReplayServer, queue_table

    with pytest.raises(ReplayError, match="Could not insert into rows"):
        client.insert("rows", {"a": np.zeros(4, np.int32), "b": np.float32(0)}, 5)
    with pytest.raises(ReplayError, match="no table columns at .*, only rows"):
        client.sample("columns", 5)
    with pytest.raises(ReplayError, match=f"Cannot listen on port {server.port}: Address already in use"):
        ReplayServer([queue_table("rows", SIGNATURE, 4)], server.port)
    client.insert("rows", item(1), 5)
    assert client.info()["rows"].current_size == 1


def test_the_start_tells_that_every_interface_is_open(caplog):
    from limbeck.agents.replay import ReplayServer, queue_table

    with ReplayServer([queue_table("rows", SIGNATURE, 4)]) as server:
        assert f"port {server.port} listens on every network interface" in caplog.text


def test_a_server_that_is_killed_and_comes_back():
    import portpicker
    from limbeck.agents.replay import ReplayClient, ReplayTimeout

    root, port = str(pathlib.Path(__file__).resolve().parents[2]), portpicker.pick_unused_port()

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, root, str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout.readline() == b"up\n"
        return process

    process = start()
    try:
        with ReplayClient(f"localhost:{port}") as client, ReplayClient(f"localhost:{port}") as idle:
            client.insert("rows", item(1), 5)
            assert float(client.sample("rows", 5)["b"]) == 1
            assert idle.info()["rows"].max_size == 4
            process.kill()
            process.communicate()
            for call in (
                lambda: client.sample("rows", 0.5),
                lambda: client.insert("rows", item(2), 0.5),
                lambda: client.info(1.0),
            ):
                started = time.monotonic()
                with pytest.raises(ReplayTimeout, match=f"localhost:{port} within"):
                    call()
                assert time.monotonic() - started < 5
            process = start()
            assert idle.info(20.0)["rows"].max_size == 4
            for i in range(10, 14):
                client.insert("rows", item(i), 20)
    finally:
        process.kill()
        process.communicate()


def test_socket_closed_is_tried_once_more(client, monkeypatch):
    """What the first call after a restart says; a second one in a row is an error."""
    from limbeck.agents import replay

    real, calls = replay._within, []

    def closed(times):
        def within(work, timeout_s):
            calls.append(timeout_s)
            if len(calls) <= times:
                raise RuntimeError("Socket closed")
            return real(work, timeout_s)

        return within

    monkeypatch.setattr(replay, "_within", closed(1))
    assert client.info()["rows"].max_size == 4
    assert len(calls) == 2
    calls.clear()
    monkeypatch.setattr(replay, "_within", closed(2))
    with pytest.raises(replay.ReplayError, match="Could not ask the replay server at .*: Socket closed"):
        client.info()
    assert len(calls) == 2


def test_lines_of_others_pass_where_reverbs_are_dropped(capfd):
    from limbeck.agents import replay

    with replay._quiet():
        import os

        os.write(2, b"[reverb/cc/server.cc:1] noise\nkept\n")
    assert capfd.readouterr().err == "kept\n"
