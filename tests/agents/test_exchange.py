"""Histories out to npz and Minari and back, and a store in figures."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
from limbeck.agents._exchange import export_minari, export_npz, import_minari, import_npz, show_histories
from limbeck.agents.histories import HistoryError, HistoryInfo, HistoryReader, HistoryWriter, Manifest
from limbeck.agents.streams import load_streams


needs_minari = pytest.mark.skipif(
    importlib.util.find_spec("minari") is None, reason="Minari is not installed"
)


def make_store(path, watermark=12, dictionary=False, **kwargs):
    """Three histories of 12 steps: episodes of 5 steps (the second one terminates), then 2 unfinished steps.

    History 2 has a cut at step 4, in the middle of its first episode.
    """
    rng = np.random.default_rng(0)
    scalar = {"shape": [], "dtype": "int32", "minimum": 0, "maximum": 8}
    pair = {"shape": [2], "dtype": "int32", "minimum": 0, "maximum": 8}
    manifest = Manifest(
        environment="toy",
        environment_kwargs={"size": 9},
        observation={"direction": scalar, "symbols": pair} if dictionary else pair,
        action={"shape": [], "dtype": "int32", "minimum": 0, "maximum": 4},
        max_steps=5,
        split={"salt": "limbeck-0", "seed": 0, "held_out": [2]},
        length=12,
        histories=[
            HistoryInfo(h, h, ["train", "held_out"][h == 2], ["ucb1", "ppo"][h == 1], h, 0, 7)
            for h in range(3)
        ],
        histories_per_chunk=1,
        steps_per_chunk=4,
        settings={"epsilon": 0.1},
        **kwargs,
    )
    step_type = np.tile([1, 1, 1, 1, 2, 1, 1, 1, 1, 2, 1, 1], (3, 1)).astype(np.int32)
    step_type[2] = [1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    ends = step_type == 2

    def observation(shape):
        rows = rng.integers(0, 9, (3, 12, *shape)).astype(np.int32)
        final = rng.integers(1, 9, (3, 12, *shape)) * ends.reshape(3, 12, *([1] * len(shape)))
        return rows, final.astype(np.int32)

    parts = {name: observation(spec["shape"]) for name, spec in [("direction", scalar), ("symbols", pair)]}
    arrays = {
        "observation": {k: v[0] for k, v in parts.items()} if dictionary else parts["symbols"][0],
        "final_observation": {k: v[1] for k, v in parts.items()} if dictionary else parts["symbols"][1],
        "action": rng.integers(0, 5, (3, 12)).astype(np.int32),
        "reward": np.tile(np.arange(12, dtype=np.float32), (3, 1)),
        "discount": np.ones((3, 12), np.float32),
        "step_type": step_type,
    }
    arrays["discount"][:2, 9] = 0
    for name in manifest.extras:
        arrays[name] = rng.random((3, 12)).astype(np.float32)
    with HistoryWriter.create_or_open(path, manifest) as writer:
        for chunk in range(3):
            times = slice(4 * chunk, 4 * chunk + 4)
            for group in range(3):
                if chunk == 1 and group == 2:
                    writer.restart(2)
                if times.stop <= (watermark if group == 1 else 12):
                    block = {
                        name: {k: v[group : group + 1, times] for k, v in value.items()}
                        if isinstance(value, dict)
                        else value[group : group + 1, times]
                        for name, value in arrays.items()
                    }
                    writer.write(group, chunk, block)
    return path


def tree(path):
    return {
        str(p.relative_to(path)): p.read_bytes() for p in sorted(pathlib.Path(path).rglob("*")) if p.is_file()
    }


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.mark.parametrize("watermark", [12, 8, 0])
@pytest.mark.parametrize("dictionary", [False, True])
def test_npz_and_back_is_the_same_store(tmp_path, watermark, dictionary):
    extras = {"extras": {"true_reward": {"shape": [], "dtype": "float32"}}}
    store = make_store(tmp_path / "a", watermark, dictionary, **extras)
    export_npz(store, tmp_path / "a.npz")
    import_npz(tmp_path / "a.npz", tmp_path / "b")
    assert tree(tmp_path / "b") == tree(store)


@needs_minari
@pytest.mark.parametrize("watermark", [12, 8, 0])
@pytest.mark.parametrize("dictionary", [False, True])
def test_minari_and_back_is_the_same_store(tmp_path, datasets, watermark, dictionary):
    store = make_store(tmp_path / "a", watermark, dictionary)
    export_minari(store, "limbeck/toy-v0")
    import_minari("limbeck/toy-v0", tmp_path / "b")
    assert tree(tmp_path / "b") == tree(store)


@needs_minari
def test_minaris_own_reader_sees_the_episodes(tmp_path, datasets):
    import minari

    store = make_store(tmp_path / "a")
    export_minari(store, "limbeck/toy-v0")
    dataset = minari.load_dataset("limbeck/toy-v0")
    episodes = list(dataset.iterate_episodes())
    # Histories 0 and 1: 5 + 5 + 2 steps; history 2: 4 (cut), 5, 3.
    assert [len(e.rewards) for e in episodes] == [5, 5, 2, 5, 5, 2, 4, 5, 3]
    assert [bool(e.terminations[-1]) for e in episodes] == [False, True, False] * 2 + [False] * 3
    assert [bool(e.truncations[-1]) for e in episodes] == [True, False, False] * 2 + [False, True, False]
    rows = HistoryReader(store).read(0)
    np.testing.assert_array_equal(episodes[1].observations[:5], rows["observation"][5:10])
    np.testing.assert_array_equal(episodes[1].observations[5], rows["final_observation"][9])
    places = list(dataset.storage.get_episode_metadata(range(9)))
    assert [int(place["task_id"]) for place in places] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@needs_minari
def test_what_minari_cannot_hold_is_refused(tmp_path, datasets):
    store = make_store(tmp_path / "a", extras={"true_reward": {"shape": [], "dtype": "float32"}})
    with pytest.raises(HistoryError, match="no place for the fields true_reward"):
        export_minari(store, "limbeck/toy-v0")
    store = make_store(tmp_path / "b")
    export_minari(store, "limbeck/toy-v0")
    with pytest.raises(HistoryError, match="Minari cannot make the dataset limbeck/toy-v0"):
        export_minari(store, "limbeck/toy-v0")
    with pytest.raises(HistoryError, match="no local Minari dataset limbeck/other-v0"):
        import_minari("limbeck/other-v0", tmp_path / "c")


def test_imports_are_checked_before_anything_is_written(tmp_path):
    export_npz(make_store(tmp_path / "a"), tmp_path / "a.npz")
    good = dict(np.load(tmp_path / "a.npz"))

    def changed(**changes):
        np.savez(tmp_path / "bad.npz", **{**good, **changes})
        return tmp_path / "bad.npz"

    action, step_type = good["action"].copy(), good["step_type"].copy()
    action[1, 6], step_type[0, 4] = 7, 1
    manifest = json.loads(str(good["limbeck_manifest"]))
    for changes, message in [
        ({"action": action}, r"action holds 7, above its maximum 4 \(history 1, time 6\)"),
        ({"step_type": step_type}, r"horizon.*\(history 0, time 5\)"),
        ({"reward": good["reward"].astype(np.float64)}, "must be float32"),
        ({"reward": good["reward"][:2]}, "number of histories and steps"),
        ({"stranger": good["reward"]}, "unknown: stranger"),
        ({"limbeck_manifest": np.asarray("{")}, "is damaged"),
        ({"limbeck_manifest": np.asarray(json.dumps({**manifest, "format_version": 9}))}, "format version 9"),
    ]:
        with pytest.raises(HistoryError, match=message):
            import_npz(changed(**changes), tmp_path / "b")
        assert not (tmp_path / "b").exists()
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(HistoryError, match="not an export of histories"):
        import_npz(tmp_path / "other.npz", tmp_path / "b")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(HistoryError, match="Cannot read"):
        import_npz(tmp_path / "text.npz", tmp_path / "b")
    with pytest.raises(HistoryError, match="Cannot read .* No such file"):
        import_npz(tmp_path / "none.npz", tmp_path / "b")
    with pytest.raises(HistoryError, match="Cannot write .*: Not a directory"):
        export_npz(tmp_path / "a", tmp_path / "text.npz" / "x.npz")


def test_a_store_in_figures(tmp_path):
    store = make_store(tmp_path / "a")
    found = json.loads(json.dumps(show_histories(store)))
    # Rewards 0 to 11. Histories 0 and 1: episodes 0-4 and 5-9; history 2: 0-3 (cut) and 4-8.
    assert found["algorithms"]["ppo"] == {"histories": 1, "first_10": 22.5, "last_10": 22.5}
    assert found["algorithms"]["ucb1"] == {"histories": 2, "first_10": (22.5 + 18) / 2, "last_10": 20.25}
    assert (found["histories"], found["steps"], found["complete"]) == (3, 36, True)
    assert found["split"]["histories"] == {"held_out": 1, "train": 2}
    assert found["watermarks"] == {"min": 12, "max": 12}
    assert found["cuts"] == [[2, 4]]
    assert found["size_on_disk"] == sum(len(data) for data in tree(store).values())
    assert found["compression_ratio"] == round(36 * (8 + 8 + 4 * 4) / found["size_on_disk"], 2)
    partial = show_histories(make_store(tmp_path / "b", watermark=0))
    assert not partial["complete"] and partial["steps"] == 24
    assert partial["algorithms"]["ppo"] == {"histories": 1, "first_10": None, "last_10": None}
    assert load_streams(HistoryReader(store), split="held_out").length.tolist() == [12]
