"""Rotary positions: a hand computation and the property that they are for."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import rotary


def test_one_axis_by_hand():
    x = np.array([1.0, 2.0, 3.0, 4.0], np.float32)[None, None]
    out = np.asarray(rotary(x, jnp.array([5])))[0, 0]
    # Four features: pairs (0, 2) and (1, 3), which turn by 1 and by 10000^(-1/2) = 0.01 a position.
    fast, slow = 5.0, 0.05
    expected = [
        1 * math.cos(fast) - 3 * math.sin(fast),
        2 * math.cos(slow) - 4 * math.sin(slow),
        3 * math.cos(fast) + 1 * math.sin(fast),
        4 * math.cos(slow) + 2 * math.sin(slow),
    ]
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_two_axes_by_hand():
    x = np.array([1.0, 2.0, 3.0, 4.0], np.float32)[None, None]
    out = np.asarray(rotary(x, jnp.array([[2, 7]]), axes=2))[0, 0]
    expected = [
        1 * math.cos(2) - 2 * math.sin(2),
        2 * math.cos(2) + 1 * math.sin(2),
        3 * math.cos(7) - 4 * math.sin(7),
        4 * math.cos(7) + 3 * math.sin(7),
    ]
    np.testing.assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize("axes", [1, 2])
def test_scores_depend_on_differences_only(axes):
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 6, 2, 8)).astype(np.float32)
    positions = rng.integers(0, 30, size=(6, axes))

    def scores(offset):
        at = jnp.asarray(positions + offset)
        at = at[:, 0] if axes == 1 else at
        return np.einsum("thd,shd->hts", rotary(query, at, axes), rotary(key, at, axes))

    shift = np.array([40, 11])[:axes]
    np.testing.assert_allclose(scores(0), scores(shift), atol=1e-4)
    # And they do depend on them.
    plain = np.einsum("thd,shd->hts", query, key)
    assert np.abs(scores(0) - plain).max() > 0.5


def test_position_zero_and_norms_stay():
    x = np.random.default_rng(1).normal(size=(2, 5, 3, 12)).astype(np.float32)
    np.testing.assert_array_equal(rotary(x, jnp.zeros(5, jnp.int32)), x)
    turned = rotary(x, jnp.arange(5))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)
    assert rotary(x.astype(jnp.bfloat16), jnp.arange(5)).dtype == jnp.bfloat16


def test_heads_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        rotary(jnp.zeros((1, 1, 6)), jnp.zeros((1, 2), jnp.int32), axes=2)
