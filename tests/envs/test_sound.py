"""Sounds: waveforms by formula, what distance and angle do to a beacon, and the mix; the page's example."""

import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs import SAMPLE_RATE, SAMPLES, sound


def spectrum(wave):
    """Frequencies in Hz and magnitudes."""
    return np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE), np.abs(np.fft.rfft(wave))


def test_event_sounds_are_distinct_soft_at_both_ends_and_below_1():
    sounds = sound.EVENT_SOUNDS
    assert sound.EVENTS == ("step", "turn", "bump", "pickup", "drop", "open", "close", "success")
    assert sounds.shape == (8, 800) and sounds.dtype == np.float32
    everything = np.concatenate([sounds, sound.BEACON_SOUNDS.reshape(-1, SAMPLES)]).astype(float)
    assert np.abs(everything).max() < 1 and np.abs(sounds).max(axis=1).min() > 0.3
    assert np.abs(everything[:, [0, -1]]).max() < 1e-6
    # A click is a jump: the loudest sound at the highest frequency in use moves this much in a sample at most.
    assert np.abs(np.diff(everything, axis=1)).max() < 2 * np.sin(np.pi * 2000 / SAMPLE_RATE) * 0.5
    unit = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    assert np.abs(unit @ unit.T - np.eye(len(unit))).max() < 0.3
    # The energy is where it was put: a pick-up rises, a drop falls, a turn is high, a bump low.
    pitch = {}
    for name, wave in zip(sound.EVENTS, sounds, strict=True):
        for part, piece in (("", wave), ("early", wave[:250]), ("late", wave[250:])):
            hz, level = spectrum(np.pad(piece, (0, SAMPLES - len(piece))))
            pitch[name + part] = hz[np.argmax(level)]
    assert pitch["pickuplate"] > pitch["pickupearly"] + 100 and pitch["droplate"] < pitch["dropearly"] - 100
    assert pitch["bump"] < 100 < pitch["step"] < 160 and 1600 < pitch["turn"] < 2000


def test_beacons_have_a_fundamental_of_their_own_pitch_and_overtones_above_it():
    pitches = []
    for fundamental, overtones in sound.BEACON_SOUNDS:
        hz, low = spectrum(fundamental)
        _, high = spectrum(overtones)
        pitches.append(hz[np.argmax(low)])
        assert low[hz > 1.5 * pitches[-1]].max() < 0.02 * low.max()
        assert high[hz < 1.5 * pitches[-1]].max() < 0.1 * high.max()
        peaks = [hz[np.argmax(high * (np.abs(hz - k * pitches[-1]) < 60))] for k in (2, 3, 4, 5)]
        assert np.allclose(peaks, np.arange(2, 6) * pitches[-1], atol=40)
    assert np.allclose(pitches, 330 * 2 ** (np.arange(8) / 8), atol=10) and len(set(pitches)) == 8


def test_gain_falls_with_distance_and_brightness_with_the_angle():
    gains = sound.gain(np.linspace(0, 40, 200))
    assert np.all(np.diff(gains) < 0) and gains[0] == 1 and sound.gain(2.0) == 0.5
    assert sound.gain(10.0) > 0.1  # across a room, and well above the steps of 16 bits
    bright = sound.brightness(np.cos(np.linspace(0, np.pi, 100)))
    assert np.all(np.diff(bright) < 0) and bright[0] == 1 and abs(bright[-1]) < 1e-12


@pytest.mark.parametrize(
    ("offset", "forward", "level", "bright"),
    [
        ((3, 0), (1, 0), 1 / 2.5, 1.0),
        ((3, 0), (-1, 0), 1 / 2.5, 0.0),
        ((0, -4), (1, 0), 1 / 3, 0.5),
        ((3, 4), (0, 1), 1 / 3.5, 0.9),  # the cosine is 4 / 5
        ((0, 0), (0, 1), 1.0, 1.0),
    ],
)
def test_levels_by_hand(offset, forward, level, bright):
    levels = sound.beacon_levels(5, np.array(offset), np.array(forward))
    assert levels.dtype == np.float32 and isinstance(levels, np.ndarray)
    np.testing.assert_allclose(levels[5], [level, level * bright], rtol=1e-6)
    assert not np.delete(levels, 5, axis=0).any()
    compiled = jax.jit(sound.beacon_levels)(jnp.int32(5), jnp.array(offset), jnp.array(forward))
    np.testing.assert_allclose(compiled, levels, rtol=1e-6)


def test_one_ear_tells_distance_and_angle():
    """From the waveform alone, by least squares on what a beacon is made of, whatever happens beside it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        offset, turn = rng.integers(-8, 9, 2), rng.integers(4)
        if not offset.any():
            continue
        forward = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])[turn]
        wave = sound.mix({"step": 0.6, "pickup": 0.4}, sound.beacon_levels(2, offset, forward))
        parts = np.concatenate([sound.EVENT_SOUNDS, sound.BEACON_SOUNDS[2]]).astype(float)
        levels = np.linalg.lstsq(parts.T, wave, rcond=None)[0]
        distance = 2 * (1 / levels[-2] - 1)
        assert np.isclose(distance, np.hypot(*offset), rtol=1e-3)
        cosine = 2 * levels[-1] / levels[-2] - 1
        assert np.isclose(cosine, offset @ forward / np.hypot(*offset), atol=1e-3)
        np.testing.assert_allclose(levels[:8], [0.6, 0, 0, 0.4, 0, 0, 0, 0], atol=1e-4)


def test_a_mix_is_the_clipped_sum_in_both_libraries_and_for_any_leading_axes():
    rng = np.random.default_rng(0)
    events = {"turn": rng.random((2, 3)) < 0.5, "success": rng.random((2, 3)) < 0.5}
    offset, forward = rng.integers(-3, 4, (2, 3, 2)), np.array([0, 1])
    levels = sound.beacon_levels(rng.integers(8, size=(2, 3)), offset, forward)
    mixed = sound.mix(events, levels)
    assert mixed.shape == (2, 3, 800) and mixed.dtype == np.float32
    for place in itertools.product(range(2), range(3)):
        wave = np.einsum("nk,nks->s", levels[place], sound.BEACON_SOUNDS)
        wave = (
            wave
            + events["turn"][place] * sound.EVENT_SOUNDS[1]
            + events["success"][place] * sound.EVENT_SOUNDS[7]
        )
        np.testing.assert_allclose(mixed[place], wave, atol=1e-6)
    compiled = jax.jit(sound.mix)(jax.tree.map(jnp.asarray, events), jnp.asarray(levels))
    np.testing.assert_allclose(compiled, mixed, atol=1e-6)
    assert not sound.mix({}, sound.SILENCE).any()
    alone = sound.mix({"turn": events["turn"]}, sound.SILENCE)
    np.testing.assert_allclose(alone, events["turn"][..., None] * sound.EVENT_SOUNDS[1], atol=1e-6)
    loud = sound.mix({"bump": 5}, sound.SILENCE)
    np.testing.assert_allclose(loud, np.clip(5 * sound.EVENT_SOUNDS[2], -1, 1), atol=1e-6)
    with pytest.raises(ValueError, match="Events are step, .* got jump"):
        sound.mix({"jump": True}, sound.SILENCE)


def test_the_page_s_examples_run(repository: pathlib.Path):
    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "sound.md").read_text(), re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(block, names)
