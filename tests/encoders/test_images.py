"""Frames are resized, cropped and normalised as open_clip does it with PIL, to the bit."""

import jax
import numpy as np
import pytest
from limbeck.encoders.images import Preprocessing
from limbeck.rewards._torchvision import import_open_clip
from PIL import Image


RNG = np.random.default_rng(0)


def frames_of(height, width):
    """Noise, and a frame with hard edges, where bicubic weights overshoot and are cut."""
    frames = RNG.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    frames[1] = 0
    frames[1, height // 3 :, width // 4 :] = (255, 255, 7)
    return frames


def by_open_clip(frames, size, interpolation, resize_mode, fill=0):
    import_open_clip()
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(
        size=size, interpolation=interpolation, resize_mode=resize_mode, fill_color=fill, mean=(0.5, 0.4, 0.3)
    )
    transform = image_transform_v2(config, is_train=False)
    return np.stack([np.moveaxis(transform(Image.fromarray(frame)).numpy(), 0, 2) for frame in frames])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("height", "width", "size", "resize_mode"),
    [
        (56, 56, 224, "shortest"),
        (224, 224, 224, "shortest"),
        (300, 200, 224, "shortest"),
        (448, 448, 224, "shortest"),
        (57, 91, 56, "shortest"),
        (7, 5, 56, "shortest"),
        (33, 500, (56, 64), "shortest"),
        (300, 200, 56, "longest"),
        (50, 91, 224, "longest"),
        (30, 41, (56, 64), "longest"),
        (200, 300, 56, "squash"),
        (30, 90, (56, 64), "squash"),
    ],
)
def test_pixels_are_those_of_open_clip_with_pil(height, width, size, resize_mode, interpolation):
    frames = frames_of(height, width)
    expected = by_open_clip(frames, size, interpolation, resize_mode, fill=9)
    sides = (size, size) if isinstance(size, int) else size
    ours = Preprocessing(
        *sides, mean=(0.5, 0.4, 0.3), interpolation=interpolation, resize_mode=resize_mode, fill=9
    )
    assert expected.shape == (2, *sides, 3)
    np.testing.assert_allclose(ours(frames), expected, atol=1e-6)
    if interpolation == "bicubic":
        jitted = jax.jit(ours)(frames)
        assert jitted.dtype == np.float32
        np.testing.assert_allclose(jitted, expected, atol=1e-6)


def test_weights_by_hand():
    """A row of four doubled: each new pixel is 3/4 of the nearer and 1/4 of the further old one."""
    row = np.array([0, 100, 200, 40], np.uint8)
    frames = np.broadcast_to(row[None, None, :, None], (1, 4, 4, 3)).copy()
    fitted = Preprocessing(8, 8, interpolation="bilinear").fit(frames)
    assert fitted[0, 0, :, 0].tolist() == [0, 25, 75, 125, 175, 160, 80, 40]


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((2, 0, 8, 3), np.uint8),
        [[1, 2]],
    ],
)
def test_frames_of_another_kind_are_refused(frames):
    with pytest.raises(ValueError, match=r"uint8 \[N, H, W, 3\]"):
        Preprocessing().fit(frames)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 0}, "at least one pixel"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"mean": (1.0,)}, "three numbers"),
        ({"interpolation": "nearest"}, "interpolation"),
        ({"resize_mode": "pad"}, "resize_mode"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Preprocessing(**changes)
