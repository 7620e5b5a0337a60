"""The training loop: learning, golden numbers, accumulation, precision, sharding, errors."""

import os
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import NonFiniteLossError, TrainConfig, adamw, train, warmup_cosine


WEIGHTS = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]], np.float32)


def regression(index, size=16):
    """Batch of update `index`: inputs [size, 3] and their exact linear images [size, 2]."""
    x = np.random.default_rng(index).normal(size=(size, 3)).astype(np.float32)
    return {"x": x, "y": x @ WEIGHTS + 0.25}


def squared_error(params, key, batch):
    error = batch["x"] @ params["linear"]["w"] + params["linear"]["b"] - batch["y"]
    value = jnp.mean(jnp.square(error.astype(jnp.float32)))
    return value, {"noise": jax.random.uniform(key)}


def zeros():
    return {"linear": {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}}


def assert_equal_bits(left, right):
    left, right = jax.tree.leaves(left), jax.tree.leaves(right)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_line_is_learnt():
    config = TrainConfig(steps=300, learning_rate=0.1, warmup_steps=10)
    state = train(squared_error, zeros(), regression, config)
    np.testing.assert_allclose(state.params["linear"]["w"], WEIGHTS, atol=1e-3)
    np.testing.assert_allclose(state.params["linear"]["b"], 0.25, atol=1e-3)
    assert int(state.step) == 300


def test_the_given_parameters_are_left_alone():
    params = zeros()
    train(squared_error, params, regression, TrainConfig(steps=2))
    np.testing.assert_array_equal(params["linear"]["w"], np.zeros((3, 2)))


def test_schedule_golden_numbers():
    schedule = warmup_cosine(peak=1.0, steps=12, warmup_steps=4, initial=0.2, final=0.1)
    rates = [float(schedule(i)) for i in (0, 1, 2, 4, 6, 8, 12)]
    # The cosine has 8 updates: a quarter of it is at 6 (cos 45 degrees), half at 8.
    expected = [0.2, 0.4, 0.6, 1.0, 0.1 + 0.9 * (1 + np.sqrt(0.5)) / 2, 0.55, 0.1]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="shorter than the run"):
        warmup_cosine(1.0, 10, 10)


def test_clipping_golden_numbers():
    optimiser = adamw(1.0, b1=0.0, b2=0.0, eps=1.0, clip_norm=1.0)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    # Norm 5 becomes 1: (0.6, 0.8). With both moments forgotten at once Adam's step is g / (|g| + eps).
    updates, _ = optimiser.update(
        {"a": jnp.array([3.0]), "b": jnp.array([-4.0])}, optimiser.init(params), params
    )
    np.testing.assert_allclose(updates["a"], -0.6 / 1.6, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], 0.8 / 1.8, rtol=1e-6)


def test_weight_decay_is_multiplied_by_the_rate_and_spares_vectors():
    optimiser = adamw(0.1, weight_decay=0.5)
    params = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimiser.update(nothing, optimiser.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], 0.0)


def test_metrics_are_means_over_the_interval():
    rows = []
    config = TrainConfig(steps=25, log_every=10, steps_per_call=5, learning_rate=0.0, clip_norm=None)
    source = Source()
    train(squared_error, zeros(), source, config, callbacks=[lambda *row: rows.append((row[0], row[2]))])
    assert [step for step, _ in rows] == [10, 20, 25]
    for (after, metrics), first in zip(rows, (0, 10, 20), strict=True):
        losses = [np.mean(np.square(regression(i)["y"])) for i in range(first, after)]
        np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
        key = jax.random.key(0)
        noise = [float(jax.random.uniform(jax.random.fold_in(key, i))) for i in range(first, after)]
        np.testing.assert_allclose(metrics["noise"], np.mean(noise), rtol=1e-5)
        assert metrics["tokens_per_second"] == pytest.approx(48 * metrics["updates_per_second"])


class Source:
    tokens_per_batch = 48

    def __call__(self, index):
        return regression(index)


def test_the_rate_and_the_gradient_norm_are_reported():
    rows = []
    config = TrainConfig(steps=1, warmup_steps=0, learning_rate=0.5)
    train(squared_error, zeros(), regression, config, callbacks=[lambda *row: rows.append(row[2])])
    batch = regression(0)
    by_w = -2 * batch["x"].T @ batch["y"] / batch["y"].size
    by_b = -2 * batch["y"].sum(0) / batch["y"].size
    np.testing.assert_allclose(rows[0]["grad_norm"], np.sqrt((by_w**2).sum() + (by_b**2).sum()), rtol=1e-5)
    assert rows[0]["learning_rate"] == 0.5


def test_two_parts_of_8_equal_a_batch_of_16():
    config = TrainConfig(steps=12, learning_rate=0.01, steps_per_call=4)
    whole = train(squared_error, zeros(), regression, config)
    parts = train(squared_error, zeros(), regression, TrainConfig(**{**vars(config), "accumulation": 2}))
    np.testing.assert_allclose(parts.params["linear"]["w"], whole.params["linear"]["w"], atol=1e-6)
    np.testing.assert_allclose(parts.params["linear"]["b"], whole.params["linear"]["b"], atol=1e-6)


