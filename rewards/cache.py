"""Each frame is encoded once: caches in front of an encoder and of a plain callable."""

import hashlib
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._disk_tier import DiskTier
from ._scoring import padded, power_of_two
from ._single_flight import CacheStats, SingleFlight
from .contract import (
    FrameEncoder,
    RewardError,
    RewardModel,
    check_embeddings,
    check_frames,
    check_goals,
    check_rewards,
    form_of,
)
from .frame_keys import frame_keys


# Calls of so many frames or fewer take about as long as each other.
_SMALL = 16


class CachedEncoder:
    """An encoder that remembers, with the same fingerprint and the same vectors.

    What has to be encoded goes to the encoder in micro-batches of at most `batch` frames, each a power of two, filled
    up with its last frame where few are missing, so that a compiled encoder sees log2(batch) + 1 shapes. One thread
    encodes at a time; a frame that another thread is encoding is waited for.

    Attributes:
      fingerprint: the encoder's.
      name: the encoder's, or that of its class.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        capacity: int = 65_536,
        directory: str | pathlib.Path | None = None,
        batch: int = 128,
        disk_capacity: int = 1_000_000,
    ):
        """Puts a cache in front of an encoder.

        Args:
          encoder: the encoder.
          capacity: embeddings in memory, each of 4 D bytes.
          directory: where embeddings are kept on disk, for later runs and other processes too; None for memory only.
            Encoders do not mix: each fingerprint has a folder of its own in it.
          batch: most frames in one call of the encoder, a power of two.
          disk_capacity: embeddings on disk, for each fingerprint.

        Raises:
          RewardError: no encoder, or a size out of range.
        """
        if form_of(encoder) != "encoder":
            raise RewardError(f"CachedEncoder takes an encoder, got a model of the form {form_of(encoder)}")
        _check_sizes(capacity, batch)
        if disk_capacity < 1:
            raise RewardError(f"disk_capacity is at least 1, got {disk_capacity}")
        self._encoder, self._batch = encoder, batch
        self.fingerprint = encoder.fingerprint
        self.name = getattr(encoder, "name", None) or type(encoder).__name__
        self._cache = SingleFlight(capacity)
        self._encoding = threading.Lock()
        self._disk: DiskTier | None = None
        self._path: pathlib.Path | None = None
        self._disk_capacity = disk_capacity
        if directory is not None:
            folder = hashlib.blake2b(self.fingerprint.encode(), digest_size=16).hexdigest()
            self._path = pathlib.Path(directory) / folder / f"embeddings_xxh3_{disk_capacity}.npy"

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """See `FrameEncoder`."""
        frames = check_frames(frames)
        keys = frame_keys(frames)

        def make(places: list[int]) -> tuple[list[np.ndarray], int]:
            with self._encoding:
                return self._make([keys[place] for place in places], frames[places])

        return np.stack(self._cache.fetch(keys, make))

    def encode_goals(self, texts: Sequence[str]) -> np.ndarray:
        """The encoder's own: goals are few and encoded once by whoever scores."""
        return self._encoder.encode_goals(texts)

    def stats(self) -> CacheStats:
        """How often what was asked for was there."""
        return self._cache.stats()

    def _make(self, keys: list[bytes], frames: np.ndarray) -> tuple[list[np.ndarray], int]:
        """The embeddings of frames that are not in memory, and how many were on disk."""
        found: list[np.ndarray | None] = [None] * len(keys)
        if self._disk is None and self._path is not None and self._path.exists():
            self._disk = DiskTier(self._path)
        if self._disk is not None:
            found = self._disk.get(keys)
        missing = [place for place, embedding in enumerate(found) if embedding is None]
        if missing:
            encoded = in_micro_batches(self._encode, frames[missing], self._batch)
            self._keep([keys[place] for place in missing], encoded)
            for place, embedding in zip(missing, encoded):
                # A copy, or one embedding would hold all of its batch in memory.
                found[place] = embedding.copy()
        return [embedding for embedding in found if embedding is not None], len(keys) - len(missing)

    def _keep(self, keys: list[bytes], embeddings: np.ndarray) -> None:
        """Writes to the disk tier, which is made here: only now D is known."""
        if self._path is None:
            return
        if self._disk is None:
            DiskTier.make(self._path, self._disk_capacity, embeddings.shape[1])
            self._disk = DiskTier(self._path)
        self._disk.put(keys, embeddings)

    def _encode(self, frames: np.ndarray) -> np.ndarray:
        return check_embeddings(self._encoder.encode_frames(frames), len(frames), f"{self.name}: frames")


