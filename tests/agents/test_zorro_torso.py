"""Zorro as a torso."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dm_env import specs
from limbeck.agents import make_agent_for, make_torso
from limbeck.encoders import nt_xent

from limbeck import envs


SPEC = {
    "audio": specs.BoundedArray((800,), np.float32, -1, 1, "audio"),
    "audio_present": specs.Array((), np.bool_, "audio_present"),
    "direction": specs.BoundedArray((), np.int32, 0, 3, "direction"),
    "image": specs.BoundedArray((16, 24, 3), np.uint8, 0, 255, "image"),
    "symbols": specs.BoundedArray((7, 7, 3), np.uint8, 0, 10, "symbols"),
    "text": specs.BoundedArray((5,), np.int32, 0, 30, "text"),
}
SMALL = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "fusion_tokens": 2, "hidden": (8,)}


def draw(names, leading=(), seed=0):
    rng = np.random.default_rng(seed)
    found = {}
    for name in names:
        spec, shape = SPEC[name], (*leading, *SPEC[name].shape)
        if spec.dtype == np.float32:
            found[name] = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
        elif spec.dtype == bool:
            found[name] = np.ones(shape, bool)
        else:
            found[name] = rng.integers(0, int(np.max(spec.maximum)) + 1, shape).astype(spec.dtype)
    return found


def build(names, **settings):
    """Parameters away from where they begin, and the torso."""
    torso = make_torso("zorro", {name: SPEC[name] for name in names}, **{**SMALL, **settings})
    network = hk.without_apply_rng(hk.transform(torso))
    params = jax.jit(network.init)(jax.random.key(0), draw(names))
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), params), jax.jit(
        network.apply
    )


@pytest.mark.parametrize(
    "names", [("symbols",), ("audio", "direction"), ("image", "text"), tuple(SPEC)], ids="+".join
)
def test_any_sense_may_be_absent_and_axes_are_free(names) -> None:
    params, apply = build(names)
    several = draw(names, (3, 2))
    features = apply(params, several)
    assert features.shape == (3, 2, 8) and features.dtype == jnp.float32 and np.std(features) > 0
    one = apply(params, jax.tree.map(lambda x: x[1, 1], several))
    np.testing.assert_allclose(one, features[1, 1], atol=1e-5)
    # What lies beside the senses is seen too.
    if "direction" in names:
        turned = several | {"direction": (several["direction"] + 1) % 4}
        assert np.abs(apply(params, turned) - features).max() > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "tokens"),
    # MiniGrid's view in its cells of 8, a screen in halves of its icons, a large picture, one that only 7 divides.
    [(56, 56, 49), (96, 96, 64), (224, 224, 196), (21, 35, 15)],
)
def test_pictures_are_cut_along_cells(height, width, tokens) -> None:
    spec = {"image": specs.BoundedArray((height, width, 3), np.uint8, 0, 255)}
    network = hk.transform(make_torso("zorro", spec, **SMALL))
    params = jax.eval_shape(
        network.init, jax.random.key(0), {"image": np.zeros((height, width, 3), np.uint8)}
    )
    assert params["zorro"]["image_positions"].shape == (tokens, 16)


def test_a_missing_sense_is_not_read() -> None:
    params, apply = build(tuple(SPEC))
    heard, other = draw(SPEC, (4,)), draw(SPEC, (4,), seed=1)["audio"]
    assert np.abs(apply(params, heard | {"audio": other}) - apply(params, heard)).max() > 1e-3
    deaf = heard | {"audio_present": np.zeros(4, bool)}
    silent = apply(params, deaf)
    np.testing.assert_array_equal(apply(params, deaf | {"audio": other}), silent)
    np.testing.assert_array_equal(apply(params, deaf | {"audio": np.full_like(other, np.nan)}), silent)
    # Each example by its own flag.
    some = apply(params, heard | {"audio_present": np.array([True, False, True, False])})
    np.testing.assert_allclose(some[::2], apply(params, heard)[::2], atol=1e-5)
    np.testing.assert_allclose(some[1::2], silent[1::2], atol=1e-5)


def test_only_a_scalar_is_a_flag() -> None:
    """A row of bools under a flag's name is a vector beside the senses, as the dictionary torso has it."""
    spec = {"symbols": SPEC["symbols"], "symbols_present": specs.Array((2,), np.bool_, "symbols_present")}
    network = hk.without_apply_rng(hk.transform(make_torso("zorro", spec, **SMALL)))
    symbols, other = (draw(("symbols",), (3,), seed)["symbols"] for seed in range(2))
    rows = np.zeros((3, 2), bool)
    params = network.init(jax.random.key(0), {"symbols": symbols, "symbols_present": rows})
    seen = network.apply(params, {"symbols": symbols, "symbols_present": rows})
    assert np.abs(network.apply(params, {"symbols": other, "symbols_present": rows}) - seen).max() > 1e-4
    assert np.abs(network.apply(params, {"symbols": symbols, "symbols_present": ~rows}) - seen).max() > 1e-4


