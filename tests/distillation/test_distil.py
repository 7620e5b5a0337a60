"""Distillation learns what its streams show, and a resumed run is the same to the bit."""

import math
import types

import jax
import numpy as np
import pytest
from limbeck.distillation import ModelConfig, WindowConfig, distil
from limbeck.encoders import TrainConfig, TransformerConfig
from limbeck.envs import DarkRoom


ROOM = DarkRoom(size=3, max_steps=5)
ACTIONS = 5
MODEL = ModelConfig(
    TransformerConfig(num_layers=1, d_model=16, num_heads=2, feed_forward=32, activation="relu"), window=6
)
WINDOWS = WindowConfig(batch=8, length=20, seed=1)


def repeating_streams(histories=64, steps=40):
    """Repeats an action that was rewarded (every second one is), and draws uniformly after one that was not.

    What is known before acting: half of the actions. The entropy of an action given its past is ln 5 / 2.
    """
    rng = np.random.default_rng(0)
    reward = (rng.random((histories, steps)) < 0.5).astype(np.float32)
    action = rng.integers(0, ACTIONS, (histories, steps)).astype(np.int32)
    for t in range(1, steps):
        action[:, t] = np.where(reward[:, t - 1] > 0, action[:, t - 1], action[:, t])
    kind = np.where(np.arange(steps) % 5 == 4, 2, 1).astype(np.int32)
    return types.SimpleNamespace(
        observation=rng.integers(0, 3, (histories, steps, 2)).astype(np.int32),
        action=action,
        reward=reward,
        step_type=np.tile(kind, (histories, 1)),
        length=np.full(histories, steps, np.int32),
    )


def train_config(steps, **changes):
    values = {"learning_rate": 1e-2, "steps_per_call": 10, "log_every": 10, "checkpoint_every": 10}
    return TrainConfig(steps=steps, **{**values, **changes})


def test_it_learns_to_repeat_what_was_rewarded():
    rows = []
    distil(
        repeating_streams(),
        ROOM,
        MODEL,
        WINDOWS,
        train_config(300),
        callbacks=[lambda step, state, metrics: rows.append(metrics)],
    )
    last = np.mean([row["loss"] for row in rows[-5:]])
    # On fresh streams nobody can be below ln 5 / 2 = 0.805 in the mean (these few are learned by heart a
    # little), and who does not see the reward of the action
    # before stays above the entropy of (0.6, 0.1, 0.1, 0.1, 0.1), the best guess from that action alone.
    blind = -(0.6 * math.log(0.6) + 4 * 0.1 * math.log(0.1))
    assert rows[0]["loss"] > 1.4
    assert 0.75 * math.log(5) / 2 < last < 0.8 * blind, (last, blind)


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path):
    streams = repeating_streams(8)
    config = train_config(20)
    whole = distil(streams, ROOM, MODEL, WINDOWS, config, tmp_path / "whole")
    part = distil(streams, ROOM, MODEL, WINDOWS, config, tmp_path / "cut", stop_at=10)
    assert int(part.step) == 10
    resumed = distil(streams, ROOM, MODEL, WINDOWS, config, tmp_path / "cut")
    assert int(resumed.step) == 20
    for a, b, c in zip(*(jax.tree.leaves(x.params) for x in (whole, resumed, part)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.size < 5 or (np.asarray(a) != np.asarray(c)).any() or not np.asarray(a).any()


def test_sequences_longer_than_the_histories_are_refused(tmp_path):
    with pytest.raises(ValueError, match="longest history has 40"):
        distil(repeating_streams(2), ROOM, MODEL, WindowConfig(length=41), train_config(10), tmp_path)
    assert not list(tmp_path.iterdir())
