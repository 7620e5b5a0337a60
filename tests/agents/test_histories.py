"""The store of learning histories: what is written is what is read, or an error says where it is not."""

import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from limbeck.agents import histories as histories_lib
from limbeck.agents.histories import (
    HistoryError,
    HistoryInfo,
    HistoryReader,
    HistoryWriter,
    Manifest,
    split_blocks,
)
from limbeck.agents.streams import load_streams
from limbeck.envs import DarkRoom


MID, LAST = 1, 2
HORIZON = 4


def make_manifest(num=10, length=24, group=4, chunk=8, **kwargs):
    histories = [
        HistoryInfo(h % 9, h % 9, "held_out" if h % 9 == 3 else "train", "q_learning", h // 2, h % 2, 7)
        for h in range(num)
    ]
    defaults = {
        "environment": "toy",
        "environment_kwargs": {"size": 3},
        "observation": {"shape": [2], "dtype": "int32", "minimum": 0, "maximum": 8},
        "action": {"shape": [], "dtype": "int32", "minimum": 0, "maximum": 4},
        "max_steps": HORIZON,
        "split": {"salt": "limbeck-0", "seed": 0, "held_out": [3]},
        "length": length,
        "histories": histories,
        "histories_per_chunk": group,
        "steps_per_chunk": chunk,
        "settings": {"epsilon": 0.1, "nested": {"a": [1, 2]}},
    }
    return Manifest(**{**defaults, **kwargs})


def make_arrays(num=10, length=24, seed=0, horizon=HORIZON):
    rng = np.random.default_rng(seed)
    step_type = np.tile(np.where(np.arange(length) % horizon == horizon - 1, LAST, MID), (num, 1))
    final = rng.integers(0, 9, (num, length, 2)) * (step_type == LAST)[..., None]
    return {
        "observation": rng.integers(0, 9, (num, length, 2)).astype(np.int32),
        "action": rng.integers(0, 5, (num, length)).astype(np.int32),
        "reward": rng.integers(0, 2, (num, length)).astype(np.float32),
        "discount": np.ones((num, length), np.float32),
        "step_type": step_type.astype(np.int32),
        "final_observation": final.astype(np.int32),
    }


def fill(path, manifest, arrays):
    with HistoryWriter.create_or_open(path, manifest) as writer:
        for group, chunk, make in split_blocks(manifest, arrays):
            writer.write(group, chunk, make())
    return path


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store", make_manifest(), make_arrays())


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def tree(path):
    return {
        str(p.relative_to(path)): p.read_bytes() for p in sorted(pathlib.Path(path).rglob("*")) if p.is_file()
    }


# Round trips.


def test_rows_read_are_rows_written(store):
    reader, arrays = HistoryReader(store, "toy"), make_arrays()
    assert reader.watermarks.tolist() == [24] * 10
    for history, start, stop in [(0, 0, 24), (5, 7, 9), (9, 8, 8), (8, 23, 24)]:
        rows = reader.read(history, start, stop)
        assert set(rows) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(rows[name], array[history, start:stop])
            assert rows[name].dtype == array.dtype
    reader.verify()


def test_arrays_are_plain_zarr_with_the_promised_layout(store):
    metadata = json.loads((store / "arrays/reward/zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["shape"] == [10, 24]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [4, 8]
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "zstd", "crc32c"]
    chunks = {p.name for p in (store / "arrays/reward").iterdir()} - {"zarr.json"}
    assert chunks == {f"c.{g}.{t}" for g in range(3) for t in range(3)}


def test_observation_dictionaries_and_extra_fields(tmp_path):
    manifest = make_manifest(
        observation={
            "image": {"shape": [3, 3, 1], "dtype": "uint8"},
            "direction": {"shape": [], "dtype": "int32"},
        },
        extras={"true_reward": {"shape": [], "dtype": "float32"}},
    )
    arrays = make_arrays()
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (10, 24, 3, 3, 1)).astype(np.uint8)
    direction = rng.integers(0, 4, (10, 24)).astype(np.int32)
    arrays["observation"] = {"image": image, "direction": direction}
    arrays["final_observation"] = {"image": np.zeros_like(image), "direction": np.zeros_like(direction)}
    arrays["true_reward"] = arrays["reward"] * 2
    reader = HistoryReader(fill(tmp_path / "s", manifest, arrays))
    rows = reader.read(7, 3, 20)
    np.testing.assert_array_equal(rows["observation"]["image"], image[7, 3:20])
    np.testing.assert_array_equal(rows["true_reward"], arrays["true_reward"][7, 3:20])
    streams = load_streams(reader, split=None)
    np.testing.assert_array_equal(streams.observation["direction"], direction)


def test_a_manifest_comes_back_and_takes_an_environments_specs(tmp_path):
    env = DarkRoom()
    split = type("Split", (), {"salt": "limbeck-0", "seed": 0, "held_out": (np.int64(3), 4)})
    infos = [HistoryInfo(5, np.int32(5), "train", "q_learning", 0, 0, 1)]
    manifest = Manifest.for_environment(env, split=split, length=40, histories=infos, settings={"x": (1,)})
    assert manifest.observation == {"shape": [2], "dtype": "int32", "minimum": 0, "maximum": 8}
    assert manifest.action == {"shape": [], "dtype": "int32", "minimum": 0, "maximum": 4}
    assert manifest.max_steps == 20
    assert manifest.split == {"salt": "limbeck-0", "seed": 0, "held_out": [3, 4]}
    again = Manifest.from_json(json.loads(json.dumps(manifest.to_json())))
    assert again == manifest
    HistoryWriter.create_or_open(tmp_path, manifest).close()
    HistoryReader(tmp_path, env)
    with pytest.raises(HistoryError, match="of dark_room, not of"):
        HistoryReader(tmp_path, DarkRoom("dark_room_hard", 17, once=True))
    with pytest.raises(HistoryError, match=r"maximum: 8 there, 10 here"):
        HistoryReader(tmp_path, DarkRoom(size=11))
    far = dataclasses.replace(manifest, histories=[dataclasses.replace(infos[0], task_id=81)])
    HistoryWriter.create_or_open(tmp_path / "far", far).close()
    with pytest.raises(HistoryError, match="History 0 .* is of task 81; dark_room has tasks 0 to 80"):
        HistoryReader(tmp_path / "far", env)


# Watermarks.


def test_watermarks_move_only_over_contiguous_blocks(tmp_path):
    manifest, arrays = make_manifest(), make_arrays()
    blocks = {(g, c): make() for g, c, make in split_blocks(manifest, arrays)}
    with HistoryWriter.create_or_open(tmp_path, manifest) as writer:
        expected = [
            ((0, 1), [0] * 10),
            ((0, 0), [16] * 4 + [0] * 6),
            ((2, 0), [16] * 4 + [0] * 4 + [8] * 2),
            ((0, 2), [24] * 4 + [0] * 4 + [8] * 2),
            ((0, 2), [24] * 4 + [0] * 4 + [8] * 2),
        ]
        for block, marks in expected:
            writer.write(*block, blocks[block])
            assert writer.watermarks.tolist() == marks
            assert HistoryReader(tmp_path).watermarks.tolist() == marks
        assert writer.missing() == [(1, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
        assert not writer.complete
        reader = HistoryReader(tmp_path)
        with pytest.raises(HistoryError, match="History 8 is whole up to step 8; steps 0 to 9"):
            reader.read(8, 0, 9)
        np.testing.assert_array_equal(reader.read(8)["action"], arrays["action"][8, :8])


def test_any_order_and_repeats_leave_the_same_bytes(tmp_path, store):
    manifest, arrays = make_manifest(), make_arrays()
    blocks = [(g, c, make()) for g, c, make in split_blocks(manifest, arrays)]
    order = np.random.default_rng(3).permutation(np.tile(np.arange(len(blocks)), 2))
    for part in np.array_split(order, 4):
        with HistoryWriter.create_or_open(tmp_path / "b", manifest) as writer:
            for i in part:
                writer.write(*blocks[i])
    with HistoryWriter.create_or_open(tmp_path / "b", manifest) as writer:
        for group, chunk in writer.missing():
            writer.write(group, chunk, next(b for g, c, b in blocks if (g, c) == (group, chunk)))
        assert writer.complete
    assert tree(tmp_path / "b") == tree(store)


# Streams that start again.


def test_a_restart_cuts_every_history_of_its_group_at_the_watermark(tmp_path):
    manifest, arrays = make_manifest(), make_arrays()
    blocks = {(g, c): make() for g, c, make in split_blocks(manifest, arrays)}
    with HistoryWriter.create_or_open(tmp_path, manifest) as writer:
        assert writer.restart(0) == 0  # Nothing was whole: the streams begin.
        assert writer.manifest.cuts == ()
        for place in [(0, 0), (0, 1), (1, 0)]:
            writer.write(*place, blocks[place])
        assert writer.restart(0) == 16
        assert writer.restart(2) == 0
        assert writer.manifest.cuts == tuple((history, 16) for history in range(4))
        assert writer.restart(0) == 16  # Said twice, recorded once.
        assert len(writer.manifest.cuts) == 4
        writer.write(0, 2, blocks[0, 2])
        assert writer.restart(0) == 24  # Whole: nothing is lost.
        assert writer.restart(1) == 8
        assert writer.manifest.cuts == tuple(
            [(history, 16) for history in range(4)] + [(history, 8) for history in range(4, 8)]
        )
        with pytest.raises(HistoryError, match=r"Block \(3, 0\) lies outside the store"):
            writer.restart(3)
        found = writer.manifest.cuts
    with HistoryWriter.create_or_open(tmp_path, manifest) as writer:
        assert writer.manifest.cuts == found
    assert HistoryReader(tmp_path).manifest.cuts == found


def test_a_restart_forgets_blocks_above_the_watermark(tmp_path):
    manifest, arrays = make_manifest(), make_arrays()
    later = make_arrays(seed=1)
    blocks = {(g, c): make() for g, c, make in split_blocks(manifest, arrays)}
    afterwards = {(g, c): make() for g, c, make in split_blocks(manifest, later)}
    with HistoryWriter.create_or_open(tmp_path, manifest) as writer:
        for place in [(0, 0), (0, 2), (1, 0), (1, 2)]:
            writer.write(*place, blocks[place])
        assert writer.restart(0) == 8
        assert not writer.durable(0, 2) and writer.durable(0, 0)
        assert writer.durable(1, 2)  # Of another group.
        writer.write(0, 1, afterwards[0, 1])
        writer.write(1, 1, blocks[1, 1])
        # The last chunk of group 0 is of steps that were lost; that of group 1 is the one that follows.
        assert writer.watermarks.tolist() == [16] * 4 + [24] * 4 + [0] * 2
        writer.write(0, 2, afterwards[0, 2])
        assert writer.watermarks.tolist() == [24] * 8 + [0] * 2
    rows = HistoryReader(tmp_path).read(3)["action"]
    np.testing.assert_array_equal(rows, np.concatenate([arrays["action"][3, :8], later["action"][3, 8:]]))


# Opening.


def test_another_manifest_is_refused_with_the_differences(store):
    before = tree(store)
    other = make_manifest(settings={"epsilon": 0.2, "nested": {"a": [1, 3]}, "new": 1}, chunk=4)
    with pytest.raises(HistoryError) as error:
        HistoryWriter.create_or_open(store, other)
    message = str(error.value)
    assert "\n" not in message
    assert "settings.epsilon: 0.1 there, 0.2 here" in message
    assert "settings.nested.a[1]: 2 there, 3 here" in message
    assert "settings.new: nothing there, 1 here" in message
    assert "steps_per_chunk: 8 there, 4 here" in message
    with pytest.raises(HistoryError, match="histories: 10 entries there, 8 entries here"):
        HistoryWriter.create_or_open(store, make_manifest(num=8))
    assert tree(store) == before
    with HistoryWriter.create_or_open(store, make_manifest()) as writer:
        assert writer.complete


def test_one_process_writes_at_a_time(store):
    with (
        HistoryWriter.create_or_open(store, make_manifest()),
        pytest.raises(HistoryError, match="being written by another process"),
    ):
        HistoryWriter.create_or_open(store, make_manifest())
    HistoryWriter.create_or_open(store, make_manifest()).close()


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(HistoryError, match=r"holds other files \(thesis.tex\)"):
        HistoryWriter.create_or_open(tmp_path, make_manifest())
    assert tree(tmp_path) == {"thesis.tex": b"x"}


def test_unwritable_places(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "store", "/proc/limbeck/store"):
        with pytest.raises(HistoryError, match="Cannot write histories to"):
            HistoryWriter.create_or_open(path, make_manifest())
    if os.geteuid() != 0:
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(HistoryError, match="Permission denied"):
            HistoryWriter.create_or_open(tmp_path / "shut" / "store", make_manifest())


def test_not_a_store_another_version_a_damaged_manifest(tmp_path, store):
    with pytest.raises(HistoryError, match="is not a history store: it has no manifest.json"):
        HistoryReader(tmp_path)
    with pytest.raises(HistoryError, match="histories of toy, not of other"):
        HistoryReader(store, "other")
    text = (store / "manifest.json").read_text()
    rewrite(store / "manifest.json", lambda m: m.update(format_version=2))
    with pytest.raises(HistoryError, match="format version 2; this Limbeck reads version 1"):
        HistoryReader(store)
    (store / "manifest.json").write_text(text[:-50])
    with pytest.raises(HistoryError, match="manifest.json is damaged"):
        HistoryReader(store)
    (store / "manifest.json").write_text(text)
    rewrite(store / "watermarks.json", lambda w: w["watermarks"].pop())
    with pytest.raises(HistoryError, match="does not fit the manifest"):
        HistoryReader(store)


# Damage.


@pytest.mark.parametrize("where", [-1, -5, 8, 0])
def test_a_flipped_bit_names_field_histories_and_time(store, where):
    chunk = store / "arrays/action/c.1.2"
    data = bytearray(chunk.read_bytes())
    data[where] ^= 1
    chunk.write_bytes(data)
    reader = HistoryReader(store)
    reader.read(0)
    reader.read(5, 0, 16)
    with pytest.raises(HistoryError, match="Field action of histories 5 to 5, steps 16 to 23 .*damaged"):
        reader.read(5)
    with pytest.raises(HistoryError, match="Field action of histories 4 to 7, steps 16 to 23 .*damaged"):
        load_streams(reader)


def test_a_chunk_cut_short_is_damaged(store):
    chunk = store / "arrays/action/c.1.2"
    for size in (0, 3, 20):
        chunk.write_bytes(chunk.read_bytes()[:size])
        with pytest.raises(HistoryError, match="Field action of histories 4 to 7, steps 16 .*damaged"):
            HistoryReader(store).verify()


def test_a_gap_names_field_histories_and_time(store):
    (store / "arrays/reward/c.2.1").unlink()
    reader = HistoryReader(store)
    with pytest.raises(HistoryError, match="Field reward of histories 8 to 8, steps 8 to 15 .*a gap"):
        reader.read(8)
    with pytest.raises(HistoryError, match="Field reward of histories 8 to 9, steps 8 to 15 .*a gap"):
        reader.verify()


def test_a_chunk_of_zeros_is_no_gap(tmp_path):
    arrays = make_arrays()
    arrays["reward"][:] = 0
    arrays["final_observation"][:] = 0
    reader = HistoryReader(fill(tmp_path / "s", make_manifest(), arrays))
    reader.verify()
    assert reader.read(3)["reward"].sum() == 0


def test_swapped_chunks_are_noticed(tmp_path):
    """Checksums hold, but the rows are out of order: an episode outlives the horizon."""
    manifest = make_manifest(num=4, length=21, group=4, chunk=7)
    store = fill(tmp_path / "s", manifest, make_arrays(4, 21))
    a, b = store / "arrays/step_type/c.0.0", store / "arrays/step_type/c.0.1"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    with pytest.raises(HistoryError, match=r"horizon.*history 0, time 9\)"):
        load_streams(HistoryReader(store))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("action", 5, "Field action holds 5, above its maximum 4"),
        ("action", -1, "Field action holds -1, below its minimum 0"),
        ("step_type", 0, "Field step_type holds 0, below its minimum 1"),
        ("reward", np.nan, "Field reward holds nan"),
        ("discount", 0.0, "Discount 0.0 where no episode ends"),
        ("observation", 9, "above its maximum 8"),
    ],
)
def test_values_out_of_range_are_refused_by_writer_and_reader(tmp_path, monkeypatch, name, value, message):
    manifest, arrays = make_manifest(), make_arrays()
    arrays[name][6, 17] = value
    with pytest.raises(HistoryError) as error:
        fill(tmp_path / "w", manifest, arrays)
    assert message in str(error.value) and "(history 6, time 17)" in str(error.value)
    monkeypatch.setattr(histories_lib, "check_block", lambda m, block, rows, times: block)
    reader = HistoryReader(fill(tmp_path / "r", manifest, arrays))
    for read in (lambda: reader.read(6), lambda: load_streams(reader), reader.verify):
        with pytest.raises(HistoryError) as error:
            read()
        assert message in str(error.value) and "(history 6, time 17)" in str(error.value)


def test_wrong_blocks_are_refused(tmp_path):
    manifest = make_manifest()
    blocks = {(g, c): make() for g, c, make in split_blocks(manifest, make_arrays())}
    with HistoryWriter.create_or_open(tmp_path, manifest) as writer:
        good = blocks[0, 0]
        for block, message in [
            ({k: v for k, v in good.items() if k != "reward"}, "missing: reward"),
            ({**good, "extra": good["reward"]}, "unknown: extra"),
            ({**good, "reward": good["reward"].astype(np.float64)}, r"must be float32\[4, 8\]; got float64"),
            ({k: v[:2] for k, v in good.items()}, r"histories 0 to 3, steps 0 to 7 must be int32\[4, 8, 2\]"),
        ]:
            with pytest.raises(HistoryError, match=message):
                writer.write(0, 0, block)
        with pytest.raises(HistoryError, match="lies outside the store, which has 3 groups"):
            writer.write(3, 0, good)
        assert writer.watermarks.sum() == 0
    with pytest.raises(HistoryError, match="not whole groups"):
        list(split_blocks(manifest, {k: v[:3] for k, v in make_arrays().items()}))


# A disk that refuses.


def test_a_failing_write_leaves_what_was_whole(tmp_path, monkeypatch):
    manifest, arrays = make_manifest(), make_arrays()
    blocks = [(g, c, make()) for g, c, make in split_blocks(manifest, arrays)]
    real = histories_lib._store
    with HistoryWriter.create_or_open(tmp_path / "s", manifest) as writer:
        writer.write(*blocks[0])

        class Refused:
            def result(self):
                raise ValueError("RESOURCE_EXHAUSTED: Failed to write [OS error 28: No space left on device]")

        monkeypatch.setattr(
            histories_lib, "_store", lambda v, a: Refused() if a.dtype == np.float32 else real(v, a)
        )
        with pytest.raises(HistoryError, match="steps 8 to 15 to .*No space left on device") as error:
            writer.write(*blocks[1])
        assert "\n" not in str(error.value)
        monkeypatch.setattr(histories_lib, "_store", real)

        def full(source, target):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(HistoryError, match="watermarks.json: No space left on device"):
                writer.write(*blocks[1])
        assert writer.watermarks.tolist() == [8] * 4 + [0] * 6
        reader = HistoryReader(tmp_path / "s")
        np.testing.assert_array_equal(reader.read(2)["reward"], arrays["reward"][2, :8])
        for block in blocks[1:]:
            writer.write(*block)
        assert writer.complete
    assert tree(tmp_path / "s") == tree(fill(tmp_path / "t", manifest, arrays))


# Loading.


def by_hand(tmp_path, cuts=0):
    """Two episodes of 3 and 2 steps, then the first row of a third: every value chosen by hand."""
    rows = {
        "observation": [10, 11, 12, 20, 21, 30],
        "action": [1, 2, 3, 4, 0, 1],
        "reward": [0.0, 0.5, 1.0, 0.25, -1.0, 0.0],
        "discount": [1.0, 1.0, 1.0, 1.0, 0.0, 1.0],
        "step_type": [MID, MID, LAST, MID, LAST, MID],
        "final_observation": [0, 0, 13, 0, 22, 0],
    }
    types = {"reward": np.float32, "discount": np.float32}
    arrays = {name: np.asarray([row], types.get(name, np.int32)) for name, row in rows.items()}
    manifest = make_manifest(
        num=1, length=6, group=1, chunk=4, max_steps=None, observation={"shape": [], "dtype": "int32"}
    )
    return HistoryReader(fill(tmp_path / "hand", manifest, arrays))


def test_a_hand_made_stream_of_two_episodes_decodes_row_by_row(tmp_path):
    """An independent decoder walks the stream as the model does: row t - 1 gives what came before row t."""
    reader = by_hand(tmp_path)
    streams = load_streams(reader)
    assert streams.length.tolist() == [6] and streams.task_id.tolist() == [0]
    decoded, previous, step_in_episode, episode = [], None, 0, 0
    for t in range(6):
        decoded.append((episode, step_in_episode, int(streams.observation[0, t]), previous))
        previous = (int(streams.action[0, t]), float(streams.reward[0, t]))
        step_in_episode += 1
        if streams.step_type[0, t] == LAST:
            episode, step_in_episode = episode + 1, 0
    assert decoded == [
        (0, 0, 10, None),
        (0, 1, 11, (1, 0.0)),
        (0, 2, 12, (2, 0.5)),
        (1, 0, 20, (3, 1.0)),  # The action and reward that ended the first episode: never zeros.
        (1, 1, 21, (4, 0.25)),
        (2, 0, 30, (0, -1.0)),
    ]
    assert streams.discount[0].tolist() == [1, 1, 1, 1, 0, 1]  # Truncated, then terminated.
    final = reader.read(0)["final_observation"]
    assert final.tolist() == [0, 0, 13, 0, 22, 0]  # In the store, in no row of the stream.
    assert not {13, 22} & set(streams.observation[0].tolist())


def test_keep_every_second_episode_of_the_hand_made_stream(tmp_path):
    streams = load_streams(by_hand(tmp_path), keep_every=2)
    assert streams.observation.tolist() == [[20, 21]]
    assert streams.action.tolist() == [[4, 0]]
    assert streams.step_type.tolist() == [[MID, LAST]]
    with pytest.raises(HistoryError, match="keep_every=4 leaves nothing of history 0"):
        load_streams(by_hand(tmp_path), keep_every=4)
    with pytest.raises(HistoryError, match="keep_every is at least 1; got 0"):
        load_streams(by_hand(tmp_path), keep_every=0)


def test_streams_of_fixed_episodes_are_rectangular(store):
    arrays = make_arrays()
    reader = HistoryReader(store)
    chosen = [h for h in range(10) if h != 3]
    for keep_every, episodes in [(1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (3, [2, 5]), (6, [5])]:
        streams = load_streams(reader, keep_every)
        steps = [e * HORIZON + s for e in episodes for s in range(HORIZON)]
        assert streams.history.tolist() == chosen
        assert streams.task_id.tolist() == [h % 9 for h in chosen]
        assert streams.length.tolist() == [len(steps)] * 9
        for name in ("observation", "action", "reward", "discount", "step_type"):
            np.testing.assert_array_equal(getattr(streams, name), arrays[name][np.ix_(chosen, steps)])
    assert load_streams(reader, split="held_out").history.tolist() == [3]
    assert load_streams(reader, histories=[9, 2]).history.tolist() == [9, 2]
    np.testing.assert_array_equal(load_streams(reader, histories=[9, 2]).action, arrays["action"][[9, 2]])


def test_episodes_of_any_length_are_padded_with_zeros(tmp_path):
    arrays = make_arrays()
    rng = np.random.default_rng(5)
    arrays["step_type"] = np.full((10, 24), MID, np.int32)
    for h in range(10):
        t = -1
        while t < 24:
            t += rng.integers(1, HORIZON + 1)
            if t < 24:
                arrays["step_type"][h, t] = LAST
    arrays["final_observation"][:] = 0
    reader = HistoryReader(fill(tmp_path / "s", make_manifest(), arrays))
    streams = load_streams(reader, keep_every=2, split=None)
    for h in range(10):
        episode, kept = 0, []
        for t in range(24):
            if episode % 2 == 1:
                kept.append(t)
            episode += arrays["step_type"][h, t] == LAST
        assert streams.length[h] == len(kept)
        for name in ("observation", "action", "reward", "step_type"):
            np.testing.assert_array_equal(getattr(streams, name)[h, : len(kept)], arrays[name][h, kept])
            assert not getattr(streams, name)[h, len(kept) :].any()


def test_a_cut_begins_a_new_episode(tmp_path):
    """History 0 lost what followed step 8 mid-episode; its stream goes on there with a new episode."""
    manifest = make_manifest(num=2, length=16, group=1, chunk=8, max_steps=6)
    arrays = make_arrays(2, 16, horizon=6)
    arrays["step_type"][0, 8:] = [MID, MID, MID, MID, MID, LAST, MID, LAST]
    arrays["final_observation"][0] = 0
    blocks = {(g, c): make() for g, c, make in split_blocks(manifest, arrays)}
    with HistoryWriter.create_or_open(tmp_path / "s", manifest) as writer:
        writer.write(0, 0, blocks[0, 0])
        assert writer.restart(0) == 8
        assert writer.manifest.cuts == ((0, 8),)
    with HistoryWriter.create_or_open(tmp_path / "s", manifest) as writer:
        assert writer.manifest.cuts == ((0, 8),)
        for place in [(0, 1), (1, 0), (1, 1)]:
            writer.write(*place, blocks[place])
        assert writer.restart(1) == 16  # Whole: nothing is lost and nothing is cut.
        assert writer.manifest.cuts == ((0, 8),)
    reader = HistoryReader(tmp_path / "s")
    streams = load_streams(reader)
    assert streams.step_type[0].tolist() == [1, 1, 1, 1, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 2]
    assert streams.discount[0, 7] == 1
    assert reader.read(0)["step_type"][7] == MID  # The store says what happened.
    # Episodes of history 0: 0-5, 6-7 (cut), 8-13, 14-15; of history 1: 0-5, 6-11, 12-15 (unfinished).
    kept = load_streams(reader, keep_every=2)
    assert kept.length.tolist() == [4, 6]
    np.testing.assert_array_equal(kept.action[0, :4], arrays["action"][0, [6, 7, 14, 15]])
    # Without the cut the same rows are an episode that outlives the horizon.
    rewrite(tmp_path / "s" / "manifest.json", lambda m: m.update(cuts=[]))
    with pytest.raises(HistoryError, match=r"history 0, time 12\)"):
        load_streams(HistoryReader(tmp_path / "s"))


def test_streams_of_a_store_that_is_still_being_written(tmp_path):
    manifest, arrays = make_manifest(), make_arrays()
    with HistoryWriter.create_or_open(tmp_path / "s", manifest) as writer:
        with pytest.raises(HistoryError, match="no block has reached it"):
            load_streams(HistoryReader(tmp_path / "s"))
        for group, chunk, make in split_blocks(manifest, arrays):
            if (group, chunk) in [(0, 0), (0, 1), (1, 0)]:
                writer.write(group, chunk, make())
        streams = load_streams(HistoryReader(tmp_path / "s"), split=None)
    assert streams.length.tolist() == [16] * 4 + [8] * 4 + [0] * 2
    np.testing.assert_array_equal(streams.action[5, :8], arrays["action"][5, :8])
    assert not streams.action[5, 8:].any()


def test_bad_choices_of_histories(store):
    reader = HistoryReader(store)
    for arguments, message in [
        ({"histories": [10]}, "There is no history 10"),
        ({"histories": []}, "empty list"),
        ({"histories": [3]}, "History 3 is held_out, not train"),
        ({"split": "test"}, "train, held_out; got 'test'"),
    ]:
        with pytest.raises(HistoryError, match=message):
            load_streams(reader, **arguments)
    with pytest.raises(HistoryError, match="There is no history 12"):
        reader.read(12)


def test_a_store_can_be_moved(tmp_path, store):
    shutil.move(store, tmp_path / "elsewhere")
    HistoryReader(tmp_path / "elsewhere").verify()
