"""Views: keys by name, steps with keys of their own, windows that are where they should be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import LogMel, apply_views, compose, fixed, resize, window
from limbeck.encoders.augmentations import time_mask


EXAMPLE = {"sound": np.arange(100, dtype=np.float32), "video": np.arange(40, dtype=np.float32)[:, None]}
KEYS = jax.random.split(jax.random.key(0), 300)


def drawn(view, example=EXAMPLE):
    return np.asarray(jax.vmap(lambda key: view(key, example))(KEYS))


def test_another_view_changes_nothing():
    crop = window("sound", 10)
    few = apply_views(jax.random.key(3), EXAMPLE, {"a": crop, "b": crop})
    more = apply_views(jax.random.key(3), EXAMPLE, {"c": crop, "b": crop, "a": crop})
    for name, view in few.items():
        np.testing.assert_array_equal(view, more[name])
    starts = {name: float(view[0]) for name, view in more.items()}
    assert len(set(starts.values())) == 3
    other = apply_views(jax.random.key(4), EXAMPLE, {"a": crop})
    assert float(other["a"][0]) != starts["a"]


def test_windows_begin_anywhere_and_stay_inside():
    starts = drawn(window("sound", 90))[:, 0]
    assert set(starts) == set(range(11))
    strided = drawn(window("video", 4, step=5))[:, :, 0]
    assert (np.diff(strided, axis=1) == 5).all()
    assert set(strided[:, 0]) == set(range(40 - 15))


def test_a_broad_window_begins_where_the_narrow_one_does():
    # 4 frames a second beside 10 samples a second.
    example = {**EXAMPLE, "begin": jnp.float32(2.5)}
    views = {
        "narrow": window("video", 4, rate=4, begin="begin"),
        "broad": window("sound", 50, rate=10, begin="begin"),
        "late": window("sound", 90, rate=10, begin="begin"),
    }
    seen = apply_views(jax.random.key(0), example, views)
    assert (float(seen["narrow"][0, 0]), float(seen["broad"][0]), float(seen["late"][0])) == (10, 25, 10)


def test_steps_run_in_order_and_have_keys_of_their_own():
    add = compose(fixed(lambda x: x + 1), fixed(lambda x: x * 10))
    assert add(jax.random.key(0), 2) == 30
    noise = compose(fixed(lambda x: []), *[lambda key, x: [*x, float(jax.random.normal(key))]] * 3)
    numbers = noise(jax.random.key(0), None)
    assert len(set(numbers)) == 3
    assert numbers == noise(jax.random.key(0), None) != noise(jax.random.key(1), None)


def test_a_view_of_sound_in_one_compiled_call():
    mel = LogMel(8000, 200, 80, mels=20, low=60.0, high=3800.0)
    view = compose(window("sound", 800), fixed(mel), functools.partial(time_mask, width=3))
    waves = np.random.default_rng(0).normal(size=(5, 1000)).astype(np.float32)
    batch = jax.jit(jax.vmap(functools.partial(apply_views, views={"mel": view})))(KEYS[:5], {"sound": waves})
    assert batch["mel"].shape == (5, 10, 20)
    one = apply_views(KEYS[2], {"sound": waves[2]}, {"mel": view})
    np.testing.assert_allclose(batch["mel"][2], one["mel"], atol=1e-3)


def test_resize_halves_by_means():
    x = np.random.default_rng(0).uniform(size=(2, 4, 6, 3)).astype(np.float32)
    small = resize(2, 3)(jax.random.key(0), x)
    assert small.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(np.mean(small), np.mean(x), atol=0.03)
    np.testing.assert_allclose(resize(4, 6)(jax.random.key(0), x), x, atol=1e-6)


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs 101 of 'sound', which has 100"):
        window("sound", 101)(KEYS[0], EXAMPLE)
    with pytest.raises(ValueError, match="at least 1, not 0 and 1"):
        window("sound", 0)
