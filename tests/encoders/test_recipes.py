"""Recipes: every row of the table traces, the page's example runs, and what is trained retrieves."""

import dataclasses
import pathlib
import re

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import (
    NETWORKS,
    RECIPES,
    Mlp,
    Recipe,
    TrainConfig,
    both_ways,
    cosines,
    fixed,
    load_params,
    nt_xent,
    pretrain,
    shuffled,
)


def sounds(count, seconds, classes=12, rate=16_000, seed=0):
    """Pairs of two harmonics that a class has to itself, at any phase, under noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    t = np.arange(int(seconds * rate)) / rate
    low = 200 * 1.25 ** labels[:, None]
    phases = rng.uniform(0, 2 * np.pi, size=(2, count, 1))
    waves = np.sin(2 * np.pi * low * t + phases[0]) + np.sin(2 * np.pi * 2.5 * low * t + phases[1])
    return (0.2 * waves + 0.1 * rng.normal(size=waves.shape)).astype(np.float32), labels


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_gives_a_loss_of_its_inputs(name):
    recipe = RECIPES[name]
    params, state = jax.eval_shape(recipe.init, jax.random.key(0))
    batch = {
        entry: jax.ShapeDtypeStruct((4, *spec.shape), spec.dtype) for entry, spec in recipe.inputs.items()
    }
    loss, metrics, after = jax.eval_shape(recipe.loss, params, state, jax.random.key(0), batch)
    assert loss.shape == () and loss.dtype == jnp.float32 and metrics == {}
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert recipe.name == name and recipe.source


def test_parameters_are_counted_exactly():
    # ViT-B's 12 blocks, 85,054,464, and its last norm.
    assert NETWORKS["transformer"].count("base") == 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    assert NETWORKS["spectrogram_transformer"].count("base") == 85_056_000 + 257 * 768 + 90 * 768


def test_the_tiny_row_learns_to_know_a_sound_from_two_seconds_of_it():
    recipe = RECIPES["audio_simclr_tiny"]
    waves, _ = sounds(96, 2, classes=48)
    state = pretrain(recipe, shuffled({"waveform": waves}, recipe.batch), devices=jax.local_devices()[:1])
    fresh, labels = sounds(48, 2, classes=48, seed=1)
    views = jax.jit(dataclasses.replace(recipe, mixed=()).seen)(jax.random.key(5), {"waveform": fresh})

    outputs, _ = recipe.transformed.apply(state.params, state.network_state, None, views, False)
    scores = cosines(*(outputs[view]["projection"] for view in ("first", "second")))
    found = both_ways(scores, labels, labels)[0]
    assert found.chance_recall[1] == pytest.approx(1 / 48)
    # New parameters reach 0.6.
    assert found.recall[1] > 0.9


def page_example():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)[:1]
    return block


def test_the_pages_example_runs_and_retrieval_rises_from_chance():
    waves, _ = sounds(256, 0.3, rate=8000)
    scope = {"waves": waves}
    exec(compile(page_example(), "docs/encoders.md", "exec"), scope)
    assert scope["found"].chance_recall[1] == 1 / 256
    # Twelve classes, 21 sounds each: to know the class alone is a recall of 1/21.
    assert scope["found"].recall[1] > 0.3
    recipe, state = scope["recipe"], scope["state"]
    new = jax.jit(recipe.seen)(jax.random.key(0), {"waveform": sounds(256, 0.3, rate=8000, seed=3)[0]})

    def recall(params, network_state):
        outputs, _ = recipe.transformed.apply(params, network_state, None, new, False)
        return both_ways(cosines(outputs["early"], outputs["late"]))[0].recall[1]

    trained, untrained = recall(state.params, state.network_state), recall(*recipe.init(jax.random.key(9)))
    assert trained > 1.3 * untrained, (trained, untrained)


def toy(**changes):
    def network(views, is_training):
        head = Mlp((8, 4), norm="batch", name="head")
        return {name: head(x, is_training) for name, x in views.items()}

    settings = {
        "name": "toy",
        "source": "none",
        "inputs": {"x": jax.ShapeDtypeStruct((3,), jnp.float32)},
        "views": {
            "a": fixed(lambda example: example["x"]),
            "b": lambda key, example: example["x"] + 0.1 * jax.random.normal(key, (3,)),
        },
        "network": network,
        "objective": lambda outputs: nt_xent(outputs["a"], outputs["b"]),
        "training": TrainConfig(
            steps=20,
            learning_rate=0.1,
            optimiser="lars",
            steps_per_call=5,
            checkpoint_every=10,
            clip_norm=None,
        ),
        "batch": 16,
    }
    return Recipe(**{**settings, **changes})


def test_a_recipe_with_batch_norm_and_lars_resumes_to_the_same_bits(tmp_path):
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(64, 3)).astype(np.float32)
    recipe, batches = toy(), shuffled({"x": x}, 16)
    one = jax.local_devices()[:1]
    whole = pretrain(recipe, batches, devices=one)

    def stop(step, state, metrics):
        if step == 15:
            raise InterruptedError

    frequent = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, log_every=5))
    with pytest.raises(InterruptedError):
        pretrain(frequent, batches, tmp_path, [stop], one)
    assert load_params(tmp_path)[1] == 10
    resumed = pretrain(recipe, batches, tmp_path, devices=one)
    assert hk.data_structures.tree_size(whole.network_state) > 0
    for a, b in zip(jax.tree.leaves(whole[:3] + whole[4:]), jax.tree.leaves(resumed[:3] + resumed[4:])):
        np.testing.assert_array_equal(a, b)


def test_mixing_is_of_the_named_views_and_with_others():
    batch = {"x": np.eye(3, dtype=np.float32)}
    plain, mixed = toy(), toy(mixed=("a",))
    key = jax.random.key(0)
    one, two = plain.seen(key, batch), mixed.seen(key, batch)
    np.testing.assert_array_equal(one["b"], two["b"])
    np.testing.assert_array_equal(one["a"], np.eye(3))
    assert ((np.asarray(two["a"]) > 0).sum(axis=1) == 2).all()


def test_shuffled_batches_are_permutations_and_functions_of_their_number():
    batches = shuffled({"x": np.arange(10), "y": np.arange(10) * 2}, 3, seed=1)
    for passed in range(3):
        seen = np.concatenate([batches(3 * passed + i)["x"] for i in range(3)])
        assert len(set(seen)) == 9
    np.testing.assert_array_equal(batches(4)["y"], 2 * batches(4)["x"])
    np.testing.assert_array_equal(shuffled({"x": np.arange(10)}, 3, seed=1)(7)["x"], batches(7)["x"])
    assert not np.array_equal(batches(0)["x"], batches(3)["x"])
    with pytest.raises(ValueError, match="A batch of 11 cannot be drawn from 10"):
        shuffled({"x": np.arange(10)}, 11)
    with pytest.raises(ValueError, match="of one N"):
        shuffled({"x": np.arange(10), "y": np.arange(9)}, 2)


def test_bad_recipes_are_refused():
    with pytest.raises(ValueError, match=r"mixes \['c'\], which are no views; there are \['a', 'b'\]"):
        toy(mixed=("c",))
    with pytest.raises(ValueError, match="views are made from float32"):
        toy(training=TrainConfig(precision="bfloat16"))