class CachedModel:
    """A callable that remembers its rewards by (name, version, goal, frame).

    For models that are nothing but a function; where there are embeddings, cache those (`CachedEncoder`). Calls go to
    the model in micro-batches as there, one thread at a time.
    """

    def __init__(self, model: RewardModel, capacity: int = 1_000_000, batch: int = 128):
        """Puts a cache in front of a callable.

        Args:
          model: the callable.
          capacity: rewards in memory.
          batch: most frames in one call of the model, a power of two.

        Raises:
          RewardError: no callable, or a size out of range.
        """
        if form_of(model) != "callable":
            raise RewardError(f"CachedModel takes a callable, got a model of the form {form_of(model)}")
        _check_sizes(capacity, batch)
        self._model, self._batch = model, batch
        self._cache = SingleFlight(capacity)
        self._calling = threading.Lock()

    @property
    def name(self) -> str:
        """The model's."""
        return self._model.name

    @property
    def version(self) -> str:
        """The model's."""
        return self._model.version

    def __call__(self, frames: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """See `RewardModel`."""
        frames = check_frames(frames)
        texts = np.asarray(check_goals(goals, len(frames)), object)
        about = (self._model.name, self._model.version)
        keys = [(*about, goal, key) for goal, key in zip(texts, frame_keys(frames))]

        def call(frames: np.ndarray, texts: np.ndarray) -> np.ndarray:
            return check_rewards(self._model(frames, list(texts)), len(frames), what=about[0])

        def make(places: list[int]) -> tuple[Sequence[Any], int]:
            with self._calling:
                return list(in_micro_batches(call, frames[places], self._batch, texts[places])), 0

        return np.asarray(self._cache.fetch(keys, make), np.float32)

    def stats(self) -> CacheStats:
        """How often what was asked for was there."""
        return self._cache.stats()


def in_micro_batches(
    function: Callable[..., np.ndarray], frames: np.ndarray, batch: int, *others: np.ndarray
) -> np.ndarray:
    """Calls a function on frames `[N, …]` (and other arrays `[N]`) in ragged micro-batches of few shapes.

    Args:
      function: arrays of n rows to an array of n rows, each row by itself.
      frames: the first array.
      batch: n is at most that, and a power of two: where few are missing it is filled up with the last row.
      *others: further arrays.

    Returns:
      `[N, …]`, in order.
    """
    results, start = [], 0
    while start < len(frames):
        size = _micro_batch(len(frames) - start, batch)
        rows = [array[start : start + size] for array in (frames, *others)]
        count = len(rows[0])
        results.append(function(*(padded(array, size) for array in rows))[:count])
        start += count
    return np.concatenate(results)


def _micro_batch(left: int, batch: int) -> int:
    """The power of two that is called next: no more than a quarter of it is filling, unless it is small anyway."""
    size = min(batch, power_of_two(left))
    return size if size <= _SMALL or 4 * left >= 3 * size else size // 2


def _check_sizes(capacity: int, batch: int) -> None:
    if capacity < 1:
        raise RewardError(f"capacity is at least 1, got {capacity}")
    if batch < 1 or batch != power_of_two(batch):
        raise RewardError(f"batch is a power of two, got {batch}")
