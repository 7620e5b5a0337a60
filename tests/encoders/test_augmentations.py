"""Augmentations: what each may change and what not, over many keys in one compiled call."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import augmentations as augment


KEYS = jax.random.split(jax.random.key(0), 200)


def many(function, x, keys=KEYS):
    """The function under many keys, `[keys, ...]`: jitted and mapped, as recipes use it."""
    return np.asarray(jax.jit(jax.vmap(lambda key: function(key, jnp.asarray(x))))(keys))


def clip(frames=2, height=24, width=30, seed=0):
    return np.random.default_rng(seed).uniform(0.05, 0.95, size=(frames, height, width, 3)).astype(np.float32)


def test_mix_draws_one_ratio_from_beta_5_2_and_shares_out_between_two():
    keys = jax.random.split(jax.random.key(1), 4000)
    sound, video = jnp.array([1.0, 2.0]), jnp.ones((2, 3, 3, 3))

    def mixed(key, _):
        return jnp.concatenate([augment.mix(key, x, -x).ravel() for x in (sound, video)])

    found = many(mixed, 0, keys)
    np.testing.assert_allclose(found[:, 1], 2 * found[:, 0], rtol=1e-5)
    assert (found[:, 2:] == found[:, :1]).all()
    ratios = (found[:, :1] + 1) / 2
    # beta(5, 2): mean 5/7, variance 10 / (49 * 8), and 57/64 of it above a half.
    np.testing.assert_allclose(ratios.mean(), 5 / 7, atol=0.01)
    np.testing.assert_allclose(ratios.var(), 10 / 392, atol=0.003)
    np.testing.assert_allclose((ratios[:, 0] > 0.5).mean(), 57 / 64, atol=0.02)


def test_mix_batch_takes_another_example_for_each():
    one_hot = np.eye(5, dtype=np.float32)
    mixed = many(augment.mix_batch, one_hot)
    assert ((mixed > 0).sum(axis=2) == 2).all()
    np.testing.assert_allclose(mixed.sum(axis=2), 1, atol=1e-5)
    own = np.einsum("kii->ki", mixed)
    assert len(np.unique(own)) == own.size
    partners = np.argmax(np.where(one_hot == 1, 0, mixed), axis=2)
    assert {tuple(sorted(row)) for row in partners} == {(0, 1, 2, 3, 4)}
    assert {int(row[0]) for row in partners} == {1, 2, 3, 4}
    with pytest.raises(ValueError, match="another example"):
        augment.mix_batch(KEYS[0], one_hot[:1])


@pytest.mark.parametrize(("mask", "axis"), [(augment.time_mask, 1), (augment.frequency_mask, 2)])
def test_masks_are_one_run_of_bounded_width(mask, axis):
    x = np.random.default_rng(0).uniform(1, 2, size=(12, 9)).astype(np.float32)
    masked = many(functools.partial(mask, width=4), x)
    assert ((masked == 0) | (masked == x)).all()
    hidden = (masked == 0).all(axis=3 - axis)
    assert ((masked == 0).any(axis=3 - axis) == hidden).all()
    widths = hidden.sum(axis=1)
    assert set(widths) == {0, 1, 2, 3, 4}
    runs = np.abs(np.diff(np.pad(hidden, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1)
    assert (runs == 2 * (widths > 0)).all()
    # A narrow run may lie at either end too.
    assert hidden[widths == 1].any(axis=0)[[0, -1]].all()
    with pytest.raises(ValueError, match="does not fit"):
        mask(KEYS[0], x, 13)


def test_a_mask_is_the_same_for_all_leading_axes():
    masked = many(functools.partial(augment.time_mask, width=4), np.ones((2, 3, 8, 5), np.float32))
    assert (masked == masked[:, :1, :1]).all()


def test_a_frequency_shift_fills_with_zeros_and_never_wraps():
    x = np.random.default_rng(0).uniform(1, 2, size=(3, 6)).astype(np.float32)
    possible = {}
    for shift in range(-3, 4):
        row = np.zeros_like(x)
        for mel in range(6):
            if 0 <= mel - shift < 6:
                row[:, mel] = x[:, mel - shift]
        possible[shift] = row
    found = set()
    for shifted in many(functools.partial(augment.frequency_shift, largest=3), x):
        (shift,) = [s for s, row in possible.items() if np.array_equal(row, shifted)]
        found.add(shift)
    assert found == set(range(-3, 4))
    with pytest.raises(ValueError, match="leaves nothing of 6 mels"):
        augment.frequency_shift(KEYS[0], x, 6)


def test_a_resized_crop_is_one_window_of_the_allowed_size():
    rows, columns = np.mgrid[0:40, 0:60].astype(np.float32)
    # Where a pixel comes from can be read off it: bilinear resizing keeps planes, but for the margin.
    frame = np.stack([rows, columns, np.ones_like(rows)], axis=-1)
    out = many(lambda key, x: augment.random_resized_crop(key, x, 20, 20), np.stack([frame, 2 * frame]))
    assert out.shape == (200, 2, 20, 20, 3)
    np.testing.assert_allclose(out[:, 1], 2 * out[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out[:, 0, :, :, 2], 1, atol=1e-4)
    middle = out[:, 0, 5:15, 5:15]
    height = (middle[:, -1, 0, 0] - middle[:, 0, 0, 0]) * 20 / 9
    width = (middle[:, 0, -1, 1] - middle[:, 0, 0, 1]) * 20 / 9
    area, aspect = height * width / 2400, width / height
    assert (area > 0.29).all() and (area < 1.01).all() and area.max() - area.min() > 0.5
    assert (aspect > 0.49).all() and (aspect < 2.02).all() and aspect.min() < 0.7 < 1.7 < aspect.max()
    corner = middle[:, 0, 0, :2] - 5.5 / 20 * np.stack([height, width], axis=1) + 0.5
    assert (corner > -0.2).all()
    assert (corner + np.stack([height, width], axis=1) < np.array([40.2, 60.2])).all()
    assert np.ptp(corner[:, 0]) > 8 and np.ptp(corner[:, 1]) > 15


def test_a_crop_of_the_whole_frame_is_a_resize():
    x = clip()
    settings = {"height": 12, "width": 10, "area": (1.0, 1.0), "aspect": (30 / 24, 30 / 24)}
    (whole,) = many(functools.partial(augment.random_resized_crop, **settings), x, KEYS[:1])
    np.testing.assert_allclose(whole, jax.image.resize(x, (2, 12, 10, 3), "linear"), atol=1e-4)


def test_flip_mirrors_half_of_the_clips():
    x = clip()
    out = many(augment.flip, x)
    same = (out == x).all(axis=(1, 2, 3, 4))
    assert (out[~same] == x[:, :, ::-1]).all()
    assert 0.35 < same.mean() < 0.65


def test_grey_takes_the_colour_of_a_fifth():
    x = clip()
    out = many(augment.grey, x)
    same = (out == x).all(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(
        out[~same], np.broadcast_to((x @ [0.299, 0.587, 0.114])[..., None], out[~same].shape), atol=1e-5
    )
    assert 0.7 < same.mean() < 0.9


def test_saturation_and_hue_are_those_of_hsv():
    x = clip(1, 3, 4)
    settings = {"brightness": 0.0, "contrast": (1.0, 1.0), "probability": 1.0}
    turned = augment.colour_jitter(KEYS[3], x, saturation=(0.5, 0.5), hue=0.3, **settings)
    h, s, v = (np.vectorize(lambda r, g, b, i=i: colorsys.rgb_to_hsv(r, g, b)[i])(*x[0].T) for i in range(3))
    drawn = float(jax.random.uniform(jax.random.split(KEYS[3], 5)[3], minval=-0.3, maxval=0.3))
    expected = np.stack(np.vectorize(colorsys.hsv_to_rgb)((h + drawn) % 1, s * 0.5, v)).T
    np.testing.assert_allclose(turned[0], expected, atol=1e-5)


def test_brightness_adds_and_contrast_scales_about_the_mean():
    x = 0.4 + 0.2 * clip()
    settings = {"saturation": (1.0, 1.0), "hue": 0.0, "probability": 1.0}
    brighter = many(
        functools.partial(augment.colour_jitter, brightness=0.1, contrast=(1.0, 1.0), **settings), x
    )
    added = brighter - x
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1, :1, :1], added.shape), atol=1e-5)
    assert np.abs(added).max() < 0.1001 and added.min() < -0.08 and added.max() > 0.08
    stretched = many(
        functools.partial(augment.colour_jitter, brightness=0.0, contrast=(0.5, 1.5), **settings), x
    )
    mean = x.mean(axis=(1, 2), keepdims=True)
    factors = (stretched - mean) / (x - mean)
    np.testing.assert_allclose(
        np.median(factors.reshape(len(KEYS), -1), axis=1)[:, None, None, None, None] * (x - mean) + mean,
        stretched,
        atol=1e-4,
    )


def test_colour_jitter_leaves_a_fifth_and_stays_in_range():
    x = clip()
    out = many(augment.colour_jitter, x)
    assert out.min() >= 0 and out.max() <= 1
    same = (out == x).all(axis=(1, 2, 3, 4))
    assert 0.1 < same.mean() < 0.3


def test_blur_is_a_normalised_gaussian():
    point = np.zeros((1, 41, 60, 3), np.float32)
    point[0, 20, 30] = 1
    out = many(lambda key, x: augment.gaussian_blur(key, x, sigma=(0.5, 2.0)), point)
    np.testing.assert_allclose(out.sum(axis=(2, 3)), 1, atol=1e-4)
    across = out[:, 0, 20, 27:34, 0]
    # A Gaussian's logarithm is a parabola: the ratio of its drops at 2 and at 1 pixels is 4.
    drops = np.log(across[:, 3:4] / across[:, 4:6])
    wide = drops[:, 1] < 20
    np.testing.assert_allclose(drops[wide, 1] / drops[wide, 0], 4, rtol=1e-2)
    sigmas = np.sqrt(0.5 / drops[:, 0])
    assert sigmas.min() > 0.49 and sigmas.max() < 2.01 and np.ptp(sigmas) > 1.2
    assert (out[:, 0, 20, :27] == 0).all()
    np.testing.assert_allclose(
        many(augment.gaussian_blur, np.full((1, 9, 9, 3), 0.3, np.float32)), 0.3, rtol=1e-5
    )


def test_a_random_convolution_has_one_kernel_of_odd_size_for_all_frames():
    keys = jax.random.split(jax.random.key(2), 400)
    point = np.zeros((2, 15, 15, 3), np.float32)
    point[:, 7, 7, 0] = 1
    out = many(functools.partial(augment.random_convolution, largest=5), point, keys)
    assert (out[:, 0] == out[:, 1]).all()
    reach = [int(np.argwhere(x.any(axis=-1))[:, 0].max()) - 7 for x in out[:, 0]]
    assert set(reach) == {0, 1, 2}
    for radius in (0, 1, 2):
        weights = np.stack(
            [
                x[7 - radius : 8 + radius, 7 - radius : 8 + radius]
                for x, r in zip(out[:, 0], reach)
                if r == radius
            ]
        )
        assert 0.2 < len(weights) / 400 < 0.47
        np.testing.assert_allclose(weights.var() * 3 * (2 * radius + 1) ** 2, 2, rtol=0.2)
    with pytest.raises(ValueError, match="odd"):
        augment.random_convolution(KEYS[0], point, 4)
