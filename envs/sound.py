"""What an agent with one ear hears in a step: sounds of events and of beacons, as waveforms made by formula."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs


SAMPLE_RATE = 8000  # Hz
SAMPLES = 800  # of a step, 0.1 s
NUM_BEACONS = 8

# Of a sound by itself: an event together with a beacon stays within [-1, 1].
_PEAK = 0.5
# Cells from the beacon at which it is half as loud as beside it.
_HALF_DISTANCE = 2.0
_LOWEST_HZ = 330.0
_OVERTONES = (2, 3, 4, 5)
_SECONDS = np.arange(SAMPLES) / SAMPLE_RATE
_ATTACK_S, _LONGEST_S = 0.004, 0.09


class _Tone(NamedTuple):
    """A tone that glides from one frequency to another; a partial is (multiple of the frequency, level)."""

    start_hz: float
    end_hz: float
    seconds: float
    partials: tuple[tuple[float, float], ...] = ((1, 1),)


_CREAK = ((1, 1), (2, 0.8), (3, 0.7), (4, 0.6), (5, 0.5))
_TONES = {
    "step": _Tone(150, 100, 0.05, ((1, 1), (2, 0.3))),
    "turn": _Tone(1900, 1700, 0.02),
    "bump": _Tone(90, 60, _LONGEST_S, ((1, 1), (3, 0.6), (5, 0.5), (7, 0.4))),
    "pickup": _Tone(600, 1200, 0.07),
    "drop": _Tone(1200, 500, 0.07),
    "open": _Tone(220, 440, _LONGEST_S, _CREAK),
    "close": _Tone(440, 220, _LONGEST_S, _CREAK),
    "success": _Tone(700, 1000, _LONGEST_S, ((1, 1), (1.26, 1), (1.5, 1), (2, 1))),
}
# What can be heard to happen; a door or a box opens, a door closes.
EVENTS = tuple(_TONES)


def _envelope(seconds: float) -> np.ndarray:
    """`[S]`: up and down again as half Hann windows, 0 from `seconds` on, so that nothing clicks."""
    rise = np.clip(_SECONDS / _ATTACK_S, 0, 1)
    fall = np.clip((_SECONDS - _ATTACK_S) / (seconds - _ATTACK_S), 0, 1)
    return np.sin(np.pi / 2 * rise) ** 2 * np.cos(np.pi / 2 * fall) ** 2


def _event_sound(tone: _Tone) -> np.ndarray:
    glide = (tone.end_hz - tone.start_hz) / (2 * tone.seconds)
    cycles = tone.start_hz * _SECONDS + glide * _SECONDS**2
    wave = sum(level * np.sin(2 * np.pi * multiple * cycles) for multiple, level in tone.partials)
    wave = wave * _envelope(tone.seconds)
    return wave * _PEAK / np.abs(wave).max()


def _beacon_sound(number: int) -> np.ndarray:
    """`[2, S]`: the fundamental, and the overtones together."""
    cycles = _LOWEST_HZ * 2 ** (number / NUM_BEACONS) * _SECONDS
    partials = [np.sin(2 * np.pi * k * cycles) / k for k in (1, *_OVERTONES)]
    wave = np.stack([partials[0], np.sum(partials[1:], axis=0)]) * _envelope(_LONGEST_S)
    return wave * _PEAK / np.abs(wave.sum(axis=0)).max()


# float32 [events, S], and float32 [beacons, 2, S]: the fundamental and the overtones of each. The pitches of beacons
# divide an octave from 330 Hz on into equal steps.
EVENT_SOUNDS = np.stack([_event_sound(_TONES[name]) for name in EVENTS]).astype(np.float32)
BEACON_SOUNDS = np.stack([_beacon_sound(number) for number in range(NUM_BEACONS)]).astype(np.float32)
# Beacon levels where there is no beacon.
SILENCE = np.zeros((NUM_BEACONS, 2), np.float32)


def gain(distance: Any) -> Any:
    """How loud a beacon is, in (0, 1]: `1 / (1 + distance / 2)`, the distance in cells as the crow flies.

    Walls and objects hide no sound.
    """
    return 1 / (1 + distance / _HALF_DISTANCE)


def brightness(cosine: Any) -> Any:
    """What is left of a beacon's overtones, in [0, 1]: `(1 + cosine) / 2`.

    The head's shadow: all of them where the agent looks at the beacon, none where it looks away from it.

    Args:
      cosine: of the angle between where the agent looks and where the beacon is.
    """
    return (1 + cosine) / 2


def beacon_levels(beacon: Any, offset: Any, forward: Any) -> Any:
    """How loud one beacon is to an agent; jittable.

    The fundamental has the level `gain`, the overtones `gain * brightness`. So one ear hears how far away the beacon is
    and how far to the side, if not to which.

    Args:
      beacon: int `[...]`, its number, below NUM_BEACONS.
      offset: `[..., 2]`, cells (x, y) from the agent to the beacon; 0, 0 sounds as straight ahead.
      forward: `[..., 2]`, the unit vector (x, y) of where the agent looks.

    Returns:
      float32 `[..., NUM_BEACONS, 2]`, for `mix`; NumPy's for NumPy arrays and numbers, else JAX's. Several beacons
      sound together where their levels are added.
    """
    xp = _library(beacon, offset, forward)
    offset, forward = xp.asarray(offset, np.float32), xp.asarray(forward, np.float32)
    distance = xp.sqrt((offset**2).sum(-1))
    cosine = xp.where(distance > 0, (offset * forward).sum(-1) / xp.maximum(distance, 1e-6), 1)
    levels = xp.stack([gain(distance), gain(distance) * brightness(cosine)], -1)
    chosen = xp.asarray(beacon)[..., None] == np.arange(NUM_BEACONS)
    return xp.where(chosen[..., None], levels[..., None, :], 0).astype(np.float32)


def mix(events: Mapping[str, Any], beacons: Any) -> Any:
    """The waveform of a step: the sounds of what happened and of the beacons, added and clipped; jittable.

    Args:
      events: bool `[...]`, or how loud, by names of `EVENTS`; what is not named did not happen.
      beacons: float32 `[..., NUM_BEACONS, 2]` (`beacon_levels`), or `SILENCE`. Leading axes are broadcast.

    Returns:
      float32 `[..., S]` in [-1, 1]; NumPy's for NumPy arrays and numbers, else JAX's.

    Raises:
      ValueError: for an event that there is not.
    """
    if unknown := sorted(set(events) - set(EVENTS)):
        raise ValueError(f"Events are {', '.join(EVENTS)}, got {', '.join(unknown)}.")
    xp = _library(beacons, *events.values())
    # NumPy's matmul would wake BLAS's threads for a few thousand products; JAX's on an accelerator would round.
    product = np.einsum if xp is np else functools.partial(jnp.einsum, precision="highest")
    wave = product("...nk,nks->...s", beacons, BEACON_SOUNDS)
    for name, level in events.items():
        wave = wave + xp.asarray(level, np.float32)[..., None] * EVENT_SOUNDS[EVENTS.index(name)]
    return xp.clip(wave, -1, 1)


def audio_spec() -> specs.BoundedArray:
    """The spec of the observation `audio`."""
    return specs.BoundedArray((SAMPLES,), np.float32, -1.0, 1.0, "audio")


def _library(*arrays: Any) -> Any:
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np
