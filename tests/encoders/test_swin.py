"""Swin's windows: torchvision's blocks with the same weights, in two and three dimensions, and the mask by hand."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import SwinTrunk, attention
from limbeck.encoders._windows import fit, join, partition, relative_index, window_mask
from limbeck.encoders.streams import Streams
from limbeck.encoders.swin import SwinBlock, _Merge
from limbeck.rewards._torchvision import import_open_clip


WIDTH, HEADS = 12, 3


@functools.cache
def modules():
    """torch, and torchvision's Swin in two and three dimensions."""
    import_open_clip()
    import torch
    from torchvision.models import swin_transformer
    from torchvision.models.video import swin_transformer as video

    return torch, swin_transformer, video


def randomised(module):
    torch = modules()[0]
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return module.eval()


def block_params(module):
    """A torchvision block's parameters under our names; our tables are of a window cut to the grid, here the whole."""
    a = {name: value.numpy() for name, value in module.state_dict().items()}

    def linear(name):
        return {"w": a[f"{name}.weight"].T, "b": a[f"{name}.bias"]}

    def norm(name):
        return {"scale": a[f"{name}.weight"], "offset": a[f"{name}.bias"]}

    return {
        "block": {"relative_bias_1": a["attn.relative_position_bias_table"]},
        "block/attention_norm": norm("norm1"),
        "block/query_key_value": linear("attn.qkv"),
        "block/attention_out": linear("attn.proj"),
        "block/feed_forward_norm": norm("norm2"),
        "block/feed_forward/up": linear("mlp.0"),
        "block/feed_forward/down": linear("mlp.3"),
    }


# The second grid of each is not a multiple of the window and is padded; the third needs no shift along one axis.
CASES = [
    ((1, 6, 8), (3, 4), False),
    ((1, 6, 8), (3, 4), True),
    ((1, 7, 9), (3, 4), True),
    ((1, 4, 9), (4, 4), True),
    ((4, 6, 4), (2, 3, 2), False),
    ((4, 6, 4), (2, 3, 2), True),
    ((5, 7, 5), (2, 3, 2), True),
    ((2, 6, 4), (2, 3, 2), True),
]


@pytest.mark.parametrize(("grid", "window", "shifted"), CASES)
def test_block_is_torchvisions(grid, window, shifted):
    torch, flat, video = modules()
    layer = flat.ShiftedWindowAttention if len(window) == 2 else video.ShiftedWindowAttention3d
    shift = [w // 2 if shifted else 0 for w in window]
    peer = randomised(flat.SwinTransformerBlock(WIDTH, HEADS, list(window), shift, attn_layer=layer))
    x = np.random.default_rng(1).standard_normal((2, *grid, WIDTH), np.float32)
    given = torch.from_numpy(x if len(window) == 3 else x[:, 0])
    expected = peer(given).detach().numpy().reshape(x.shape)

    @hk.without_apply_rng
    @hk.transform
    def block(x):
        size = (1, *window)[-3:]
        ours = SwinBlock(HEADS, size, shifted, widening=4, name="block")
        return ours(Streams({1: x}, {}, None, True), {1: grid})[1]

    got = jax.jit(block.apply)(block_params(peer), x.reshape(2, -1, WIDTH))
    np.testing.assert_allclose(got, expected.reshape(got.shape), atol=1e-4)


@pytest.mark.parametrize("grid", [(1, 4, 6), (1, 5, 3), (3, 4, 5)])
def test_merging_is_torchvisions(grid):
    torch, flat, _ = modules()
    peer = randomised(flat.PatchMerging(WIDTH))
    x = np.random.default_rng(1).standard_normal((2, *grid, WIDTH), np.float32)
    expected = peer(torch.from_numpy(x)).detach().numpy()
    weights = {name: value.numpy() for name, value in peer.state_dict().items()}
    params = {
        "merge/norm": {"scale": weights["norm.weight"], "offset": weights["norm.bias"]},
        "merge/reduction": {"w": weights["reduction.weight"].T},
    }
    merge = hk.without_apply_rng(hk.transform(lambda x: _Merge(name="merge")({1: x}, {1: grid})))
    merged, grids = merge.apply(params, x.reshape(2, -1, WIDTH))
    assert grids[1] == expected.shape[1:4]
    np.testing.assert_allclose(merged[1], expected.reshape(2, -1, 2 * WIDTH), atol=1e-4)


def test_windows_of_a_row_by_hand():
    """Six tokens in windows of 4, rolled by 2 and padded to 8: each half of the last window keeps to itself."""
    assert fit((6,), (4,), True) == ((4,), (2,))
    assert fit((3,), (4,), True) == ((3,), (0,))
    assert window_mask((8,), (4,), (0,)) is None
    mask = window_mask((8,), (4,), (2,))
    assert mask is not None and mask[0].all()
    np.testing.assert_array_equal(mask[1], np.kron(np.eye(2), np.ones((2, 2))).astype(bool))
    np.testing.assert_array_equal(relative_index((3,)), [[2, 1, 0], [3, 2, 1], [4, 3, 2]])


def test_partition_and_back():
    x = jnp.arange(2 * 4 * 6 * 2).reshape(2, 4, 6, 2)
    windows = partition(x, (2, 3))
    assert windows.shape == (2, 4, 6, 2)
    np.testing.assert_array_equal(windows[0, 1, :, 0], x[0, :2, 3:, 0].ravel())
    np.testing.assert_array_equal(join(windows, (4, 6), (2, 3)), x)


@pytest.mark.parametrize("key_heads", [2, 4])
def test_attention_with_a_bias(key_heads):
    """A bias is added to the scaled scores, by query head; also above the limit of the dense evaluation."""
    rng = np.random.default_rng(0)
    query = rng.standard_normal((1030, 4, 3), np.float32)
    key, value = rng.standard_normal((2, 7, key_heads, 3), np.float32)
    bias = rng.standard_normal((4, 1030, 7), np.float32)
    mask = rng.random((1030, 7)) < 0.7
    got = attention(query, key, value, bias=bias, mask=mask)
    for head in range(4):
        k, v = key[:, head * key_heads // 4], value[:, head * key_heads // 4]
        weights = np.exp(query[:, head] @ k.T / np.sqrt(3) + bias[head]) * mask
        weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-30)
        np.testing.assert_allclose(got[:, head], weights @ v, atol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="a number for each stage"):
        SwinTrunk(depths=(2, 2))
    with pytest.raises(ValueError, match=r"must divide the stages' widths \[96, 192\]"):
        SwinTrunk(depths=(2, 2), num_heads=(3, 7))
    with pytest.raises(ValueError, match="must be positive"):
        SwinTrunk(window=(8, 0, 7))
