"""Zorro with labels: from new parameters and from pre-trained ones."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import (
    RECIPES,
    Picture,
    TrainConfig,
    ViTTrunk,
    ZorroConfig,
    checkpoints,
    fixed,
    load_params,
    pretrain,
    shuffled,
    zorro_contrastive,
    zorro_supervised,
)
from limbeck.encoders.training import initial_state
from limbeck.encoders.zorro_supervised import film_recipe


MODALITIES = {"left": Picture(8, 8, patch=4), "right": Picture(8, 8, patch=4)}
CONFIG = ZorroConfig(MODALITIES, ViTTrunk(1, 16, 2, 32), fusion_tokens=2, readout_heads=2)
INPUTS = {name: jax.ShapeDtypeStruct((8, 8, 3), jnp.float32) for name in MODALITIES}
VIEWS = {name: fixed(lambda example, name=name: example[name]) for name in MODALITIES}
TRAINING = TrainConfig(steps=100, learning_rate=3e-3, warmup_steps=10, steps_per_call=20, log_every=100)
one_device = functools.partial(pretrain, devices=jax.local_devices()[:1])


def small(**changes):
    return zorro_supervised.recipe("small", CONFIG, INPUTS, VIEWS, 4, TRAINING, 32, **changes)


def examples(count, seed):
    """Four classes of colours, each told by either picture alone."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, count)
    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)[classes]
    pictures = {
        name: (colours[:, None, None] + 0.5 * rng.normal(size=(count, 8, 8, 3))).astype(np.float32)
        for name in MODALITIES
    }
    return pictures | {"labels": np.eye(4, dtype=np.float32)[classes]}, classes


def right(recipe, state, seen, classes):
    outputs, _ = recipe.transformed.apply(state.params, state.network_state, None, seen, False)
    return float(np.mean(np.argmax(outputs["logits"], axis=-1) == classes))


def test_it_learns_classes_and_answers_with_one_sense() -> None:
    recipe = small(missing=0.3)
    state = one_device(recipe, shuffled(examples(256, 0)[0], 32))
    new, classes = examples(128, 1)
    for senses in (("left", "right"), ("left",), ("right",)):
        assert right(recipe, state, {name: new[name] for name in senses}, classes) > 0.9, senses


def test_what_is_missing_is_drawn_and_never_all() -> None:
    senses = {name: jnp.zeros((4000, 1)) for name in ("a", "b")}
    drawn = zorro_supervised._drawn(jax.random.key(0), senses, 0.4)
    a, b = (np.asarray(drawn[name]) for name in ("a", "b"))
    assert (a | b).all()
    # Lost with 0.4 unless it is the one that is kept, one of two.
    assert abs((~a).mean() - 0.2) < 0.03 and abs((~b).mean() - 0.2) < 0.03
    # Nothing is lost outside training, and there no key is needed.
    recipe = small(missing=0.4)
    params, network_state = recipe.init(jax.random.key(0))
    seen = examples(8, 0)[0]
    out, _ = recipe.transformed.apply(params, network_state, None, seen, False)
    whole, _ = small().transformed.apply(params, network_state, None, seen, True)
    np.testing.assert_array_equal(out["logits"], whole["logits"])
    lossy, _ = recipe.transformed.apply(params, network_state, jax.random.key(1), seen, True)
    assert not np.allclose(out["logits"], lossy["logits"])


def test_losses_equal_those_by_hand() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[[0, 3, 1, 1, 2]]
    outputs = {"logits": logits, "labels": labels}
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(chances[labels == 1]).mean()
    assert small().objective(outputs) == pytest.approx(expected, rel=1e-5)
    yes = 1 / (1 + np.exp(-logits))
    expected = -np.where(labels == 1, np.log(yes), np.log(1 - yes)).mean()
    assert small(task="tags").objective(outputs) == pytest.approx(expected, rel=1e-5)


def test_fine_tuning_begins_with_the_pre_trained_network(tmp_path: pathlib.Path) -> None:
    learned = zorro_contrastive.recipe("pairs", CONFIG, INPUTS, VIEWS, (16, 8), TRAINING, 32)
    state = initial_state(learned.init(jax.random.key(3))[0], TRAINING, {})
    checkpoints.save(tmp_path, 7, state, {}, 1)
    params, step = load_params(tmp_path)
    assert step == 7
    still = dataclasses.replace(TRAINING, steps=1, learning_rate=0.0, warmup_steps=0, steps_per_call=1)
    recipe = dataclasses.replace(small(), training=still)
    batches = shuffled(examples(32, 0)[0], 32)
    tuned = one_device(recipe, batches, initial=params).params
    new = one_device(recipe, batches).params
    shared = [module for module in tuned if module in params]
    assert shared == [module for module in tuned if not module.startswith("classifier")]
    for module in tuned:
        kept = params if module in params else new
        for name, value in tuned[module].items():
            np.testing.assert_array_equal(value, kept[module][name])
    assert not np.array_equal(tuned["zorro"]["queries"], new["zorro"]["queries"])


def test_refusals() -> None:
    batches = shuffled(examples(32, 0)[0], 32)
    with pytest.raises(
        ValueError, match=r"None of the modules to begin with is one of small's: got \['other'\]"
    ):
        one_device(small(), batches, initial={"other": {"w": np.zeros(3)}})
    with pytest.raises(ValueError, match="zorro to begin with has the shapes .*same configuration"):
        one_device(small(), batches, initial={"zorro": {"queries": np.zeros((2, 2))}})
    with pytest.raises(ValueError, match="views .* must be the modalities"):
        zorro_supervised.recipe("x", CONFIG, INPUTS, {"left": VIEWS["left"]}, 4, TRAINING, 32)
    taken = ZorroConfig({"labels": MODALITIES["left"]}, CONFIG.trunk, readout_heads=2)
    with pytest.raises(ValueError, match="none of them 'labels'"):
        zorro_supervised.recipe("x", taken, {}, {"labels": VIEWS["left"]}, 4, TRAINING, 32)
    for changes in ({"task": "words"}, {"missing": 1.0}):
        with pytest.raises(ValueError, match="task is 'classes', of two or more, or 'tags'"):
            small(**changes)
    with pytest.raises(ValueError, match="of two or more"):
        zorro_supervised.recipe("x", CONFIG, INPUTS, VIEWS, 1, TRAINING, 32)
    with pytest.raises(ValueError, match="A film has the modalities"):
        film_recipe("x", CONFIG, 4, TRAINING, 32)


def test_films_have_labels_of_their_public_sets() -> None:
    assert RECIPES["zorro_audioset"].inputs["labels"].shape == (527,)
    assert RECIPES["zorro_audioset"].inputs.keys() == RECIPES["zorro"].inputs.keys() | {"labels"}
