"""Batches of clips for the training loop: a pure function of the update, decoded by threads."""

import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from .audio_visual_sets import Example
from .media import read_audio, read_duration_s, read_video


@dataclasses.dataclass(frozen=True)
class ClipFormat:
    """What is read of each example.

    Attributes:
      duration_s: length of a clip.
      sample_rate: of the sound, Hz; None reads no sound.
      fps: frames a second; None reads no film.
      size: height and width of the frames, pixels.
    """

    duration_s: float
    sample_rate: int | None = 16000
    fps: float | None = 12.5
    size: tuple[int, int] = (224, 224)

    def __post_init__(self):
        if self.sample_rate is None and self.fps is None:
            raise ValueError("a clip has sound or film: give sample_rate, fps, or both")
        for name in ("duration_s", "sample_rate", "fps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")


def clip_batches(
    examples: Sequence[Example],
    batch_size: int,
    clips: ClipFormat,
    num_classes: int,
    seed: int = 0,
    workers: int = 4,
) -> Callable[[int], dict[str, np.ndarray]]:
    """Makes the `batches` of `training.train` from examples, each once an epoch, in a new order every epoch.

    A clip begins at a random second of its example, or at the example's first where that is shorter than a clip.

    Args:
      examples: of one split.
      batch_size: clips in a batch.
      clips: what is read.
      num_classes: of the labels.
      seed: of orders and crops.
      workers: threads that decode; FFmpeg lets Python go on meanwhile.

    Returns:
      `batches(i)`, a pure function: `labels` float32 `[B, num_classes]`, 1 for each label of the example, and, as
      `clips` asks, `audio` float32 `[B, N]`, `video` uint8 `[B, T, H, W, 3]`. It raises `MediaError` or
      `FileNotFoundError` for a file that cannot be read, naming it.

    Raises:
      ValueError: if there is no example, no place in a batch, or a label of no class.
    """
    examples = tuple(examples)
    if not examples or batch_size < 1 or workers < 1:
        raise ValueError(
            f"{len(examples)} examples, batch_size {batch_size}, workers {workers}: all must be 1 or more"
        )
    if (largest := max((max(x.labels, default=0) for x in examples), default=0)) >= num_classes:
        raise ValueError(f"label {largest} is not one of {num_classes} classes")
    pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="clips")

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(len(examples))

    def row(place: int) -> dict[str, np.ndarray]:
        epoch, rank = divmod(place, len(examples))
        example = examples[order(epoch)[rank]]
        start_s = _crop(example, clips.duration_s, np.random.default_rng((seed, epoch, rank)))
        labels = np.zeros(num_classes, np.float32)
        labels[list(example.labels)] = 1.0
        arrays = {"labels": labels}
        if clips.sample_rate is not None:
            arrays["audio"] = read_audio(example.path, clips.sample_rate, start_s, clips.duration_s)
        if clips.fps is not None:
            arrays["video"] = read_video(example.path, clips.fps, clips.size, start_s, clips.duration_s)
        return arrays

    def batches(i: int) -> dict[str, np.ndarray]:
        rows = list(pool.map(row, range(i * batch_size, (i + 1) * batch_size)))
        return {name: np.stack([arrays[name] for arrays in rows]) for name in rows[0]}

    return batches


def _crop(example: Example, duration_s: float, rng: np.random.Generator) -> float:
    # Lists promise ten seconds of videos that end before.
    end_s = min(read_duration_s(example.path), math.inf if example.end_s is None else example.end_s)
    return example.start_s + rng.uniform() * max(end_s - example.start_s - duration_s, 0.0)
