"""The Hierarchical Perceiver: published counts, groups and types by hand, attention in cells by brute force."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import FUSION, HIP_VARIANTS, HiPTrunk, Spectrogram, Tokens, Video, Zorro, ZorroConfig
from limbeck.encoders._hip_plan import Level, assign_groups, cells, input_level, latent_levels
from limbeck.encoders.hip import _attend, _Block
from limbeck.encoders.streams import Streams


# What the authors' own test counts: four modalities of these (tokens, channels), two at a time.
AUTHORS_INPUTS = [(1024, 3), (32, 1), (128, 16), (16, 16)]


@pytest.mark.parametrize(("name", "count"), [("16", 99_224_996), ("256", 95_585_188), ("Mini", 18_709_668)])
def test_blocks_have_as_many_parameters_as_published(name, count):
    trunk = HIP_VARIANTS[name]
    modalities = {"text": Tokens(7, 5), "audio": Spectrogram(16, 16, 4)}
    for masked in (False, True):
        config = ZorroConfig(modalities, trunk, masked=masked)
        init = hk.transform(lambda x, config=config: Zorro(config)(x)).init
        inputs = {"text": jnp.zeros((1, 7), jnp.int32), "audio": jnp.zeros((1, 16, 16))}
        params = jax.eval_shape(init, jax.random.key(0), inputs)
        blocks = sum(x.size for x in jax.tree.leaves({m: x for m, x in params.items() if "/block_" in m}))
        # The rest of the authors' model is an autoencoder's: a linear map in and out and positions for each modality;
        # a map of positions for each of two modalities at a time; a cross-attention from positions to the last latents.
        e, c = trunk.token_width, trunk.channels[-1]
        ends = sum(
            channels * e + e + e * channels + channels + tokens * e for tokens, channels in AUTHORS_INPUTS
        )
        decoder = (e * c + c) + 2 * (c * c + c) + (c * e + e) + 2 * (e * e + e) + 2 * (e + c + e)
        assert blocks + ends + 2 * e * e + decoder == count


def test_groups_are_shared_out_by_tokens():
    assert assign_groups(16, {1: 1024, 2: 32}) == {1: 15, 2: 1}
    assert assign_groups(5, {1: 100, 2: 100}) == {1: 3, 2: 2}
    assert assign_groups(6, {1: 30, 2: 20, 3: 10}) == {1: 3, 2: 2, 3: 1}
    assert assign_groups(6, {1: 1000, 2: 1}, minimum=2) == {1: 4, 2: 2}
    with pytest.raises(ValueError, match="too few"):
        assign_groups(2, {1: 5, 2: 5, 3: 5})


def test_types_by_hand():
    """Four groups, one of fusion, two of modality 1 and one of 2; then one group; then four again."""
    shares = {FUSION: 1, 1: 2, 2: 1}
    tokens = input_level({FUSION: 2, 1: 5, 2: 3}, shares)
    np.testing.assert_array_equal(tokens.types, [0, 0, 1, 1, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(tokens.groups(4), [0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    first, middle, last = latent_levels((4, 1, 4), (2, 4, 2), shares)
    np.testing.assert_array_equal(first.types, [0, 0, 1, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(first.groups(4), [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(middle.types, [0, 1, 1, 2])
    np.testing.assert_array_equal(last.types, first.types)
    without = first.only({FUSION, 2})
    np.testing.assert_array_equal(without.types, [0, 0, 2, 2])
    np.testing.assert_array_equal(without.groups(4), [0, 0, 3, 3])


@pytest.mark.parametrize("name", HIP_VARIANTS)
def test_every_latent_has_something_to_read(name):
    """In the published variants every type lives in every block, and each latent finds its type in its group."""
    trunk = HIP_VARIANTS[name]
    grids = {FUSION: (8,), 1: Video(32, 224, 224).grid, 2: Spectrogram(800, 128).grid, 3: (300,)}
    before, levels = trunk.plan(grids)
    for i, level in enumerate(levels):
        assert set(level.types) == {FUSION, 1, 2, 3}
        assert len(level.types) == trunk.groups[i] * trunk.latents[i]
        np.testing.assert_array_equal(level.types, levels[len(levels) - 1 - i].types)
        inside, apart = cells(level, before, trunk.groups[i], by_type=True)
        assert inside.key_is.any(axis=1).all()
        np.testing.assert_array_equal(apart, np.flatnonzero(level.types == FUSION))
        before = level


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kept", [{FUSION, 1, 2}, {FUSION, 2}])
def test_attention_in_cells_is_attention_under_a_mask(masked, kept):
    rng = np.random.default_rng(0)
    query_types = rng.integers(0, 3, 24).astype(np.int32)
    key_types = rng.integers(0, 3, 36).astype(np.int32)
    # A query of a type that its group does not have: it reads nothing.
    key_types[:9], query_types[0] = 2, 1
    queries = Level(query_types, np.arange(24), 24).only(kept)
    keys = Level(key_types, np.arange(36), 36).only(kept)
    query = rng.standard_normal((2, len(queries.types), 2, 3), np.float32)
    key, value = rng.standard_normal((2, 2, len(keys.types), 2, 3), np.float32)
    columns = rng.random((2, len(keys.types))) < 0.8

    one_group = queries.groups(4)[:, None] == keys.groups(4)[None]
    mask = one_group & (queries.types[:, None] == keys.types[None]) if masked else one_group
    if masked:
        mask = mask | (queries.types == FUSION)[:, None]
    for there in (None, columns):
        allowed = np.broadcast_to(mask, (2, *mask.shape)) if there is None else mask & there[:, None, :]
        got = _attend(query, key, value, *cells(queries, keys, 4, masked), there)
        scores = np.einsum("bthd,bshd->bhts", query, key) / math.sqrt(3)
        weights = np.exp(scores) * allowed[:, None]
        weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-30)
        expected = np.einsum("bhts,bshd->bthd", weights, value).reshape(got.shape)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        if masked and 1 in kept:
            assert not got[:, 0].any()


def test_a_block_computes_what_the_paper_says():
    """The middle block of three, unmasked, in NumPy: pre-norms, residuals, squared ReLU, one head across."""
    trunk = HiPTrunk((2, 1, 2), (0, 1, 0), (2, 4, 2), (4, 6, 4), (1, 2, 1), token_width=4, fusion_groups=1)
    streams = Streams({}, {}, None, masked=False)
    row = Level(np.ones(4, np.int32), np.arange(4), 4)
    skip = np.random.default_rng(0).standard_normal((2, 4, 5), np.float32)
    x = np.random.default_rng(1).standard_normal((2, 4, 4), np.float32)
    block = hk.without_apply_rng(hk.transform(lambda x, skip: _Block(trunk, 1)(x, row, row, streams, skip)))
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x, skip)
    params = jax.tree.map(lambda p: 0.5 * rng.standard_normal(p.shape, np.float32), shapes)

    def linear(name, y):
        return y @ params[f"block_1/{name}"]["w"] + params[f"block_1/{name}"]["b"]

    def norm(name, y):
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
        return y * params[f"block_1/{name}"]["scale"] + params[f"block_1/{name}"]["offset"]

    def mix(query, key, value):
        scores = np.exp(query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]))
        return scores / scores.sum(-1, keepdims=True) @ value

    def feed_forward(name, y):
        return linear(f"{name}/down", np.maximum(linear(f"{name}/up", y), 0) ** 2)

    queries = params["block_1"]["latents"] + linear("skip", skip)
    key, value = np.split(linear("cross_key_value", norm("cross_input_norm", x)), 2, axis=-1)
    mixed = mix(linear("cross_query", norm("cross_query_norm", queries)), key, value)
    z = queries + linear("cross_out", mixed)
    z = z + feed_forward("cross_feed_forward", norm("cross_feed_forward_norm", z))
    query, key, value = np.split(linear("query_key_value_0", norm("attention_norm_0", z)), 3, axis=-1)
    heads = [mix(query[..., h], key[..., h], value[..., h]) for h in (slice(0, 3), slice(3, 6))]
    z = z + linear("attention_out_0", np.concatenate(heads, axis=-1))
    z = z + feed_forward("feed_forward_0", norm("feed_forward_norm_0", z))
    np.testing.assert_allclose(jax.jit(block.apply)(params, x, skip), z, rtol=1e-4, atol=1e-4)


def test_refusals():
    good = {
        "groups": (4, 1, 4), "self_attentions": (1, 1, 1), "latents": (2, 4, 2), "channels": (4, 8, 4),
        "heads": (1, 2, 1), "token_width": 4, "fusion_groups": 1,
    }  # fmt: skip
    HiPTrunk(**good)
    for change, message in (
        ({"heads": (1, 2)}, "odd number of blocks"),
        ({"groups": (4, 1, 2)}, "the same from both ends"),
        ({"groups": (4, 2, 4)}, "1 group in the middle"),
        ({"latents": (2, 3, 2)}, "fall into the next one's groups"),
        ({"heads": (1, 3, 1)}, "must divide channels"),
        ({"fusion_groups": 4}, "some but not all"),
    ):
        with pytest.raises(ValueError, match=message):
            HiPTrunk(**{**good, **change})
    grids = {FUSION: (2,), 1: (3,), 2: (3,), 3: (3,), 4: (3,)}
    with pytest.raises(ValueError, match="3 groups are too few for 4 modalities"):
        HiPTrunk(**good).plan(grids)
    # 16 groups on a middle of 8 latents in all: two neighbouring groups share one.
    narrow = {**good, "groups": (16, 2, 1, 2, 16), "latents": (1, 8, 8, 8, 1), "channels": (4,) * 5}
    narrow |= {"heads": (1,) * 5, "self_attentions": (1,) * 5}
    with pytest.raises(ValueError, match="fusion_groups=1 must be at least 2 with 8 latents"):
        HiPTrunk(**narrow).plan(grids)
