"""What a network sees and hears of a film with sound, as `clip_batches` reads it."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from . import augmentations
from .log_mel import HARES_16K
from .patches import Modality, Spectrogram, Video
from .views import View, compose, fixed


def film(modalities: Mapping[str, Modality]) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, View]]:
    """The inputs and views of a `Recipe` for films: the modalities are `video` and `audio`, 16 kHz.

    Pictures are cropped, flipped and coloured, all frames of a film alike; spectrograms are masked in time and in
    frequency.

    Raises:
      ValueError: for other modalities.
    """
    video, audio = (modalities.get(name) for name in ("video", "audio"))
    if not isinstance(video, Video) or not isinstance(audio, Spectrogram):
        raise ValueError(
            f"A film has the modalities video, a Video, and audio, a Spectrogram; got {dict(modalities)}."
        )
    log_mel = dataclasses.replace(HARES_16K, mels=audio.mels)
    views = {
        "video": picture_view("video", video.height, video.width),
        "audio": compose(
            fixed(lambda example: log_mel(example["audio"])),
            functools.partial(augmentations.time_mask, width=audio.frames // 8),
            functools.partial(augmentations.frequency_mask, width=audio.mels // 4),
        ),
    }
    inputs = {
        "video": jax.ShapeDtypeStruct(video.shape, jnp.uint8),
        "audio": jax.ShapeDtypeStruct((audio.frames * log_mel.hop,), jnp.float32),
    }
    return inputs, views


def picture_view(name: str, height: int, width: int) -> View:
    """A view of uint8 `[..., H, W, 3]`: cropped, flipped and coloured at random, float32 in [-1, 1]."""
    return compose(
        fixed(lambda example: example[name].astype(jnp.float32) / 255),
        functools.partial(augmentations.random_resized_crop, height=height, width=width),
        augmentations.flip,
        augmentations.colour_jitter,
        fixed(lambda x: 2 * x - 1),
    )
