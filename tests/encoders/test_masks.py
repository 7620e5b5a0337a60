"""Zorro's masks: tables by hand, and what two wrong readings of the rule do."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import (
    FUSION,
    GLOBAL,
    Transformer,
    TransformerConfig,
    allow,
    readout_allow,
)
from limbeck.encoders.mask_figure import draw_masks
from limbeck.encoders.masks import present_columns, with_columns


A, V, T = 1, 2, 3
BOTH = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


def table(text):
    return np.array([[c == "1" for c in row] for row in text.split()])


@BOTH
def test_two_modalities(xp):
    types = xp.array([A, A, FUSION, V])
    mask = allow(types, types)
    assert isinstance(mask, type(types)) and mask.dtype == bool
    np.testing.assert_array_equal(mask, table("1100 1100 1111 0001"))
    np.testing.assert_array_equal(
        readout_allow(xp.array([A, FUSION, V, GLOBAL]), types), table("1100 0010 0001 1111")
    )


@BOTH
def test_three_modalities(xp):
    types = xp.array([FUSION, FUSION, A, V, V, T])
    np.testing.assert_array_equal(allow(types, types), table("111111 111111 001000 000110 000110 000001"))
    np.testing.assert_array_equal(allow(xp.array([V, FUSION]), types[2:]), table("0110 1111"))
    np.testing.assert_array_equal(
        readout_allow(xp.array([T, V, A, FUSION, GLOBAL]), types),
        table("000001 000110 001000 110000 111111"),
    )


@BOTH
def test_presence_is_columns(xp):
    types = np.array([FUSION, A, V, V, T])
    present = xp.array([[True, False, True], [False, True, False]])
    columns = present_columns(present, types)
    np.testing.assert_array_equal(columns, table("11001 10110"))
    mask = with_columns(allow(types, types), columns)
    np.testing.assert_array_equal(mask[0], table("11001 01000 00000 00000 00001"))
    np.testing.assert_array_equal(mask[1], table("10110 00000 00110 00110 00000"))
    np.testing.assert_array_equal(with_columns(None, columns)[:, 0], columns)
    assert with_columns(None, None) is None


def test_the_picture_shows_the_masks():
    figure = draw_masks({"audio": 2, "fusion": 1, "video": 1})
    trunk, readouts = (axes.collections[0].get_array().reshape(-1, 4) for axes in figure.axes)
    np.testing.assert_array_equal(trunk, table("1100 1100 1111 0001"))
    np.testing.assert_array_equal(readouts, table("1100 0010 0001 1111"))


# What the paper's sentence says with the roles of query and key exchanged, and what an early copy of it did.
def literal(query, key):
    return allow(key, query).swapaxes(-1, -2)


def fusion_read_by_all(query, key):
    return allow(query, key) | literal(query, key)


@functools.cache
def network():
    """A Transformer of three layers with random parameters: what each token reads of each, `[5, 5]`, by the mask."""
    config = TransformerConfig(3, 8, 2, feed_forward=16, positions="none", causal=False)
    net = hk.without_apply_rng(hk.transform(lambda x, mask: Transformer(config, "t")(x, mask=mask)))
    x = jax.random.normal(jax.random.key(0), (5, 8))
    params = jax.jit(net.init)(jax.random.key(1), x, jnp.ones((5, 5), bool))
    return jax.jit(lambda mask: jnp.abs(jax.jacobian(net.apply, 1)(params, x, mask)).sum((1, 3)))


def sound(rule):
    """(modalities are pure, fusion reads both)."""
    types = np.array([A, A, FUSION, V, V])
    read = np.asarray(network()(jnp.asarray(rule(types, types))))
    pure = not read[types == A][:, types == V].any() and not read[types == V][:, types == A].any()
    return bool(pure), bool(read[types == FUSION].all())


def test_the_two_wrong_readings_are_caught():
    assert sound(allow) == (True, True)
    assert sound(literal) == (True, False)
    assert sound(fusion_read_by_all) == (False, True)
