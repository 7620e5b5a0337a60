"""Reverb behind deadlines: every call ends, and says what it waited for; what was checkpointed comes back."""

import dataclasses
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from limbeck.agents import ReplayError, ReplayTimeout, Table, prune_checkpoints


pytestmark = [
    pytest.mark.replay,
    pytest.mark.skipif(
        importlib.util.find_spec("reverb") is None, reason="Reverb, of the replay extra, is not installed"
    ),
]

ROOT = str(pathlib.Path(__file__).resolve().parents[2])
SIGNATURE = {"a": ((3,), "int32"), "b": ((), "float32")}
QUEUE = Table("rows", "queue", SIGNATURE, 4)
TABLES = [
    QUEUE,
    Table("long", "queue", SIGNATURE, 1000),
    Table("held", "held", SIGNATURE, 3),
    Table("uniform", "uniform", SIGNATURE, 100),
    Table("prioritised", "prioritised", SIGNATURE, 100, priority_exponent=0.5),
    Table("ratio", "uniform", SIGNATURE, 100, min_size=3, samples_per_insert=2, error_buffer=4),
    Table("same", "uniform", SIGNATURE, 100, min_size=3, samples_per_insert=2, error_buffer=4),
]
SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from limbeck.agents import Table
from limbeck.agents.replay import ReplayServer
signature = {"a": ((3,), "int32"), "b": ((), "float32")}
tables = [Table("rows", "queue", signature, 4), Table("long", "queue", signature, 900)]
with ReplayServer(tables, int(sys.argv[2])):
    print("up", flush=True)
    time.sleep(120)
"""


def item(i):
    return {"a": np.arange(3, dtype=np.int32) + i, "b": np.float32(i)}


def items(start, stop):
    return [item(i) for i in range(start, stop)]


def inside(sample):
    """The numbers of a sample's items."""
    assert sample.data["a"].shape == (*sample.data["b"].shape, 3)
    assert (sample.data["a"] == sample.data["b"][:, None] + np.arange(3)).all()
    return sample.data["b"].astype(int).tolist()


@pytest.fixture(scope="module")
def shared():
    """One server for the tests that use tables of their own."""
    from limbeck.agents.replay import ReplayServer

    with ReplayServer(TABLES) as server:
        yield server


@pytest.fixture
def server():
    from limbeck.agents.replay import ReplayServer

    with ReplayServer([QUEUE]) as server:
        yield server


@pytest.fixture
def client(server):
    from limbeck.agents.replay import ReplayClient

    with ReplayClient(server.address) as client:
        yield client


@pytest.fixture
def shared_client(shared):
    from limbeck.agents.replay import ReplayClient

    with ReplayClient(shared.address) as client:
        for name in client.info():
            client._connect().client.reset(name)
        yield client


