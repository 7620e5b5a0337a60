"""What `zorro` learns from: pictures with spoken names, and agents' episodes with sound."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.encoders import (
    LogMel,
    Modality,
    Picture,
    Spectrogram,
    Video,
    augmentations,
    compose,
    fixed,
)
from limbeck.encoders.spoken_pictures import load, prepare

from limbeck import envs


class Examples(NamedTuple):
    """vision: uint8 `[N, …]`; audio: float32 log-mels `[N, frames, mels]`; ids: int `[N]`, equal where both fit."""

    vision: np.ndarray
    audio: np.ndarray
    ids: np.ndarray


class Split(NamedTuple):
    """A task of classes: examples and labels `[N]` to learn from, and to be judged on."""

    train: Examples
    train_labels: np.ndarray
    test: Examples
    test_labels: np.ndarray


class AudioVisual(NamedTuple):
    """A set.

    Attributes:
      modalities: by trunk.
      views: of an example with `vision` and `audio`.
      batches: `(batch, seed) -> (i -> arrays)`, for training.
      held_out: that retrieval is judged on.
      probes: by name.
    """

    modalities: Mapping[str, Mapping[str, Modality]]
    views: Mapping[str, Any]
    batches: Callable[[int, int], Callable[[int], dict[str, np.ndarray]]]
    held_out: Examples
    probes: Mapping[str, Split]


_FRAMES, _MELS = 100, 40
# 20 ms frames of 50 ms: half as many as speech recognisers take, for two seconds.
_SPEECH = LogMel(16_000, frame=800, hop=320, mels=_MELS, standardise=True)
# A fifth of a second over all frequencies; from patches of part of the band small networks learn words more slowly.
_PATCH = (10, _MELS)
_PICTURE = {"vit": 16, "swin": 8, "hip": 8}


def spoken(directory: pathlib.Path, seed: int) -> AudioVisual:
    """Tux Paint's stamps with their names; a fifth of the pictures and a quarter of the speakers are held out."""
    if not (directory / "manifest.json").exists():
        prepare(directory)
    data = load(directory)
    pictures, new_pictures = data.split_pictures((0.8, 0.2), seed)
    voices, new_voices = data.split_voices((0.75, 0.25), seed)
    mels = np.stack([_mels(wave) for wave in data.speech])

    def examples(rows: np.ndarray, said_by: np.ndarray) -> Examples:
        names = data.name_ids[rows]
        return Examples(data.pictures[rows], mels[said_by, names].astype(np.float32), names)

    def batches(batch: int, seed: int) -> Callable[[int], dict[str, np.ndarray]]:
        def one(i: int) -> dict[str, np.ndarray]:
            rng = np.random.default_rng((seed, i))
            rows = _different(rng.permutation(pictures), data.name_ids)[:batch]
            found = examples(rows, rng.choice(voices, len(rows)))
            return {"vision": found.vision, "audio": found.audio}

        return one

    rng = np.random.default_rng(seed)
    known = examples(np.tile(pictures, 2), rng.choice(voices, 2 * len(pictures)))
    labels = np.tile(data.category_ids[pictures], 2)
    unheard = examples(np.tile(pictures, 2), rng.choice(new_voices, 2 * len(pictures)))
    unseen = examples(new_pictures, rng.choice(new_voices, len(new_pictures)))
    # Cropped pictures and masked spectrograms left small networks ten times further from their aim.
    views = {"vision": compose(_scaled, augmentations.flip), "audio": fixed(lambda example: example["audio"])}
    return AudioVisual(
        {
            trunk: {
                "vision": Picture(64, 64, 3, _PICTURE[trunk]),
                "audio": Spectrogram(_FRAMES, _MELS, _PATCH),
            }
            for trunk in _PICTURE
        },
        views,
        batches,
        examples(pictures, np.resize(rng.permutation(new_voices), len(pictures))),
        {
            "new pictures": Split(known, labels, unseen, data.category_ids[new_pictures]),
            "new voices": Split(known, labels, unheard, labels),
        },
    )


_scaled = fixed(lambda example: example["vision"].astype(jnp.float32) / 127.5 - 1)


def _different(rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Those of the rows whose id none before them has."""
    _, first = np.unique(ids[rows], return_index=True)
    return rows[np.sort(first)]


def _mels(waves: np.ndarray) -> np.ndarray:
    """int16 `[U, N]` to float16 `[U, frames, mels]`."""
    compute = jax.jit(lambda x: _SPEECH(x.astype(jnp.float32) / 32768).astype(jnp.float16))
    return np.concatenate([np.asarray(compute(waves[i : i + 256])) for i in range(0, len(waves), 256)])


# Steps of an episode's window, and what an agent hears in them.
_STEPS = 8
_STEP_MEL = LogMel(envs.SAMPLE_RATE, frame=256, hop=160, mels=32, low=60.0, high=4000.0, standardise=True)


def episodes(count: int, seed: int) -> AudioVisual:
    """Windows of 8 steps from as many episodes of random walks among beeping boxes; 256 episodes more are held out."""
    vision, waves = _play(count + 256, seed)
    audio = np.concatenate(
        [np.asarray(_STEP_MEL(waves[i : i + 256]), np.float32) for i in range(0, len(waves), 256)]
    )

    def batches(batch: int, seed: int) -> Callable[[int], dict[str, np.ndarray]]:
        def one(i: int) -> dict[str, np.ndarray]:
            rows = np.random.default_rng((seed, i)).choice(count, batch, replace=False)
            return {"vision": vision[rows], "audio": audio[rows]}

        return one

    views = {"vision": _scaled, "audio": fixed(lambda example: example["audio"])}
    held_out = Examples(vision[count:], audio[count:], np.arange(256))
    tubelet, patch = (4, 14, 14), (10, 16)
    modalities = {"vision": Video(_STEPS, 56, 56, 3, tubelet), "audio": Spectrogram(40, 32, patch)}
    return AudioVisual(dict.fromkeys(_PICTURE, modalities), views, batches, held_out, {})


def _play(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 `[count, 8, 56, 56, 3]` and float32 `[count, 8 * 800]`: a window each of so many episodes."""
    world = envs.AutoReset(envs.make("beeping_box", size=8, boxes=4, views=("image", "audio")))

    def episode(key):
        of_task, of_reset, of_steps = jax.random.split(key, 3)
        task = world.sample_task(of_task)
        start = world.reset(of_reset, task)

        def step(carry, key):
            state, _ = carry
            # Half of all actions go forward, so that agents get about.
            action = jax.random.choice(key, jnp.array([0, 1, 2, 2, 2, 3]))
            state, timestep = world.step(key, task, state, action)
            return (state, timestep), (timestep.observation["image"], timestep.observation["audio"])

        _, (images, waves) = jax.lax.scan(step, start, jax.random.split(of_steps, 16))
        return images[-_STEPS:], waves[-_STEPS:].reshape(-1)

    play = jax.jit(jax.vmap(episode))
    keys = jax.random.split(jax.random.key(10_000 + seed), count)
    parts = [jax.device_get(play(keys[i : i + 256])) for i in range(0, count, 256)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
