"""Attention against a loop in numpy, leaks by gradients, memory by the compiler's count."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import attention
from limbeck.encoders.attention import (
    _band_block,
    _banded,
    _banded_in_turn,
    _blocked,
    _dense,
    attend_to_cache,
)


def draw(seed, queries, keys, heads, key_heads, size, lead=()):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(*lead, *shape)).astype(np.float32)

    return normal(queries, heads, size), normal(keys, key_heads, size), normal(keys, key_heads, size)


def loop(query, key, value, allowed):
    """float64, one query and head after the other; `allowed` `[T, S]`."""
    length, heads, size = query.shape
    shared = heads // key.shape[1]
    out = np.zeros((length, heads, size))
    for t in range(length):
        seen = np.flatnonzero(allowed[t])
        for h in range(heads):
            if len(seen):
                scores = np.array([float(query[t, h] @ key[s, h // shared]) for s in seen]) / math.sqrt(size)
                weights = np.exp(scores - scores.max())
                out[t, h] = (weights / weights.sum()) @ value[seen, h // shared].astype(np.float64)
    return out


def band(length, window=None):
    t = np.arange(length)
    behind = t[:, None] - t[None, :]
    return (behind >= 0) & (behind < (window or length))


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("window", [None, 1, 3, 7, 50])
def test_causal_attention_is_the_loop_s(heads, key_heads, window):
    query, key, value = draw(0, 19, 19, heads, key_heads, 6)
    out = attention(query, key, value, causal=True, window=window)
    np.testing.assert_allclose(out, loop(query, key, value, band(19, window)), atol=2e-6)


def test_masks_and_empty_rows():
    query, key, value = draw(1, 5, 9, 4, 2, 6)
    mask = np.random.default_rng(2).random((5, 9)) < 0.4
    mask[3] = False
    out = attention(query, key, value, mask=jnp.asarray(mask))
    np.testing.assert_allclose(out, loop(query, key, value, mask), atol=2e-6)
    np.testing.assert_array_equal(out[3], 0.0)
    gradient = jax.grad(lambda q: jnp.sum(attention(q, key, value, mask=jnp.asarray(mask)) ** 2))(query)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[3], 0.0)


def test_a_mask_joins_the_causal_band_and_batches_broadcast():
    query, key, value = draw(3, 11, 11, 2, 2, 4, lead=(2, 3))
    mask = np.random.default_rng(4).random((3, 11, 11)) < 0.5
    out = attention(query, key, value, mask=jnp.asarray(mask), causal=True, window=5)
    for i in range(2):
        for j in range(3):
            expected = loop(query[i, j], key[i, j], value[i, j], mask[j] & band(11, 5))
            np.testing.assert_allclose(out[i, j], expected, atol=2e-6)


def test_the_cache_s_attention_is_the_loop_s():
    query, key, value = draw(5, 1, 8, 4, 2, 6)
    valid = np.array([1, 0, 0, 1, 1, 0, 1, 0], bool)
    out = attend_to_cache(query[0], key, value, jnp.asarray(valid))
    np.testing.assert_allclose(out, loop(query, key, value, valid[None])[0], atol=2e-6)


def both(function, arrays):
    def scalar(*arrays):
        out = function(*arrays)
        return jnp.sum(out * jnp.cos(jnp.arange(out.size).reshape(out.shape))), out

    (_, out), gradients = jax.jit(jax.value_and_grad(scalar, argnums=(0, 1, 2), has_aux=True))(*arrays)
    return out, gradients


def assert_same(function, other, arrays, atol=3e-5):
    out, gradients = both(function, arrays)
    expected, expected_gradients = both(other, arrays)
    np.testing.assert_allclose(out, expected, atol=atol)
    for a, b in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=atol * 5)


@pytest.mark.parametrize("form", [_banded, _banded_in_turn])
@pytest.mark.parametrize(("window", "blocks"), [(1, 3), (17, 5), (40, 2), (130, 6)])
def test_bands_are_dense_attention(form, window, blocks):
    arrays = draw(window, *[_band_block(window) * blocks] * 2, 4, 2, 4, lead=(2,))
    assert_same(
        lambda q, k, v: form(q, k, v, window),
        lambda q, k, v: _dense(q, k, v, None, True, window, 0.0, None),
        arrays,
    )


@pytest.mark.parametrize(("length", "window"), [(61, 5), (101, 100), (33, 32)])
def test_odd_lengths_under_a_window(length, window):
    arrays = draw(length, length, length, 2, 1, 4)
    assert_same(
        lambda q, k, v: attention(q, k, v, causal=True, window=window),
        lambda q, k, v: _dense(q, k, v, None, True, window, 0.0, None),
        arrays,
    )


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "window", "masked"),
    [
        (300, 300, True, None, False),
        (530, 530, True, 70, False),
        (257, 257, True, 300, True),
        (300, 517, False, None, False),
        (300, 517, False, None, True),
    ],
)
def test_the_online_softmax_is_dense_attention(queries, keys, causal, window, masked):
    arrays = draw(queries, queries, keys, 4, 2, 4, lead=(2,))
    mask = None
    if masked:
        mask = np.random.default_rng(6).random((2, queries, keys)) < 0.3
        mask[:, 7] = False
        mask = jnp.asarray(mask)
    assert_same(
        lambda q, k, v: _blocked(q, k, v, mask, causal, window),
        lambda q, k, v: _dense(q, k, v, mask, causal, window, 0.0, None),
        arrays,
    )
    if masked:
        np.testing.assert_array_equal(_blocked(*arrays, mask, causal, window)[:, 7], 0.0)


def test_large_scores_stay_finite():
    query, key, value = (x * 60 for x in draw(7, 300, 300, 1, 1, 4))
    expected = loop(query, key, value, band(300))
    for out in (
        _blocked(query, key, value, None, True, None),
        _dense(query, key, value, None, True, None, 0.0, None),
    ):
        np.testing.assert_allclose(out, expected, atol=0.05)


@pytest.mark.parametrize(
    ("length", "window", "masked", "t"),
    [
        (40, None, False, 20),
        (100, 9, False, 70),
        (1100, None, False, 700),
        (4200, 60, False, 3000),
        (30, 8, True, 20),
    ],
)
def test_nothing_leaks(length, window, masked, t):
    query, key, value = draw(8, length, length, 2, 1, 4)
    allowed = band(length, window)
    mask = None
    if masked:
        chosen = np.random.default_rng(9).random((length, length)) < 0.6
        allowed, mask = allowed & chosen, jnp.asarray(chosen)

    @jax.jit
    @jax.grad
    def gradient(x):
        shifted = (jnp.asarray(y) + x[:, None, None] for y in (key, value))
        return jnp.sum(attention(query, *shifted, mask=mask, causal=True, window=window)[t] ** 2)

    reached = np.asarray(gradient(jnp.zeros(length)))
    np.testing.assert_array_equal(reached != 0, allowed[t])


@pytest.mark.parametrize(("window", "first"), [(None, 2048), (96, 4224)])
def test_peak_memory_grows_linearly(window, first):
    def temporary(length):
        shape = jax.ShapeDtypeStruct((length, 1, 8), jnp.float32)
        gradient = jax.grad(
            lambda q, k, v: attention(q, k, v, causal=True, window=window).sum(), argnums=(0, 1, 2)
        )
        return jax.jit(gradient).lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes

    sizes = [temporary(first * factor) for factor in (1, 2, 4)]
    assert sizes[1] < 2.2 * sizes[0] and sizes[2] < 2.2 * sizes[1], sizes
    # One float32 table of scores alone would be 4 T^2 bytes.
    assert sizes[2] < 4 * (4 * first) ** 2 / 20, sizes


def test_dropout_drops_its_share_and_keeps_the_mean():
    length, keys, rate = 400, 50, 0.3
    query, key = np.zeros((length, 1, keys), np.float32), np.zeros((keys, 1, keys), np.float32)
    value = np.eye(keys, dtype=np.float32)[:, None]
    # Uniform weights 1 / S into one-hot values: the output is the weights themselves.
    out = np.asarray(attention(query, key, value, dropout=rate, dropout_key=jax.random.key(0)))
    kept = out > 0
    np.testing.assert_allclose(out[kept], 1 / keys / (1 - rate), rtol=1e-5)
    # 20,000 weights: five standard errors are 0.016.
    assert abs(kept.mean() - (1 - rate)) < 0.017
    again = attention(query, key, value, dropout=rate, dropout_key=jax.random.key(0))
    np.testing.assert_array_equal(out, again)
    assert (out != attention(query, key, value, dropout=rate, dropout_key=jax.random.key(1))).any()


def test_bfloat16_in_bfloat16_out():
    query, key, value = (jnp.asarray(x, jnp.bfloat16) for x in draw(10, 20, 20, 2, 2, 8))
    out = attention(query, key, value, causal=True)
    assert out.dtype == jnp.bfloat16
    expected = loop(*(np.asarray(x, np.float32) for x in (query, key, value)), band(20))
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=0.03)


@pytest.mark.parametrize(
    ("shapes", "options", "words"),
    [
        (((4, 2, 8), (4, 2, 8), (5, 2, 8)), {}, "one shape"),
        (((4, 3, 8), (4, 2, 8), (4, 2, 8)), {}, "divide"),
        (((4, 2, 8), (4, 2, 6), (4, 2, 6)), {}, "head sizes"),
        (((4, 2, 8), (5, 2, 8), (5, 2, 8)), {"causal": True}, "as many queries"),
        (((4, 2, 8), (4, 2, 8), (4, 2, 8)), {"window": 3}, "window"),
        (((4, 2, 8), (4, 2, 8), (4, 2, 8)), {"window": 0, "causal": True}, "window"),
        (((4, 2, 8), (4, 2, 8), (4, 2, 8)), {"dropout": 0.1}, "key"),
    ],
)
def test_what_does_not_go_together_is_refused(shapes, options, words):
    with pytest.raises(ValueError, match=words):
        attention(*(jnp.zeros(shape) for shape in shapes), **options)