def start_server(port, script=SERVER, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", script, ROOT, str(port), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"up\n"
    return process


# Items in, items out.


def test_a_queue_keeps_order_and_gives_each_item_once(shared_client):
    shared_client.insert("long", item(0))
    shared_client.insert("long", items(1, 200))  # More than may be on their way at once.
    first = shared_client.sample("long", 3, 5)
    assert inside(first) == [0, 1, 2]
    assert first.data["a"].dtype == np.int32 and first.data["b"].dtype == np.float32
    assert first.keys.dtype == np.uint64 and len(set(first.keys.tolist())) == 3
    assert first.probabilities.dtype == np.float64 and first.probabilities.tolist() == [1, 1, 1]
    assert first.table_size == 198  # With the item that is being sampled.
    found = [i for _ in range(39) for i in inside(shared_client.sample("long", 5, 5))]
    assert found == list(range(3, 198))
    assert shared_client.info()["long"].current_size == 2


def test_a_held_table_gives_its_oldest_item_until_it_is_deleted(shared_client):
    shared_client.insert("held", items(0, 3))
    first = [shared_client.sample("held", 1) for _ in range(3)]
    assert [inside(sample) for sample in first] == [[0]] * 3
    assert len({sample.keys[0] for sample in first}) == 1
    status = shared_client.status()["held"]
    assert (status["kind"], status["size"], status["waiting"]) == ("held", 3, None)
    shared_client.delete("held", first[0].keys)
    second = shared_client.sample("held", 1)
    assert inside(second) == [1]
    shared_client.delete("held", [*second.keys, *first[0].keys])  # What is gone is passed over.
    assert inside(shared_client.sample("held", 1)) == [2]
    shared_client.insert("held", items(3, 6))  # A full one forgets its oldest.
    assert inside(shared_client.sample("held", 1)) == [3] and shared_client.status()["held"]["size"] == 3
    with pytest.raises(ReplayError, match="Could not delete from nothing"):
        shared_client.delete("nothing", second.keys)


def test_what_was_not_asked_for_stays_in_a_queue(shared, shared_client):
    """Nothing is fetched ahead, and what came too late for one call is there for the next."""
    from limbeck.agents.replay import ReplayClient

    shared_client.insert("long", items(0, 10))
    with ReplayClient(shared.address) as other:
        assert inside(other.sample("long", 4, 5)) == [0, 1, 2, 3]
    assert shared_client.info()["long"].current_size == 6
    with pytest.raises(ReplayTimeout, match="Could not sample 8 items from long .* samples wait for inserts"):
        shared_client.sample("long", 8, 1.5)
    shared_client.insert("long", items(10, 20))
    assert inside(shared_client.sample("long", 8, 5)) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert inside(shared_client.sample("long", 8, 5)) == [12, 13, 14, 15, 16, 17, 18, 19]


def test_a_closed_client_takes_nothing_more(shared, shared_client):
    from limbeck.agents.replay import ReplayClient

    for prefetch in (None, True):
        other = ReplayClient(shared.address, prefetch)
        with pytest.raises(ReplayTimeout):
            other.sample("long", 4, 0.1)
        other.close()
        shared_client.insert("long", items(0, 3))
        assert inside(shared_client.sample("long", 3, 5)) == [0, 1, 2]


def test_prefetching_is_bounded(shared):
    """Beyond what was asked for: a batch, and at most four on their way."""
    from limbeck.agents.replay import ReplayClient

    for table, prefetch in (("long", True), ("uniform", None)):
        with ReplayClient(shared.address, prefetch) as client:
            client._connect().client.reset(table)
            client.insert(table, items(0, 90))
            for n in range(3):
                found = inside(client.sample(table, 4, 5))
                assert table == "uniform" or found == [4 * n + i for i in range(4)]
            time.sleep(0.2)
            assert 12 < client.status()[table]["samples"] <= 12 + 5 * 4


def test_uniform_samples(shared_client):
    """Within 5 standard errors of one tenth each, the seed being Reverb's own."""
    shared_client.insert("uniform", items(0, 10))
    sample = shared_client.sample("uniform", 4000, 10)
    counts = np.bincount(inside(sample), minlength=10) / 4000
    assert np.abs(counts - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 4000)
    assert np.allclose(sample.probabilities, 0.1) and sample.table_size == 10
    shared_client.insert("uniform", items(10, 105))  # The oldest ones make room.
    assert shared_client.info()["uniform"].current_size == 100


def test_priorities_and_their_updates(shared_client):
    """p^α / Σ p^α with α = 0.5, in the words of the server and in the counts."""

    def check(sample, priorities):
        expected = np.sqrt(priorities) / np.sqrt(priorities).sum()
        found = np.array(inside(sample))
        assert np.allclose(sample.probabilities, expected[found])
        counts = np.bincount(found, minlength=4) / len(found)
        assert (np.abs(counts - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(found))).all()

    shared_client.insert("prioritised", items(0, 4), [1, 4, 9, 16])
    first = shared_client.sample("prioritised", 4000, 10)
    check(first, [1, 4, 9, 16])
    keys = dict(zip(inside(first), first.keys.tolist(), strict=True))
    # An item that is gone is passed over; of a key that comes twice the last priority counts.
    gone = 12345
    shared_client.update_priorities("prioritised", [keys[0], keys[3], gone, keys[3]], [100, 2, 7, 0])
    for _ in range(6):  # The batches that were on their way.
        shared_client.sample("prioritised", 4000, 10)
    check(shared_client.sample("prioritised", 4000, 10), [100, 4, 9, 0])
    shared_client.update_priorities("prioritised", list(keys.values()), 3.0)
    for _ in range(6):
        shared_client.sample("prioritised", 4000, 10)
    check(shared_client.sample("prioritised", 4000, 10), [3, 3, 3, 3])


def test_arrays_of_any_layout(shared_client):
    backwards = np.arange(3, dtype=np.int32)[::-1]
    shared_client.insert(
        "long", {"b": np.array(1, np.float32), "a": np.stack([backwards, backwards], 1)[:, 1]}
    )
    assert shared_client.sample("long", 1, 5).data["a"].tolist() == [[2, 1, 0]]


# Limits.


def test_a_full_queue_makes_inserts_wait_and_drops_nothing(client):
    client.insert("rows", items(0, 4), timeout_s=5)
    started = time.monotonic()
    with pytest.raises(ReplayTimeout) as error:
        client.insert("rows", item(4), timeout_s=0.3)
    assert time.monotonic() - started < 2.6
    assert "Could not insert into rows at the replay server at localhost:" in str(error.value)
    assert "the table holds 4 of at most 4 items after 4 inserts and 0 samples; inserts wait" in str(
        error.value
    )
    assert inside(client.sample("rows", 4, 5)) == [0, 1, 2, 3]


def test_an_empty_table_makes_samples_wait(client):
    started = time.monotonic()
    with pytest.raises(ReplayTimeout, match="0 of at most 4 items .* samples wait for inserts"):
        client.sample("rows", 1, 0.3)
    assert time.monotonic() - started < 2.6
    client.insert("rows", item(7), timeout_s=5)
    assert inside(client.sample("rows", 1, 5)) == [7]


def test_the_ratio_of_samples_to_inserts(shared_client):
    """The error, 2 · inserts − samples, stays within 6 ± 4."""
    from limbeck.agents.replay import describe_status

    shared_client.insert("same", items(0, 2))
    assert shared_client.status()["same"]["waiting"] == "samples"  # Below min_size.
    shared_client.insert("same", items(2, 5))
    with pytest.raises(
        ReplayTimeout, match="5 of at most 100 items after 5 inserts and 0 samples; inserts wait"
    ):
        shared_client.insert("same", item(5), timeout_s=0.3)
    shared_client.insert("ratio", items(0, 5))
    with pytest.raises(ReplayTimeout, match="5 inserts and 8 samples; samples wait for inserts"):
        shared_client.sample("ratio", 9, 1.5)
    status = shared_client.status()["ratio"]
    assert status == {
        "kind": "uniform", "size": 5, "max_size": 100, "min_size": 3, "inserts": 5, "samples": 8,
        "samples_per_insert": 2.0, "waiting": "samples",
    }  # fmt: skip
    assert "whoever inserts is slow or gone" in describe_status(status)
    kinds = {name: about["kind"] for name, about in shared_client.status().items()}
    assert kinds == {table.name: table.kind for table in TABLES}


def test_wrong_items_tables_and_ports(server, client):
    from limbeck.agents.replay import ReplayServer

    with pytest.raises(ReplayError, match=r"a of item 1 is int32 \[4\]; the table takes int32 \[3\]"):
        client.insert("rows", [item(0), {"a": np.zeros(4, np.int32), "b": np.float32(0)}])
    with pytest.raises(ReplayError, match=r"b of item 0 is float64 \[\]; the table takes float32 \[\]"):
        client.insert("rows", {**item(0), "b": 1.0})
    with pytest.raises(ReplayError, match="item 0 has the arrays a; the table takes a, b"):
        client.insert("rows", {"a": np.zeros(3, np.int32)})
    assert client.info()["rows"].current_size == 0
    for priorities in (-1.0, [1.0, 2.0], float("nan"), float("inf")):
        with pytest.raises(
            ReplayError, match="Could not insert into rows: priorities are finite, at least 0"
        ):
            client.insert("rows", item(0), priorities)
    with pytest.raises(ReplayError, match="Could not update rows: priorities"):
        client.update_priorities("rows", [1], [-1.0])
    for call in (
        lambda: client.sample("columns", 1, 5),
        lambda: client.insert("columns", item(0)),
    ):
        with pytest.raises(ReplayError, match="no table columns at .*, only rows"):
            call()
    with pytest.raises(ReplayError, match="Could not update columns at .* not found"):
        client.update_priorities("columns", [1], [1.0])
    with pytest.raises(ReplayError, match="at least 1 item; got 0"):
        client.sample("rows", 0, 5)
    assert client.describe("columns") == "the server has no such table, only rows"
    with pytest.raises(ReplayError, match=f"Cannot listen on port {server.port}: Address already in use"):
        ReplayServer([QUEUE], server.port)
    with pytest.raises(ReplayError, match="Two tables share a name: rows, rows"):
        ReplayServer([QUEUE, QUEUE])
    client.insert("rows", item(1), timeout_s=5)
    assert client.info()["rows"].current_size == 1


# Checkpoints.


def test_what_was_checkpointed_comes_back(tmp_path):
    from limbeck.agents.replay import ReplayClient, ReplayServer

    with ReplayServer(TABLES, checkpoints=tmp_path) as server, ReplayClient(server.address) as client:
        client.insert("rows", items(0, 3))
        assert inside(client.sample("rows", 1, 5)) == [0]
        client.insert("prioritised", items(0, 2), [1, 9])
        client.insert("ratio", items(0, 5))
        first = client.checkpoint(30)
        client.insert("rows", item(3))
        second = client.checkpoint(30)
        client.insert("long", item(0))  # Lost: it came after.
        # Reverb would have deleted the first one.
        assert [pathlib.Path(path).parent for path in (first, second)] == [tmp_path, tmp_path]
        assert (pathlib.Path(first) / "DONE").exists() and (pathlib.Path(second) / "DONE").exists()
        with pytest.raises(ReplayError, match=f"Another replay server writes its checkpoints to {tmp_path}"):
            ReplayServer(TABLES, checkpoints=tmp_path)
    later = []
    for path, rows in ((first, [1, 2]), (second, [1, 2, 3])):
        with (
            ReplayServer(TABLES, checkpoints=tmp_path, restore=path) as server,
            ReplayClient(server.address) as client,
        ):
            status = client.status()
            counts = {name: (about["inserts"], about["samples"]) for name, about in status.items()}
            assert counts == {
                "rows": (len(rows) + 1, 1), "prioritised": (2, 0), "ratio": (5, 0), "long": (0, 0),
                "uniform": (0, 0), "same": (0, 0), "held": (0, 0),
            }  # fmt: skip
            assert status["ratio"]["waiting"] == "inserts"
            assert inside(client.sample("rows", len(rows), 5)) == rows
            sample = client.sample("prioritised", 8, 5)
            assert np.allclose(sample.probabilities, np.where(sample.data["b"] == 1, 0.75, 0.25))
            later.append(client.checkpoint(30))
    assert prune_checkpoints(tmp_path, [second, later[1]]) == [first, later[0]]
    assert sorted(str(path.parent) for path in tmp_path.glob("*/DONE")) == [second, later[1]]
    assert prune_checkpoints(tmp_path, [second, later[1]]) == []


def test_checkpoints_that_must_not_be_restored(tmp_path):
    from limbeck.agents.replay import ReplayClient, ReplayServer

    with ReplayServer([QUEUE], checkpoints=tmp_path) as server, ReplayClient(server.address) as client:
        client.insert("rows", items(0, 3))
        path = client.checkpoint(30)
    changed = [dataclasses.replace(QUEUE, max_size=5), TABLES[3]]
    with pytest.raises(ReplayError, match="is of other tables") as error:
        ReplayServer(changed, restore=path)
    assert "rows.max_size: 4 there, 5 here" in str(error.value) and "uniform" in str(error.value)
    with pytest.raises(ReplayError, match=f"There is no replay checkpoint at {tmp_path}/gone"):
        ReplayServer([QUEUE], restore=tmp_path / "gone")
    for file, message in (
        ("DONE", "is unfinished: it has no DONE"),
        ("fingerprint.json", "does not say what"),
    ):
        broken = tmp_path / f"without-{file}"
        shutil.copytree(path, broken)
        (broken / file).unlink()
        with pytest.raises(ReplayError, match=message):
            ReplayServer([QUEUE], restore=broken)
    damaged = tmp_path / "damaged"
    shutil.copytree(path, damaged)
    (damaged / "chunks.tfrecord").write_bytes(b"not one")
    with pytest.raises(ReplayError, match="The replay server did not start"):
        ReplayServer([QUEUE], restore=damaged)
    (tmp_path / "file").touch()
    with pytest.raises(ReplayError, match="Cannot write replay checkpoints"):
        ReplayServer([QUEUE], checkpoints=tmp_path / "file")


def test_a_checkpoint_on_another_machine(server, client, monkeypatch):
    connection = client._connect()
    monkeypatch.setattr(type(connection.client), "checkpoint", lambda self: "/elsewhere/server/incoming/2030")
    with pytest.raises(
        ReplayError, match="/elsewhere/server/incoming/2030, which this process does not find"
    ):
        client.checkpoint(5)


# Deadlines.


def test_the_start_tells_that_every_interface_is_open(caplog):
    from limbeck.agents.replay import ReplayServer

    with ReplayServer([QUEUE]) as server:
        assert f"port {server.port} listens on every network interface" in caplog.text


def test_a_server_that_is_killed_and_comes_back():
    import portpicker
    from limbeck.agents.replay import ReplayClient

    port = portpicker.pick_unused_port()
    process = start_server(port)
    try:
        with ReplayClient(f"localhost:{port}") as client, ReplayClient(f"localhost:{port}") as idle:
            client.insert("rows", items(0, 2), timeout_s=5)
            assert inside(client.sample("rows", 2, 5)) == [0, 1]
            client.insert("long", items(0, 900), timeout_s=20)
            with ReplayClient(f"localhost:{port}", prefetch=True) as reader:
                found = [i for _ in range(45) for i in inside(reader.sample("long", 20, 5))]
            assert found == list(range(900))  # In order through the network too.
            assert idle.info()["rows"].max_size == 4
            process.kill()
            process.communicate()
            for call in (
                lambda: client.sample("rows", 2, 0.5),
                lambda: client.insert("rows", item(2), timeout_s=0.5),
                lambda: client.info(1.0),
                lambda: client.update_priorities("rows", [1], [1.0], 0.5),
                lambda: client.checkpoint(0.5),
                lambda: client.sample("rows", 3, 0.5),
            ):
                started = time.monotonic()
                with pytest.raises(ReplayError, match=f"localhost:{port}"):
                    call()
                assert time.monotonic() - started < 4
            process = start_server(port)
            assert idle.info(20.0)["rows"].max_size == 4
            client.insert("rows", items(10, 14), timeout_s=20)
            assert inside(client.sample("rows", 2, 20)) == [10, 11]
            assert inside(client.sample("rows", 2, 20)) == [12, 13]
    finally:
        process.kill()
        process.communicate()


def test_a_stuck_call_is_given_up_and_the_next_one_has_a_thread_of_its_own(client):
    """What a dead network does: nothing comes back, not even an error."""
    import threading

    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(ReplayTimeout, match="Could not insert into rows .* within 0.2 s"):
        client._call(lambda connection, deadline: release.wait(60), "insert into", "rows", 0.2)
    assert time.monotonic() - started < 3
    client.insert("rows", item(1), timeout_s=5)
    assert inside(client.sample("rows", 1, 5)) == [1]
    before = threading.active_count()
    for _ in range(20):
        client.info()
    assert threading.active_count() <= before  # One thread for all of them.
    release.set()


def test_socket_closed_is_tried_once_more(client):
    """What the first call after a restart says; a second one in a row is an error."""
    calls = []

    def closed(times):
        def work(connection, deadline):
            calls.append(connection)
            if len(calls) <= times:
                raise RuntimeError("Socket closed")
            return "answer"

        return work

    assert client._call(closed(1), "ask", None, 5) == "answer"
    assert len(set(calls)) == 2
    calls.clear()
    with pytest.raises(ReplayError, match="Could not ask the replay server at .*: Socket closed"):
        client._call(closed(2), "ask", None, 5)
    assert len(calls) == 2


def test_lines_of_others_pass_where_reverbs_are_dropped(capfd):
    from limbeck.agents._listening import quiet

    with quiet():
        os.write(2, b"[reverb/cc/server.cc:1] noise\nkept\n")
    assert capfd.readouterr().err == "kept\n"
