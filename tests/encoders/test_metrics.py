"""Metrics: CSV whose columns grow, TensorBoard events, W&B by a stand-in; no row twice after a resume."""

import json
import struct
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import MetricsLogger, TrainConfig, read_metrics, train


def events(directory):
    """Events of a TensorBoard directory in the order of writing, read record by record."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.glob("events.*")):
        data = path.read_bytes()
        while data:
            # A record is its length in 8 bytes, their checksum in 4, the event, its checksum in 4.
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_rows_columns_that_grow_and_numbers_kept_whole(tmp_path):
    with MetricsLogger(tmp_path, tensorboard=False) as log:
        log.log(10, {"loss": 1 / 3})
        log.log(20, {"loss": np.float32(0.1), "entropy": 2.0})
        log.log(30, {"entropy": float("nan")})
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == [
        "step,loss,entropy",
        "10,0.3333333333333333,",
        f"20,{float(np.float32(0.1))!r},2.0",
        "30,,nan",
    ]
    columns = read_metrics(tmp_path / "metrics.csv")
    assert columns["loss"][0] == 1 / 3
    assert np.isnan(columns["loss"][2])


def test_a_resume_drops_later_rows_and_a_line_cut_short(tmp_path):
    with MetricsLogger(tmp_path) as log:
        for step in (10, 20, 30):
            log.log(step, {"loss": step / 10})
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("40,4.")
    with MetricsLogger(tmp_path) as log:
        log.start(20)
        log.log(30, {"loss": 33.0, "new": 1.0})
    assert (tmp_path / "metrics.csv").read_text() == "step,loss,new\n10,1.0,\n20,2.0,\n30,33.0,1.0\n"


def test_tensorboard_has_the_numbers_and_a_purge_mark(tmp_path):
    with MetricsLogger(tmp_path) as log:
        log.log(10, {"loss": 1.5})
        log.log(20, {"loss": 2.5})
    scalars = [
        (e.step, e.summary.value[0].simple_value) for e in events(tmp_path / "tensorboard") if e.summary.value
    ]
    assert scalars == [(10, 1.5), (20, 2.5)]
    for path in (tmp_path / "tensorboard").iterdir():
        path.unlink()
    with MetricsLogger(tmp_path) as log:
        log.start(10)
        log.log(20, {"loss": 3.5})
    assert [e.step for e in events(tmp_path / "tensorboard") if e.session_log.status == 1] == [11]


def test_without_start_a_row_replaces_itself(tmp_path):
    for value in (1.0, 2.0):
        with MetricsLogger(tmp_path, tensorboard=False) as log:
            log.log(5, {"loss": value})
    assert read_metrics(tmp_path / "metrics.csv") == {"step": [5.0], "loss": [2.0]}


def test_wandb_that_is_missing_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"pip install 'limbeck\[wandb\]'"):
        MetricsLogger(tmp_path, wandb=True)


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda row, step: calls.append((step, row)), finish=lambda: calls.append("end")
    )
    started = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **kwargs: (started.append(kwargs), run)[1]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for step in (1, 2):
        with MetricsLogger(tmp_path, tensorboard=False, wandb=True, settings={"d": 64}) as log:
            log.log(step, {"loss": 0.5})
    assert calls == [(1, {"loss": 0.5}), "end", (2, {"loss": 0.5}), "end"]
    assert started[0]["id"] == started[1]["id"] == json.loads((tmp_path / "wandb.json").read_text())["id"]
    assert (started[0]["resume"], started[0]["config"], started[0]["name"]) == (
        "allow",
        {"d": 64},
        tmp_path.name,
    )


def test_a_training_run_stopped_between_checkpoints_leaves_the_rows_of_a_whole_one(tmp_path):
    def loss(params, key, batch):
        return jnp.mean(jnp.square(batch - params)), {"distance": jnp.abs(params[0])}

    def source(index):
        return np.full((4, 1), index % 3, np.float32)

    config = TrainConfig(steps=20, steps_per_call=2, log_every=3, checkpoint_every=8, learning_rate=0.1)

    def stop(step, state, metrics):
        if step > 12:
            raise InterruptedError

    with MetricsLogger(tmp_path / "whole", tensorboard=False) as log:
        train(loss, jnp.zeros(1), source, config, tmp_path / "a", [log])
    with MetricsLogger(tmp_path / "cut", tensorboard=False) as log, pytest.raises(InterruptedError):
        train(loss, jnp.zeros(1), source, config, tmp_path / "b", [log, stop])
    assert read_metrics(tmp_path / "cut" / "metrics.csv")["step"] == [4, 6, 8, 10, 12, 16]
    with MetricsLogger(tmp_path / "cut", tensorboard=False) as log:
        train(loss, jnp.zeros(1), source, config, tmp_path / "b", [log])
    whole, cut = (read_metrics(tmp_path / name / "metrics.csv") for name in ("whole", "cut"))
    assert whole["step"] == sorted(set(whole["step"]))
    for name in ("step", "loss", "grad_norm", "learning_rate", "distance"):
        assert whole[name] == cut[name]
