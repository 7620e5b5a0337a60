"""Blocks on their way to the store: the same bytes whichever way they go, whatever dies meanwhile."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from limbeck.agents import block_item, item_block
from limbeck.agents import transport as transport_lib
from limbeck.agents._blocks import check_block
from limbeck.agents.histories import (
    HistoryError,
    HistoryInfo,
    HistoryReader,
    HistoryWriter,
    Manifest,
    split_blocks,
)
from limbeck.agents.transport import histories_table, open_transport


HAS_REVERB = importlib.util.find_spec("reverb") is not None
replay = [
    pytest.mark.replay,
    pytest.mark.skipif(not HAS_REVERB, reason="Reverb, of the replay extra, is not installed"),
]
KINDS = ["direct", pytest.param("reverb", marks=replay)]


def make_manifest(num=10, length=24, group=4, chunk=10, **settings):
    return Manifest(
        environment="toy",
        environment_kwargs={},
        observation={"xy": {"shape": [2], "dtype": "int32"}, "image": {"shape": [2, 2], "dtype": "uint8"}},
        action={"shape": [], "dtype": "int32", "minimum": 0, "maximum": 4},
        max_steps=4,
        split={"salt": "limbeck-0", "seed": 0, "held_out": []},
        length=length,
        histories=[HistoryInfo(h, h, "train", "q_learning", h, 0, 7) for h in range(num)],
        histories_per_chunk=group,
        steps_per_chunk=chunk,
        settings=settings,
    )


def make_arrays(num=10, length=24):
    rng = np.random.default_rng(0)
    step_type = np.tile(np.where(np.arange(length) % 4 == 3, 2, 1), (num, 1)).astype(np.int32)
    observation = {
        "xy": rng.integers(0, 9, (num, length, 2)).astype(np.int32),
        "image": rng.integers(0, 256, (num, length, 2, 2)).astype(np.uint8),
    }
    return {
        "observation": observation,
        "action": rng.integers(0, 5, (num, length)).astype(np.int32),
        "reward": rng.integers(0, 2, (num, length)).astype(np.float32),
        "discount": np.ones((num, length), np.float32),
        "step_type": step_type,
        "final_observation": {key: np.zeros_like(value) for key, value in observation.items()},
    }


def blocks_of(manifest):
    return [(g, c, make()) for g, c, make in split_blocks(manifest, make_arrays())]


def tree(path):
    return {
        str(p.relative_to(path)): p.read_bytes() for p in sorted(pathlib.Path(path).rglob("*")) if p.is_file()
    }


def fill(path, manifest, blocks, kind, **options):
    with (
        HistoryWriter.create_or_open(path, manifest) as writer,
        open_transport(kind, writer, **options) as transport,
    ):
        assert transport.kind == kind
        for block in blocks:
            transport.send(*block)
        transport.finish(30)
        assert writer.complete
    return tree(path)


@pytest.fixture
def expected(tmp_path):
    """The store that any way must lead to, written without a transport."""
    manifest = make_manifest()
    with HistoryWriter.create_or_open(tmp_path / "expected", manifest) as writer:
        for block in blocks_of(manifest):
            writer.write(*block)
    return tree(tmp_path / "expected")


def test_a_block_is_an_item_and_back_whatever_is_short():
    """Ten histories in groups of four and 24 steps in chunks of ten: the last group and the last chunk are short."""
    manifest = make_manifest()
    table = histories_table(manifest)
    for epoch, (group, chunk, block) in enumerate(blocks_of(manifest)):
        fields = check_block(manifest, block, manifest.rows(group), manifest.times(chunk))
        item = block_item(manifest, group, chunk, fields, epoch)
        assert {name: (array.shape, array.dtype.name) for name, array in item.items()} == table.signature
        found = item_block(manifest, item)
        assert found is not None
        assert (found.group, found.chunk, found.epoch) == (group, chunk, epoch)
        assert found.fields.keys() == fields.keys()
        for name, array in fields.items():
            assert array.shape[:2] == (2 if group == 2 else 4, 4 if chunk == 2 else 10)
            np.testing.assert_array_equal(found.fields[name], array)
            assert found.fields[name].dtype == array.dtype
        # Of another store, and one that only wakes the sink.
        assert item_block(make_manifest(other=1), item) is None
        assert item_block(manifest, block_item(manifest, -1, -1, {})) is None
    assert epoch == 8


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_leads_to_the_same_bytes(tmp_path, expected, kind):
    manifest = make_manifest()
    blocks = blocks_of(manifest)
    found = fill(tmp_path / "store", manifest, blocks, kind)
    assert sorted(found) == sorted(expected)
    assert {name for name in found if found[name] != expected[name]} == set()
    assert "arrays/reward/c.2.2" in found  # Short on both axes.
    shuffled = [blocks[i] for i in np.random.default_rng(1).permutation(len(blocks))]
    if kind == "reverb":
        assert fill(tmp_path / "other", manifest, shuffled, kind, in_flight=2) == expected
    else:
        assert fill(tmp_path / "other", manifest, shuffled, kind) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_was_never_sent_is_told(tmp_path, kind):
    manifest = make_manifest()
    with (
        HistoryWriter.create_or_open(tmp_path, manifest) as writer,
        open_transport(kind, writer) as transport,
    ):
        for group, chunk, block in blocks_of(manifest):
            if (group, chunk) != (1, 1):
                transport.send(group, chunk, block)
        with pytest.raises(HistoryError, match="Histories 4 to 7 are whole up to step 10, but steps from 20"):
            transport.finish(30)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_block_is_refused_where_it_is_sent(tmp_path, kind):
    manifest = make_manifest()
    group, chunk, block = blocks_of(manifest)[0]
    with (
        HistoryWriter.create_or_open(tmp_path, manifest) as writer,
        open_transport(kind, writer) as transport,
    ):
        block["action"] = block["action"] + 5
        with pytest.raises(HistoryError, match="above its maximum 4"):
            transport.send(group, chunk, block)


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_refuses_stops_the_sender(tmp_path, monkeypatch, kind):
    manifest = make_manifest()
    blocks = blocks_of(manifest)
    with (
        HistoryWriter.create_or_open(tmp_path, manifest) as writer,
        open_transport(kind, writer, **({"in_flight": 2} if kind == "reverb" else {})) as transport,
    ):
        real = writer.write

        def write(group, chunk, block):
            if (group, chunk) == (1, 0):
                raise HistoryError("Cannot write: No space left on device.")
            real(group, chunk, block)

        monkeypatch.setattr(writer, "write", write)

        def run():
            for block in blocks:
                transport.send(*block)
            transport.finish(30)

        started = time.monotonic()
        with pytest.raises(HistoryError, match="No space left on device"):
            run()
        assert time.monotonic() - started < 10
        assert writer.watermarks.tolist() == [24] * 4 + [0] * 6
    HistoryReader(tmp_path).verify()


def test_kinds_of_transport(tmp_path, monkeypatch, caplog):
    with HistoryWriter.create_or_open(tmp_path, make_manifest()) as writer:
        with pytest.raises(HistoryError, match="auto, direct or reverb; got 'carrier pigeon'"):
            open_transport("carrier pigeon", writer)
        monkeypatch.setitem(sys.modules, "reverb", None)
        monkeypatch.delitem(sys.modules, "limbeck.agents.replay", raising=False)
        monkeypatch.delattr("limbeck.agents.replay", raising=False)
        with pytest.raises(HistoryError, match=r"install limbeck\[replay\], or use the direct transport"):
            open_transport("reverb", writer)
        with caplog.at_level("INFO", logger="limbeck.agents.transport"):
            assert open_transport("auto", writer).kind == "direct"
        assert [r.getMessage() for r in caplog.records] == [
            "Histories go straight to the store: Reverb cannot be imported (import of reverb halted; None in "
            "sys.modules)."
        ]


PRODUCER = """
import json, sys, time
import numpy as np
sys.path.insert(0, sys.argv[4])
from limbeck.agents.histories import HistoryWriter, Manifest, split_blocks
from limbeck.agents.transport import open_transport
path, kind, source = sys.argv[1:4]
manifest = Manifest.from_json(json.load(open(source + ".json")))
fields = dict(np.load(source + ".npz"))
with HistoryWriter.create_or_open(path, manifest) as writer, open_transport(kind, writer) as transport:
    for group, chunk, make in split_blocks(manifest, fields):
        if not writer.below_watermark(group, chunk):
            transport.send(group, chunk, make())
            time.sleep(float(sys.argv[5]))
    transport.finish(30)
    assert writer.complete
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_producer_killed_midway_and_started_again(tmp_path, expected, kind):
    manifest = make_manifest()
    (tmp_path / "source.json").write_text(json.dumps(manifest.to_json()))
    flat = {}
    for name, value in make_arrays().items():
        flat.update(
            {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
        )
    np.savez(tmp_path / "source.npz", **flat)
    store = tmp_path / "store"
    root = str(pathlib.Path(__file__).resolve().parents[2])

    def start(pause):
        command = [sys.executable, "-c", PRODUCER, str(store), kind, str(tmp_path / "source"), root, pause]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    def done():
        marks = store / "watermarks.json"
        return sum(json.loads(marks.read_text())["watermarks"]) if marks.exists() else 0

    process = start("0.3")
    try:
        deadline = time.monotonic() + 60
        while done() == 0 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert 0 < done() < 10 * 24
    HistoryReader(store).verify()
    process = start("0")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    assert tree(store) == expected


# Reverb's own ways to fail.


SERVER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from limbeck.agents.histories import Manifest
from limbeck.agents.replay import ReplayServer
from limbeck.agents.transport import histories_table
manifest = Manifest.from_json(json.load(open(sys.argv[2])))
with ReplayServer([histories_table(manifest, 4)], port=int(sys.argv[3])) as server:
    print("up", flush=True)
    time.sleep(120)
"""


@pytest.mark.replay
@pytest.mark.skipif(not HAS_REVERB, reason="Reverb, of the replay extra, is not installed")
def test_a_server_killed_midway_and_started_again(tmp_path, expected, caplog):
    """What its queue held is lost, and sent again."""
    import portpicker

    manifest = make_manifest()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest.to_json()))
    root, port = str(pathlib.Path(__file__).resolve().parents[2]), portpicker.pick_unused_port()

    def start():
        command = [sys.executable, "-c", SERVER, root, str(tmp_path / "manifest.json"), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout.readline() == b"up\n"
        return process

    server = start()
    try:
        with HistoryWriter.create_or_open(tmp_path / "store", manifest) as writer:
            options = {"address": f"localhost:{port}", "in_flight": 16, "resend_after_s": 0.5}
            with open_transport("reverb", writer, **options) as transport:
                blocks = blocks_of(manifest)
                for block in blocks[:3]:
                    transport.send(*block)
                transport.finish(30)
                real, held = writer.write, []

                def hold(*block):
                    """A sink that takes a block and dies before it writes it."""
                    held.append(block[:2])
                    if len(held) == 1:
                        transport._last_arrival = time.monotonic()
                        raise transport._replay.ReplayError("the sink's machine is gone")
                    real(*block)

                writer.write = hold
                transport.send(*blocks[3])
                while not held:
                    time.sleep(0.01)
                server.kill()
                server.communicate()
                server = start()
                for block in blocks[4:]:
                    transport.send(*block)
                transport.finish(60)
                assert writer.complete
                assert held.count(blocks[3][:2]) >= 2
    finally:
        server.kill()
        server.communicate()
    assert tree(tmp_path / "store") == expected
    assert "sending them again" in caplog.text


@pytest.mark.replay
@pytest.mark.skipif(not HAS_REVERB, reason="Reverb, of the replay extra, is not installed")
def test_deadlines_name_what_waits(tmp_path, monkeypatch):
    manifest = make_manifest()
    blocks = blocks_of(manifest)
    monkeypatch.setattr(transport_lib.ReverbTransport, "_run_sink", lambda self: None)
    with (
        HistoryWriter.create_or_open(tmp_path, manifest) as writer,
        open_transport("reverb", writer, in_flight=2, deadline_s=0.5) as transport,
    ):
        transport.send(*blocks[0])
        transport.send(*blocks[1])
        started = time.monotonic()
        with pytest.raises(HistoryError) as error:
            transport.send(*blocks[2])
        assert (
            "2 blocks did not reach the store in time, the first one with histories 0 to 3, steps 0 to 9"
            in str(error.value)
        )
        assert "the table holds 2 of at most 2 items after 2 inserts and 0 samples" in str(error.value)
        assert "inserts wait for samples" in str(error.value)
        with pytest.raises(HistoryError, match="2 blocks did not reach the store in time"):
            transport.finish(0.3)
        assert time.monotonic() - started < 8


@pytest.mark.replay
@pytest.mark.skipif(not HAS_REVERB, reason="Reverb, of the replay extra, is not installed")
def test_leftovers_of_another_store_are_thrown_away_and_other_tables_refused(tmp_path, caplog):
    from limbeck.agents.replay import ReplayServer

    ours, theirs = make_manifest(), make_manifest(epsilon=0.5)
    with ReplayServer([histories_table(ours, 8)]) as server:
        with HistoryWriter.create_or_open(tmp_path / "theirs", theirs) as writer:
            transport = transport_lib.ReverbTransport(writer, address=server.address)
            transport._stopping = True
            transport._sink.join(10)
            transport.send(*blocks_of(theirs)[5])
            transport.close()
        with HistoryWriter.create_or_open(tmp_path / "ours", ours) as writer:
            with open_transport("reverb", writer, address=server.address) as transport:
                group, chunk, block = blocks_of(ours)[0]
                transport.send(group, chunk, block)
                transport.finish(30)
            assert writer.missing() == [(g, c) for g in range(3) for c in range(3) if (g, c) != (0, 0)]
        assert "A block of another store was in the queue" in caplog.text
        other = make_manifest(group=5)
        with (
            HistoryWriter.create_or_open(tmp_path / "other", other) as writer,
            pytest.raises(HistoryError, match="is for other blocks"),
        ):
            open_transport("reverb", writer, address=server.address)
    with (
        HistoryWriter.create_or_open(tmp_path / "nobody", other) as writer,
        pytest.raises(HistoryError, match="Histories cannot go through Reverb: Could not ask .* within 5 s"),
    ):
        open_transport("reverb", writer, address="localhost:1")
