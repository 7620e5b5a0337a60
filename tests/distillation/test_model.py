"""The distilled network: which input reaches which logits, sizes by hand, masking, smoothing."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.distillation import PRESETS, Inputs, ModelConfig, distillation_loss
from limbeck.distillation.model import axis_sizes, check_observation_spec, make_network
from limbeck.distillation.windows import Batch
from limbeck.encoders import TransformerConfig


SPEC = specs.BoundedArray((2,), np.int32, 0, 3, "xy")
TRUNK = TransformerConfig(num_layers=1, d_model=16, num_heads=2, feed_forward=16)
T = 7


def stream(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "observation": rng.integers(0, 4, (T, 2)).astype(np.int32),
        "action": rng.integers(0, 3, T).astype(np.int32),
        "reward": rng.normal(size=T).astype(np.float32),
    }


def inputs(stream):
    """Row t: o_t, a_{t-1}, r_t (the reward that a_{t-1} brought), from rows o_t, a_t, r_{t+1}."""
    return Inputs(
        stream["observation"],
        np.concatenate([[3], stream["action"][:-1]]).astype(np.int32),
        np.concatenate([[0], stream["reward"][:-1]]).astype(np.float32),
        np.arange(T, dtype=np.int32),
    )


@pytest.fixture(scope="module", params=[(1, "cached"), (3, "cached"), (3, "recomputed")], ids=str)
def network(request):
    tokens, context = request.param
    positions = "learned" if context == "recomputed" else "rotary"
    trunk = dataclasses.replace(TRUNK, positions=positions)
    network = make_network(ModelConfig(trunk, window=T, tokens_per_step=tokens, context=context), SPEC, 3, T)
    params = network.init(jax.random.key(0))
    return jax.jit(lambda x: network.logits(params, None, x))


@pytest.mark.parametrize("t", [0, 3])
@pytest.mark.parametrize("field", ["action", "reward", "observation"])
def test_a_step_s_outcome_is_seen_after_it_and_not_before(network, field, t):
    """a_t, r_{t+1} and o_{t+1} must not touch the logits at steps up to t, and must touch those at t + 1."""
    base = stream()
    before = np.asarray(network(inputs(base)))
    changed = {name: value.copy() for name, value in base.items()}
    row = t + 1 if field == "observation" else t
    changed[field][row] = (changed[field][row] + 1) % 3 if field != "reward" else 5.0
    after = np.asarray(network(inputs(changed)))
    np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
    assert np.abs(after[t + 1] - before[t + 1]).max() > 1e-5
    assert np.abs(after[T - 1] - before[T - 1]).max() > 1e-7


def test_the_step_in_the_episode_is_seen(network):
    x = inputs(stream())
    other = x._replace(step_in_episode=x.step_in_episode.copy())
    other.step_in_episode[4] = 0
    before, after = np.asarray(network(x)), np.asarray(network(other))
    np.testing.assert_array_equal(after[:4], before[:4])
    assert np.abs(after[4] - before[4]).max() > 1e-5


def test_steps_past_the_horizon_share_an_embedding(network):
    x = inputs(stream())
    far = [x._replace(step_in_episode=np.full(T, step, np.int32)) for step in (T - 1, T, T + 90)]
    np.testing.assert_array_equal(network(far[0]), network(far[1]))
    np.testing.assert_array_equal(network(far[0]), network(far[2]))


def shapes(config, spec, actions, steps):
    return jax.eval_shape(make_network(config, spec, actions, steps).init, jax.random.key(0))


def count(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def test_the_paper_preset_has_the_paper_s_size():
    """Dark Room: 9 x 9, 5 actions, 20 steps; 4 layers, d 64, feed-forward 2048, window 80 of 3 tokens."""
    config = PRESETS["paper"]
    block = (
        64 * 192
        + 192  # queries, keys, values
        + 64 * 64
        + 64  # out
        + 64 * 2048
        + 2048
        + 2048 * 64
        + 64  # feed-forward
        + 2 * 2 * 64  # two layer norms
    )
    embeddings = (
        6 * 64  # previous action, none included
        + 64
        + 64  # previous reward
        + 20 * 64  # step in episode
        + 2 * 9 * 64  # x and y
        + 3 * 64  # blanks of the token mask
        + 240 * 64  # learned positions
    )
    head = 64 * 5 + 5
    spec = specs.BoundedArray((2,), np.int32, 0, 8, "xy")
    assert count(shapes(config, spec, 5, 20)) == 4 * block + embeddings + head
    assert (config.sequence_length, config.burn_in) == (80, 0)


def test_the_fast_preset_s_size():
    """Two query heads and one key/value head of 32, no learned positions, no blanks, coordinates by axis."""
    config = PRESETS["fast"]
    block = 64 * (64 + 32 + 32) + 128 + 64 * 64 + 64 + 64 * 256 + 256 + 256 * 64 + 64 + 4 * 64
    embeddings = 6 * 64 + 2 * 64 + 20 * 64 + 2 * 9 * 64
    spec = specs.BoundedArray((2,), np.int32, 0, 8, "xy")
    total = 3 * block + 2 * 64 + embeddings + 64 * 5 + 5
    assert count(shapes(config, spec, 5, 20)) == total
    # 3 layers reach 3 (160 - 1) steps back.
    assert (config.sequence_length, config.burn_in) == (478, 159)


@pytest.mark.parametrize(("coordinates", "rows"), [("per_axis", 3 + 5), ("table", 15), ("both", 3 + 5 + 15)])
def test_coordinates(coordinates, rows):
    spec = specs.BoundedArray((2,), np.int32, [-1, 2], [1, 6], "xy")
    np.testing.assert_array_equal(axis_sizes(spec)[1], [3, 5])
    config = ModelConfig(TRUNK, window=4, coordinates=coordinates)
    tree = shapes(config, spec, 2, 4)
    tables = [x for name, x in tree["distilled"].items() if name.startswith("observation")]
    assert sum(x.shape[0] for x in tables) == rows

    network = make_network(config, spec, 2, 4)
    params = network.init(jax.random.key(0))
    points = np.stack(np.meshgrid([-1, 0, 1], range(2, 7)), -1).reshape(-1, 1, 2).astype(np.int32)
    one = Inputs(
        points, np.zeros((15, 1), np.int32), np.zeros((15, 1), np.float32), np.zeros((15, 1), np.int32)
    )
    logits = np.asarray(network.logits(params, None, one))[:, 0]
    # Every point has an embedding of its own.
    assert len(np.unique(np.round(logits, 7), axis=0)) == 15


def test_float_observations_are_mapped_linearly():
    spec = specs.Array((2, 3), np.float32, "features")
    network = make_network(ModelConfig(TRUNK, window=4), spec, 2, 4)
    params = network.init(jax.random.key(0))
    assert [x["w"].shape for name, x in params.items() if name.endswith("/observation")] == [(6, 16)]
    x = Inputs(
        np.ones((5, 2, 3), np.float32), np.zeros(5, np.int32), np.zeros(5, np.float32), np.zeros(5, np.int32)
    )
    assert network.logits(params, None, x).shape == (5, 2)


def test_tokens_are_masked_in_training_only():
    network = make_network(ModelConfig(TRUNK, window=T, token_mask=0.5), SPEC, 3, T)
    params, x = network.init(jax.random.key(0)), inputs(stream())
    played = network.logits(params, None, x)
    np.testing.assert_array_equal(played, network.logits(params, jax.random.key(1), x))
    trained = [network.logits(params, jax.random.key(i), x, True) for i in range(2)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-4 and np.abs(trained[0] - played).max() > 1e-4
    # A mask of almost everything leaves next to nothing of the inputs.
    blind = make_network(ModelConfig(TRUNK, window=T, token_mask=1 - 1e-7), SPEC, 3, T)
    logits = [blind.logits(params, jax.random.key(0), inputs(stream(i)), True) for i in range(2)]
    np.testing.assert_array_equal(*logits)


def test_smoothed_loss_by_hand():
    class Fixed:
        @staticmethod
        def logits(params, key, inputs, training):
            return jnp.log(jnp.array([[[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [1 / 3, 1 / 3, 1 / 3]]]))

    batch = Batch(None, jnp.array([[0, 2, 1]]), jnp.array([[1.0, 1.0, 0.0]]))
    value, metrics = distillation_loss(Fixed, 0.3)(None, None, batch)
    # A share of 0.3 spread over three actions: 0.8 on the target and 0.1 on each other.
    first = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    second = -(0.1 * math.log(0.1) + 0.1 * math.log(0.6) + 0.8 * math.log(0.3))
    np.testing.assert_allclose(value, (first + second) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["nll"], -(math.log(0.7) + math.log(0.3)) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], 0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 0}, "window"),
        ({"tokens_per_step": 2}, "1 or 3"),
        ({"token_mask": 1.0}, "token_mask"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"transformer": TransformerConfig(positions="learned")}, "recomputed"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ModelConfig(**changes)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"image": SPEC}, "one array"),
        (specs.Array((2,), np.int32), "bounds"),
        (specs.BoundedArray((8,), np.int32, 0, 99), "65536"),
        (specs.Array((2,), bool), "integers or floats"),
    ],
)
def test_observations_that_cannot_be_read_are_refused(spec, words):
    with pytest.raises(ValueError, match=words):
        check_observation_spec(spec)
