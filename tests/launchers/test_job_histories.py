"""The history store of a job: which blocks it takes, and what a new start of an actor makes of it."""

import json

import numpy as np
import pytest
from limbeck.agents import Block, HistoryReader, Manifest
from limbeck.envs import LAST, MID
from limbeck.launchers.job_config import JobConfig, job_config
from limbeck.launchers.job_histories import (
    JobStore,
    history_manifest,
    history_store,
    history_tables,
    history_watermarks,
)


# Chunks of 500 steps: the last one of 1200 is short.
LENGTH, CHUNK = 1200, 500


def config(**fields) -> JobConfig:
    return job_config(
        "dark_room", "ppo", actors=2, environments=3, **{"history_steps": LENGTH, "seed": 4, **fields}
    )


def block(manifest: Manifest, group: int, chunk: int, epoch: int, value: int = 0) -> Block:
    """Rows of one value, so that it can be told whose they are; episodes of 20 steps."""
    shape = (len(manifest.rows(group)), len(manifest.times(chunk)))
    ends = np.arange(shape[1]) % 20 == 19
    fields = {
        "observation": np.full((*shape, 2), value, np.int32),
        "final_observation": np.tile(np.where(ends[:, None], value, 0), (shape[0], 1, 2)).astype(np.int32),
        "action": np.zeros(shape, np.int32),
        "reward": np.full(shape, value, np.float32),
        "discount": np.ones(shape, np.float32),
        "step_type": np.tile(np.where(ends, LAST, MID), (shape[0], 1)).astype(np.int32),
    }
    return Block(group, chunk, epoch, fields)


@pytest.fixture
def store(tmp_path):
    store = JobStore(tmp_path, config())
    yield store
    store.close()


def test_a_group_is_an_actor_and_a_history_one_of_its_environments():
    manifest = history_manifest(config())
    assert manifest.num_groups == 2 and list(manifest.rows(1)) == [3, 4, 5]
    assert [len(manifest.times(chunk)) for chunk in range(manifest.num_chunks)] == [500, 500, 200]
    assert [(info.stream, info.algorithm, info.seed) for info in manifest.histories] == [
        (stream, "ppo", 4) for stream in range(6)
    ]
    assert manifest.observation == {"shape": [2], "dtype": "int32", "minimum": 0, "maximum": 8}
    assert history_manifest(config(history_steps=80)).steps_per_chunk == 80
    (table,) = history_tables(config())
    assert table.kind == "queue" and table.signature["observation"] == ((3, 500, 2), "int32")
    assert history_tables(config(history_steps=0)) == []


def test_blocks_of_an_earlier_start_are_thrown_away(store, tmp_path):
    assert not store.write(block(store.manifest, 0, 0, 0))  # Of a start that nobody announced.
    assert store.begin(0, 0) == 0
    assert store.begin(0, 0) == 0  # Said again: the answer was lost.
    assert store.write(block(store.manifest, 0, 0, 0, 1))
    assert store.begin(0, 0) == CHUNK and store.manifest.cuts == ()
    assert store.watermark(0) == CHUNK and store.watermark(1) == 0
    assert store.write(block(store.manifest, 0, 2, 0, 1))  # Ahead of the watermark.
    assert store.begin(0, 1) == CHUNK
    assert store.manifest.cuts == ((0, CHUNK), (1, CHUNK), (2, CHUNK))
    assert not store.write(block(store.manifest, 0, 1, 0, 1))
    assert store.watermark(0) == CHUNK
    assert store.write(block(store.manifest, 0, 1, 1, 2))
    assert store.watermark(0) == 2 * CHUNK  # Not over the old start's last chunk.
    assert store.write(block(store.manifest, 0, 2, 1, 2))
    assert store.watermark(0) == LENGTH and not store.complete
    assert store.facts() == {"steps": 0, "cuts": 3}
    rewards = HistoryReader(history_store(tmp_path)).read(2)["reward"]
    assert rewards.tolist() == [1.0] * 500 + [2.0] * 700


def test_a_start_that_comes_late_does_not_take_over(store):
    """The call of an actor that has died meanwhile arrives after that of its next start."""
    assert store.begin(1, 3) == 0
    assert store.manifest.cuts == ()  # The first start that got as far as this.
    with pytest.raises(ValueError, match="start 2 of group 1 is over: start 3 goes on with it"):
        store.begin(1, 2)
    assert store.write(block(store.manifest, 1, 0, 3))
    assert store.begin(1, 4) == CHUNK
    assert store.manifest.cuts == ((3, CHUNK), (4, CHUNK), (5, CHUNK))


def test_whole_histories_are_not_cut(store):
    store.begin(0, 0)
    for chunk in range(3):
        store.write(block(store.manifest, 0, chunk, 0))
    assert store.begin(0, 1) == LENGTH
    assert store.manifest.cuts == ()


def test_starts_and_cuts_survive_the_sink(tmp_path):
    store = JobStore(tmp_path, config())
    store.begin(0, 0)
    store.begin(1, 0)
    store.write(block(store.manifest, 0, 0, 0))
    store.begin(0, 1)
    store.write(block(store.manifest, 0, 2, 1))  # Durable, above the watermark.
    store.close()
    assert json.loads((tmp_path / "history_epochs.json").read_text()) == {"0": 1, "1": 0}

    store = JobStore(tmp_path, config())
    assert store.manifest.cuts == ((0, CHUNK), (1, CHUNK), (2, CHUNK))
    assert not store.write(block(store.manifest, 0, 1, 0))
    assert store.write(block(store.manifest, 0, 1, 1))
    # The sink that has died may have had the last chunk; the actor sends it again.
    assert store.watermark(0) == 2 * CHUNK
    assert store.write(block(store.manifest, 0, 2, 1))
    for chunk in range(3):
        assert store.write(block(store.manifest, 1, chunk, 0))
    assert store.complete
    store.close()
    HistoryReader(history_store(tmp_path)).verify()


def test_watermarks_of_a_run(tmp_path):
    assert history_watermarks(tmp_path) is None
    store = JobStore(tmp_path, config())
    assert history_watermarks(tmp_path) is None  # No block has come yet.
    store.begin(1, 0)
    store.write(block(store.manifest, 1, 0, 0))
    assert history_watermarks(tmp_path) == [0, 0, 0, 500, 500, 500]
    store.close()