def test_a_networks_state_passes_through_the_parts_in_float32():
    def loss(params, network_state, key, batch):
        value, metrics = squared_error(params, key, batch)
        return value, metrics, {"sum": network_state["sum"] * 0.5 + jnp.sum(batch["x"], dtype=jnp.float32)}

    config = TrainConfig(steps=3, accumulation=2, precision="bfloat16")
    state = train(loss, zeros(), regression, config, network_state={"sum": jnp.zeros(())})
    expected = 0.0
    for i in range(3):
        for part in np.split(regression(i)["x"], 2):
            expected = expected * 0.5 + part.astype(jnp.bfloat16).astype(np.float32).sum()
    assert state.network_state["sum"].dtype == jnp.float32
    np.testing.assert_allclose(state.network_state["sum"], expected, rtol=1e-5)


def test_the_number_of_updates_in_a_call_does_not_matter():
    runs = [
        train(squared_error, zeros(), regression, TrainConfig(steps=23, learning_rate=0.01, steps_per_call=n))
        for n in (1, 7)
    ]
    np.testing.assert_allclose(runs[0].params["linear"]["w"], runs[1].params["linear"]["w"], atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    seen = []

    def loss(params, key, batch):
        seen.append((params["linear"]["w"].dtype, batch["x"].dtype))
        return squared_error(params, key, batch)

    config = TrainConfig(steps=300, learning_rate=0.1, precision="bfloat16")
    state = train(loss, zeros(), regression, config)
    assert set(seen) == {(jnp.dtype("bfloat16"), jnp.dtype("bfloat16"))}
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((state.params, state.opt_state[1].mu)))
    np.testing.assert_allclose(state.params["linear"]["w"], WEIGHTS, atol=0.05)


def test_a_loss_that_is_not_finite_names_the_update(tmp_path):
    def poisoned(index):
        batch = regression(index)
        if index == 13:
            batch["y"][3, 1] = np.nan
        return batch

    config = TrainConfig(steps=30, steps_per_call=5, checkpoint_every=10)
    with pytest.raises(
        NonFiniteLossError, match=r"update 13 gave loss nan .*batches\(13\).*step 10 is whole"
    ):
        train(squared_error, zeros(), poisoned, config, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_00000010"]


def test_a_loss_that_explodes_gives_advice():
    def explodes(params, key, batch):
        value, metrics = squared_error(params, key, batch)
        return value * jnp.where(jnp.abs(params["linear"]["w"]).max() > 1, jnp.inf, 1.0), metrics

    with pytest.raises(NonFiniteLossError, match="Try a lower learning_rate"):
        train(explodes, zeros(), regression, TrainConfig(steps=50, learning_rate=1.0))


def test_an_error_in_the_source_is_raised_and_the_thread_ends():
    def broken(index):
        if index == 7:
            raise KeyError("no window 7")
        return regression(index)

    with pytest.raises(KeyError, match="no window 7"):
        train(squared_error, zeros(), broken, TrainConfig(steps=40, steps_per_call=2))
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_an_error_in_a_callback_stops_the_prefetch():
    def stop(step, state, metrics):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(squared_error, zeros(), regression, TrainConfig(steps=1000, log_every=10), callbacks=[stop])
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 5, "warmup_steps": 5}, "shorter than the run"),
        ({"precision": "float16"}, "'float32' or 'bfloat16'"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"learning_rate": float("nan")}, "peak learning rate"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_bad_batches_are_refused():
    with pytest.raises(ValueError, match="a batch of 16 cannot be divided into 3 part"):
        train(squared_error, zeros(), regression, TrainConfig(steps=4, accumulation=3))
    with pytest.raises(ValueError, match="batch as their first axis"):
        train(squared_error, zeros(), lambda i: {"x": np.zeros(4), "y": np.zeros(5)}, TrainConfig(steps=4))
    with pytest.raises(ValueError, match="names that the loop itself uses"):
        train(lambda *_: (jnp.float32(0), {"loss": 0.0}), zeros(), regression, TrainConfig(steps=4))


SHARDED = """
import sys
import jax
import numpy as np
sys.path.insert(0, {folder!r})
from test_training import regression, squared_error, zeros
from limbeck.encoders import TrainConfig, train

assert jax.device_count() == 2
for accumulation in (1, 2):
    config = TrainConfig(steps=20, learning_rate=0.01, log_every=10, accumulation=accumulation)
    losses = []
    for devices in (jax.devices(), jax.devices()[:1]):
        rows = []
        state = train(squared_error, zeros(), regression, config, devices=devices,
                      callbacks=[lambda *row: rows.append(row)])
        losses.append([row[2]["loss"] for row in rows] + [row[2]["noise"] for row in rows])
        assert len(state.params["linear"]["w"].sharding.device_set) == len(devices)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
"""


def test_two_devices_give_the_loss_of_one():
    script = textwrap.dedent(SHARDED.format(folder=os.path.dirname(__file__)))
    flags = "--xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", script], check=True, timeout=120, env={**os.environ, "XLA_FLAGS": flags}
    )
