"""Log-mel spectrograms against published values and a float64 NumPy computation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import BRAVE_48K, HARES_16K, LogMel


SMALL = LogMel(8000, frame=200, hop=80, fft=256, mels=40, low=60.0, high=3800.0)


def chirp():
    """A tone and a rising one, a second at 48 kHz."""
    t = np.arange(48_000) / 48_000
    return (0.5 * np.sin(2 * np.pi * 440 * t) + 0.25 * np.sin(2 * np.pi * (200 * t + 400 * t**2))).astype(
        np.float32
    )


@functools.cache
def spectrogram():
    return np.asarray(BRAVE_48K(chirp()))


def slowly(settings, wave):
    """Frame by frame and filter by filter in float64, by the sum of the Fourier transform itself."""
    wave = np.asarray(wave, np.float64)
    size = settings.fft or settings.frame
    turns = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(settings.frame)) / size)
    window = [0.5 - 0.5 * np.cos(2 * np.pi * i / settings.frame) for i in range(settings.frame)]

    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    low, high = mel(settings.low), mel(settings.high)
    corners = [low + (high - low) * i / (settings.mels + 1) for i in range(settings.mels + 2)]
    rows, begin = [], 0
    while begin < len(wave) if settings.pad_end else begin + settings.frame <= len(wave):
        part = wave[begin : begin + settings.frame]
        part = np.concatenate([part, np.zeros(settings.frame - len(part))]) * window
        magnitudes = np.abs(turns @ part)
        row = []
        for left, centre, right in zip(corners, corners[1:], corners[2:]):
            total = 0.0
            for k in range(1, size // 2 + 1):
                place = mel(k * settings.sample_rate / size)
                if left < place < right:
                    up, down = (place - left) / (centre - left), (right - place) / (right - centre)
                    total += magnitudes[k] * min(up, down)
            row.append(np.log(settings.offset + settings.gain * total))
        rows.append(row)
        begin += settings.hop
    rows = np.array(rows)
    return (rows - rows.mean()) / rows.std() if settings.standardise else rows


def test_brave_gives_the_values_of_its_published_code():
    x = spectrogram()
    assert x.shape == (300, 80) and x.dtype == np.float32
    np.testing.assert_allclose([x.mean(), x.std()], [3.1470838, 3.5814483], atol=1e-3)
    np.testing.assert_allclose([x.max(), x.min()], [12.948006, 0], atol=0.03)
    np.testing.assert_allclose(x[10, :8], [0, 9.138842, 11.960412, 0, 0, 0, 0, 11.786003], atol=0.03)
    np.testing.assert_allclose(x[150, 40:44], [1.3486744, 3.209464, 1.7136, 2.8343432], atol=0.03)
    empty = [0, 3, 4, 5, 6, 9, 10, 11, 14, 15, 18, 19, 22, 25, 28, 31]
    assert np.flatnonzero((x == 0).all(axis=0)).tolist() == empty


@pytest.mark.parametrize(
    "settings",
    [
        dataclasses.replace(HARES_16K, mels=40),
        SMALL,
        dataclasses.replace(SMALL, pad_end=False, gain=1.0, offset=1e-3, fft=None, hop=77),
    ],
)
def test_numpy_agrees(settings):
    rng = np.random.default_rng(0)
    wave = (0.1 * rng.normal(size=1500)).astype(np.float32)
    expected = slowly(settings, wave)
    np.testing.assert_allclose(settings(wave), expected, atol=2e-3)
    assert settings.frames(1500) == len(expected)


def test_brave_agrees_with_numpy():
    frames = slowly(BRAVE_48K, chirp()[: 160 * 12])
    # The last frames reach into what was cut off.
    np.testing.assert_allclose(spectrogram()[:10], frames[:10], atol=0.03)


def test_hares_standardises_each_spectrogram_by_itself():
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(2, 3, 48_000)).astype(np.float32) * np.array([[[0.5]], [[0.01]]], np.float32)
    x = np.asarray(HARES_16K(waves))
    assert x.shape == (2, 3, 300, 80)
    np.testing.assert_allclose(x.mean(axis=(2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=(2, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(HARES_16K(waves[1, 2]), x[1, 2], atol=1e-4)


def test_silence_stays_finite_and_so_does_its_gradient():
    assert not np.asarray(HARES_16K(np.zeros(1600, np.float32))).any()
    slope = jax.grad(lambda wave: HARES_16K(wave).sum())(jnp.zeros(1600))
    assert np.isfinite(slope).all()


def test_it_is_jitted_and_mapped():
    waves = np.random.default_rng(1).normal(size=(4, 800)).astype(np.float32)
    plain = np.asarray(SMALL(waves))
    assert plain.shape == (4, 10, 40)
    np.testing.assert_allclose(jax.jit(jax.vmap(SMALL))(waves), plain, atol=1e-3)


def test_a_hum_lights_its_own_filter():
    t = np.arange(800) / 8000
    x = np.asarray(SMALL(np.sin(2 * np.pi * 1000 * t).astype(np.float32)))[3]
    mels = 1127 * np.log1p(np.array([60.0, 3800.0, 1000.0]) / 700)
    expected = (mels[2] - mels[0]) / (mels[1] - mels[0]) * 41 - 1
    assert abs(np.argmax(x) - expected) <= 1


@pytest.mark.parametrize(
    ("samples", "padded", "whole"), [(1, 1, 0), (80, 1, 0), (81, 2, 0), (199, 3, 0), (200, 3, 1), (280, 4, 2)]
)
def test_how_many_frames(samples, padded, whole):
    assert SMALL.frames(samples) == padded
    assert SMALL(np.zeros(samples, np.float32)).shape == (padded, 40)
    cut = dataclasses.replace(SMALL, pad_end=False)
    assert cut.frames(samples) == whole
    if whole:
        assert cut(np.zeros(samples, np.float32)).shape == (whole, 40)
    else:
        with pytest.raises(ValueError, match=r"too short: \[..., N\] with N at least 200"):
            cut(np.zeros(samples, np.float32))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="got int16; 16-bit samples are divided by 32768"):
        SMALL(np.zeros(800, np.int16))
    with pytest.raises(ValueError, match=r"shape \(2, 0\) is too short: .* at least 1"):
        SMALL(np.zeros((2, 0), np.float32))
    with pytest.raises(ValueError, match=r"at or below half the sample rate, 4000 Hz"):
        LogMel(8000, 200, 80)
    with pytest.raises(ValueError, match="does not fit in fft=128"):
        LogMel(16_000, 200, 80, fft=128)
    with pytest.raises(ValueError, match="hop must be at least 1, not 0"):
        LogMel(16_000, 200, 0)
    with pytest.raises(ValueError, match="gain and offset must be above 0"):
        LogMel(16_000, 200, 80, offset=0.0)