def test_the_contrast_is_of_pure_readouts() -> None:
    """Features with a cotangent of zero leave the auxiliary loss alone: its gradient by hand."""
    names = ("audio", "symbols")
    params, apply = build(names, contrast=0.5)
    observation = draw(names, (6,))
    found = jax.grad(lambda p: jnp.sum(0.0 * apply(p, observation)))(params)

    def loss(p):
        readouts = {}

        def network(observation):
            torso = make_torso("zorro", {name: SPEC[name] for name in names}, **SMALL, contrast=0.5)
            with hk.intercept_methods(keep):
                torso(observation)

        def keep(function, args, kwargs, context):
            out = function(*args, **kwargs)
            if context.module.name.endswith("_contrast"):
                readouts[context.module.name] = out
            return out

        hk.without_apply_rng(hk.transform(network)).apply(p, observation)
        return 0.5 * nt_xent(readouts["audio_contrast"], readouts["symbols_contrast"], 0.1)

    expected = jax.grad(loss)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    assert np.abs(found["audio_contrast"]["w"]).max() > 0
    # Fusion tokens have no part in it: neither readout may read them.
    np.testing.assert_array_equal(found["zorro"]["fusion"], 0)


def test_it_learns_what_takes_both_senses() -> None:
    """Whether a pitch is high where a cell is marked, and low where it is not."""
    rng = np.random.default_rng(0)
    marked, high = rng.random(256) < 0.5, rng.random(256) < 0.5
    symbols = np.zeros((256, 7, 7, 3), np.uint8)
    symbols[:, 3, 5, 0] = 5 * marked
    seconds = np.arange(800) / 8000
    audio = np.sin(2 * np.pi * np.where(high, 900, 400)[:, None] * seconds).astype(np.float32)
    observation = {"audio": audio, "symbols": symbols}
    torso = make_torso("zorro", {name: SPEC[name] for name in observation}, **SMALL)
    network = hk.without_apply_rng(hk.transform(lambda o: hk.Linear(1)(torso(o))[..., 0]))
    params = jax.jit(network.init)(jax.random.key(0), observation)
    optimiser = optax.adam(3e-3)

    def loss(params):
        return optax.losses.sigmoid_binary_cross_entropy(
            network.apply(params, observation), marked == high
        ).mean()

    @jax.jit
    def train(params):
        def update(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(update, (params, optimiser.init(params)), None, 150)[1]

    losses = train(params)
    assert losses[0] > 0.6 and losses[-1] < 0.1


def test_an_agent_acts_on_the_beeping_box_with_a_sensor_missing() -> None:
    world = envs.DropSensors(envs.make("beeping_box", size=6, boxes=2), {"audio": 1.0})
    torso = make_torso("zorro", world.observation_spec(), **SMALL, contrast=0.1)
    agent = make_agent_for("ppo", world.observation_spec(), world.action_spec(), torso)
    state, (_, timestep) = agent.init(jax.random.key(0)), world.reset(jax.random.key(1), np.int32(0))
    action, _, _ = agent.act(state.params, (), jax.random.key(2), timestep, "explore")
    assert action.shape == () and 0 <= int(action) < 4


@pytest.mark.parametrize(
    ("spec", "settings", "match"),
    [
        ({"direction": SPEC["direction"]}, {}, "reads one or more of image, symbols, audio, text.*got direction"),
        ({**SPEC, "labels": SPEC["text"]}, {}, "no labels and no graph.*--reads"),
        ({"audio": specs.Array((8, 100), np.float32)}, {}, "audio must have 1 axes"),
        ({"image": specs.Array((17, 24, 3), np.uint8)}, {}, "cut into patches of 4 to 16 pixels"),
        ({"text": specs.Array((5,), np.int32)}, {}, "text must be bounded"),
        ({"symbols": SPEC["symbols"]}, {"contrast": -1.0}, "contrast is at least 0.*got -1.0"),
        ({"symbols": SPEC["symbols"]}, {"contrast": 0.5}, "needs two, got symbols alone"),
        ({"symbols": SPEC["symbols"]}, {"width": 30, "heads": 4}, "must divide"),
    ],
)  # fmt: skip
def test_what_it_cannot_read_is_refused(spec, settings, match) -> None:
    with pytest.raises(ValueError, match=match):
        make_torso("zorro", spec, **settings)
