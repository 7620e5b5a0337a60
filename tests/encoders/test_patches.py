"""Modalities: shapes, patches against a convolution, positions, and what is refused."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import Picture, Spectrogram, Symbols, Tokens, Video


MODALITIES = {
    "picture": (Picture(8, 12, 3, (4, 6)), (2, 2)),
    "square": (Picture(8, 12, 1, 4), (2, 3)),
    "video": (Video(4, 8, 6, 3, (2, 4, 3)), (2, 2, 2)),
    "spectrogram": (Spectrogram(8, 6, (4, 2)), (2, 3)),
    "tokens": (Tokens(5, 11), (5,)),
    "symbols": (Symbols(3, 2, (11, 6, 3)), (3, 2)),
}


def example(modality, batch=2):
    key = jax.random.key(3)
    shape = (batch, *modality.shape)
    if isinstance(modality, Tokens):
        return jax.random.randint(key, shape, 0, modality.vocabulary)
    if isinstance(modality, Symbols):
        return jax.random.randint(key, shape, 0, jnp.array(modality.sizes)).astype(jnp.uint8)
    return jax.random.normal(key, shape)


def network(modality, width=7):
    net = hk.without_apply_rng(hk.transform(lambda x: modality(x, width, "m")))
    return hk.Transformed(jax.jit(net.init), jax.jit(net.apply))


@pytest.mark.parametrize("name", MODALITIES)
def test_tokens(name):
    modality, grid = MODALITIES[name]
    assert modality.grid == grid and modality.num_tokens == np.prod(grid)
    net, x = network(modality), example(modality)
    params = net.init(jax.random.key(0), x)
    tokens = net.apply(params, x)
    assert tokens.shape == (2, modality.num_tokens, 7) and tokens.dtype == jnp.float32
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    assert net.apply(half, x).dtype == jnp.float32
    # A token is of its own place alone: changing the last entry of the input changes the last token alone.
    last = (slice(None), *[-1] * len(modality.shape))
    other = x.at[last].set((x[last] + 1) % 3)
    moved = np.abs(net.apply(params, other) - tokens).max((0, 2))
    assert not moved[:-1].any()
    assert moved[-1] > 0


def test_patches_are_a_convolution():
    modality = Video(4, 8, 6, 3, (2, 4, 3), positions="none")
    net, x = network(modality), example(modality)
    params = net.init(jax.random.key(0), x)
    linear = params["m_patches"]
    kernel = linear["w"].reshape(2, 4, 3, 3, 7)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 4, 3), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    np.testing.assert_allclose(net.apply(params, x), expected.reshape(2, -1, 7), atol=1e-5)


def test_bytes_are_scaled():
    net = network(Picture(4, 4, 3, 4))
    x = jax.random.randint(jax.random.key(1), (2, 4, 4, 3), 0, 256).astype(jnp.uint8)
    params = net.init(jax.random.key(0), x)
    np.testing.assert_allclose(
        net.apply(params, x), net.apply(params, (x.astype(jnp.float32) - 127.5) / 127.5), atol=1e-5
    )


def test_positions():
    """Of equal inputs the tokens differ by their positions; factorised ones add up over axes."""
    modality = Video(4, 4, 6, 1, (2, 2, 2), positions="factorised")
    net, x = network(modality), jnp.ones((1, *modality.shape))
    params = net.init(jax.random.key(0), x)
    tables = [params["~"][f"m_positions_{axis}"] for axis in range(3)]
    assert [t.shape for t in tables] == [(2, 7), (2, 7), (3, 7)]
    bare = network(Video(4, 4, 6, 1, (2, 2, 2), positions="none")).apply(params, x)
    places = (net.apply(params, x) - bare).reshape(2, 2, 3, 7)
    for t, i, j in np.ndindex(2, 2, 3):
        np.testing.assert_allclose(places[t, i, j], tables[0][t] + tables[1][i] + tables[2][j], atol=1e-6)
    learned = network(Picture(4, 6, 1, 2))
    params = learned.init(jax.random.key(0), jnp.zeros((1, 4, 6, 1)))
    bare = network(Picture(4, 6, 1, 2, positions="none")).apply(params, jnp.zeros((1, 4, 6, 1)))
    got = learned.apply(params, jnp.zeros((1, 4, 6, 1))) - bare
    np.testing.assert_allclose(got[0], params["~"]["m_positions"], atol=1e-6)


def test_symbols_sum_their_channels():
    modality = Symbols(1, 2, (4, 3), positions="none")
    net, x = network(modality), jnp.array([[[[3, 1], [0, 2]]]])
    params = net.init(jax.random.key(0), x)
    first, second = params["~"]["m_channel_0"], params["~"]["m_channel_1"]
    np.testing.assert_allclose(
        net.apply(params, x)[0], [first[3] + second[1], first[0] + second[2]], rtol=1e-6
    )


def test_cells_in_patches():
    """A patch is linear in the vectors of its cells, which a table per channel adds up to."""
    symbols = np.random.default_rng(0).integers(0, 3, (2, 4, 6, 2)).astype(np.uint8)
    modality = Symbols(4, 6, (3, 3), (2, 3), "none")
    net = network(modality, 8)
    params = net.init(jax.random.key(0), symbols)
    tokens = net.apply(params, symbols)
    assert modality.grid == (2, 2) and tokens.shape == (2, 4, 8)
    tables = [np.asarray(params["~"][f"m_channel_{c}"]) for c in range(2)]
    cells = tables[0][symbols[..., 0]] + tables[1][symbols[..., 1]]
    linear = params["m_patches"]
    by_hand = cells[1, 2:4, 3:6].reshape(-1) @ np.asarray(linear["w"]) + np.asarray(linear["b"])
    np.testing.assert_allclose(tokens[1, 3], by_hand, rtol=1e-5, atol=1e-6)


def test_refusals():
    with pytest.raises(
        ValueError, match=r"patch \(16, 16\) does not divide \(100, 64\).*pad it to \(112, 64\)"
    ):
        Spectrogram(100, 64)
    with pytest.raises(ValueError, match="a patch needs 3 sides"):
        Video(4, 8, 8, tubelet=(2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        Symbols(3, 3, ())
    with pytest.raises(ValueError, match="positions must be"):
        Picture(16, 16, positions="sine")
    picture, symbols = Picture(4, 4, 3, 4), Symbols(2, 2, (3,))
    for modality, x, message in (
        (picture, jnp.zeros((2, 4, 5, 3)), r"m must have the shape \[B, 4, 4, 3\], got \[2, 4, 5, 3\]"),
        (picture, jnp.zeros((2, 4, 4, 3), jnp.int32), "m must be uint8 or float, got int32"),
        (symbols, jnp.zeros((2, 2, 2, 1)), "m must be integer, got float32"),
        (Spectrogram(4, 4, 2), jnp.zeros((2, 4, 4), jnp.uint8), "m must be float, got uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            network(modality).init(jax.random.key(0), x)
