"""Checkpoints: bit-exact resume, also after a kill; rotation; errors that say what is wrong."""

import json
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import CheckpointError, TrainConfig, checkpoints, load_params, train


CONFIG = {
    "steps": 20,
    "learning_rate": 0.05,
    "warmup_steps": 3,
    "steps_per_call": 5,
    "checkpoint_every": 5,
    "log_every": 5,
}


def source(index):
    x = np.random.default_rng(index).normal(size=(8, 3)).astype(np.float32)
    return {"x": x, "y": np.sin(x)}


def loss(params, key, batch):
    keep = jax.random.bernoulli(key, 0.7, batch["x"].shape)
    hidden = jnp.tanh((batch["x"] * keep) @ params["first"]["w"])
    return jnp.mean(jnp.square(hidden @ params["second"]["w"] - batch["y"])), {}


def parameters():
    first, second = jax.random.split(jax.random.key(7))
    return {
        "first": {"w": jax.random.normal(first, (3, 16))},
        "second": {"w": 0.1 * jax.random.normal(second, (16, 3))},
    }


def bits(state):
    return [np.asarray(checkpoints._raw(x)) for x in jax.tree.leaves(state)]


def assert_same(left, right):
    for a, b in zip(bits(left), bits(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "changes",
    [{}, {"accumulation": 2, "precision": "bfloat16"}, {"optimiser": "lars", "weight_decay": 1e-2}],
)
def test_20_updates_are_10_and_10(tmp_path, changes):
    config = TrainConfig(**CONFIG, **changes)
    whole = train(loss, parameters(), source, config)
    half = train(loss, parameters(), source, config, tmp_path, stop_at=10)
    assert int(half.step) == 10
    indices = []

    def recorded(index):
        indices.append(index)
        return source(index)

    resumed = train(loss, parameters(), recorded, config, tmp_path)
    assert indices == list(range(10, 20))
    assert_same(whole, resumed)
    assert_same(resumed, train(loss, parameters(), source, config, tmp_path))


def test_a_networks_state_is_resumed_with_the_rest(tmp_path):
    def stateful(params, network_state, key, batch):
        mean = 0.9 * network_state["mean"] + 0.1 * batch["x"].mean(axis=0)
        value, metrics = loss(params, key, {**batch, "x": batch["x"] - mean})
        return value, metrics, {"mean": mean}

    config, begin = TrainConfig(**CONFIG), {"mean": jnp.ones(3)}
    whole = train(stateful, parameters(), source, config, network_state=begin)
    train(stateful, parameters(), source, config, tmp_path, stop_at=10, network_state=begin)
    assert_same(whole, train(stateful, parameters(), source, config, tmp_path, network_state=begin))
    expected = np.ones(3)
    for i in range(20):
        expected = 0.9 * expected + 0.1 * source(i)["x"].mean(axis=0)
    np.testing.assert_allclose(whole.network_state["mean"], expected, rtol=1e-5)
    with pytest.raises(
        CheckpointError, match=r"network_state/mean: float32\[3\] in the checkpoint, not expected"
    ):
        train(loss, parameters(), source, config, tmp_path)


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from test_checkpoints import CONFIG, TrainConfig, loss, parameters, source, train
from limbeck.encoders import checkpoints

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

rename = os.rename
def die_at_the_rename(old, new):
    if str(new).endswith("step_00000015"):
        die()
    rename(old, new)

def between(step, state, metrics):
    if step == 15 and {where!r} == "between":
        die()

if {where!r} == "saving":
    os.rename = die_at_the_rename
train(loss, parameters(), source, TrainConfig(**CONFIG), {directory!r}, [between])
"""


@pytest.mark.parametrize("where", ["between", "saving"])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, where):
    script = KILLED.format(folder=os.path.dirname(__file__), where=where, directory=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoints.steps(tmp_path) == [5, 10]
    assert (tmp_path / ".writing_00000015").exists() == (where == "saving")
    config = TrainConfig(**CONFIG)
    assert_same(
        train(loss, parameters(), source, config, tmp_path), train(loss, parameters(), source, config)
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step_00000015", "step_00000020"]


def test_other_settings_are_refused_with_the_differences(tmp_path):
    train(loss, parameters(), source, TrainConfig(**CONFIG), tmp_path, stop_at=5)
    with pytest.raises(ValueError, match=r"(?s)learning_rate: 0.05 there, 0.1 now.*steps: 20 there, 40 now"):
        train(
            loss, parameters(), source, TrainConfig(**{**CONFIG, "steps": 40, "learning_rate": 0.1}), tmp_path
        )
    freely = TrainConfig(**{**CONFIG, "checkpoint_every": 10, "keep": 1, "log_every": 7})
    assert int(train(loss, parameters(), source, freely, tmp_path).step) == 20
    assert checkpoints.steps(tmp_path) == [20]


def test_another_model_is_refused_by_name(tmp_path):
    tree = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int32)}
    checkpoints.save(tmp_path, 3, tree)
    with pytest.raises(
        CheckpointError, match=r"a: float32\[2, 3\] in the checkpoint, expected float32\[2, 5\]"
    ):
        checkpoints.restore(tmp_path, {"a": jnp.zeros((2, 5)), "b": jnp.zeros(4, jnp.int32)})
    with pytest.raises(
        CheckpointError, match=r"(?s)c: missing.*b: int32\[4\] in the checkpoint, not expected"
    ):
        checkpoints.restore(tmp_path, {"a": jnp.zeros((2, 3)), "c": jnp.zeros(1)})


def test_round_trip_with_keys_names_and_types(tmp_path):
    tree = {
        "transformer/layer_0": {"w": jnp.arange(6.0).reshape(2, 3), "half": jnp.ones(2, jnp.bfloat16)},
        "moments": (jnp.int32(4), [jnp.zeros((0, 2))]),
        "key": jax.random.key(3),
    }
    checkpoints.save(tmp_path, 12, tree, {"config": {"steps": 20}})
    restored = checkpoints.restore(tmp_path, tree)
    assert (restored.step, restored.settings) == (12, {"config": {"steps": 20}})
    assert jax.tree.structure(restored.tree) == jax.tree.structure(tree)
    assert_same(restored.tree, tree)
    assert restored.tree["key"].dtype == tree["key"].dtype
    named = checkpoints.restore_dict(tmp_path).tree
    np.testing.assert_array_equal(named["transformer/layer_0"]["w"], tree["transformer/layer_0"]["w"])
    np.testing.assert_array_equal(named["moments"]["0"], 4)


def test_parameters_load_without_a_template(tmp_path):
    state = train(loss, parameters(), source, TrainConfig(**CONFIG), tmp_path)
    params, step = load_params(tmp_path)
    assert step == 20
    assert jax.tree.structure(params) == jax.tree.structure(state.params)
    assert_same(params, state.params)


def test_only_whole_checkpoints_are_seen_and_the_oldest_go(tmp_path):
    assert checkpoints.steps(tmp_path / "nowhere") == []
    (tmp_path / ".writing_00000009" / "arrays").mkdir(parents=True)
    (tmp_path / "step_notes.txt").write_text("mine")
    for step in (1, 2, 3, 123456789):
        checkpoints.save(tmp_path, step, {"a": np.float32(step)}, keep=2)
    assert checkpoints.steps(tmp_path) == [3, 123456789]
    assert not list(tmp_path.glob(".writing*"))
    assert checkpoints.restore(tmp_path, {"a": np.float32(0)}, step=3).tree["a"] == 3


def test_saving_a_step_again_replaces_it(tmp_path):
    for value in (1, 2):
        checkpoints.save(tmp_path, 4, {"a": np.float32(value)})
    assert checkpoints.restore(tmp_path, {"a": np.float32(0)}).tree["a"] == 2


def test_missing_and_damaged_checkpoints_say_so(tmp_path):
    template = {"a": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        checkpoints.restore(tmp_path, template)
    place = checkpoints.save(tmp_path, 4, template)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 5 .* there are \[4\]"):
        checkpoints.restore(tmp_path, template, step=5)
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99; this version of Limbeck reads format 1"):
        checkpoints.restore(tmp_path, template)
    (place / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.restore(tmp_path, template)


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="checkpoint of step 1 could not be written"):
        checkpoints.save(tmp_path / "file", 1, {"a": np.zeros(1)})


def test_nothing_is_pickled(tmp_path):
    place = checkpoints.save(tmp_path, 1, {"a": np.zeros(3, np.float32)})
    for file in place.rglob("*"):
        assert file.suffix not in (".pkl", ".pickle")
        assert file.is_dir() or not file.read_bytes().startswith(b"\x80\x04")
