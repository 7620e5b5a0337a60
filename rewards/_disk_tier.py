"""Embeddings on disk, in one file of fixed size that processes share and that a kill cannot spoil."""

import logging
import os
import pathlib
import tempfile
import weakref
import zlib
from collections.abc import Sequence

import numpy as np

from .contract import RewardError
from .frame_keys import KEY_BYTES


_log = logging.getLogger("limbeck.rewards")

_WAYS = 4


class DiskTier:
    """A table from keys to embeddings: sets of four rows, each row a key, a checksum and an embedding.

    The file is an npy array of records, `numpy.load(path, mmap_mode="r", allow_pickle=False)` reads it. A key belongs
    to one set, and takes a free row of it or, where there is none, the place of another. A row that was half written
    (killed, or two processes at one row) fails its checksum and is free. Writes go through `os.pwrite`, so that a
    full disk is an error and no signal; it is logged once and the tier then only reads. One thread at a time.
    """

    def __init__(self, path: pathlib.Path):
        """Opens a file that `make` has made.

        Raises:
          RewardError: it is something else.
        """
        self.path = path
        try:
            with open(path, "rb") as file:
                np.lib.format.read_magic(file)
                shape, _, self._row = np.lib.format.read_array_header_1_0(file)
                self._offset = file.tell()
            self._sets = shape[0] // _WAYS
            matches = self._row == _row(self._row["embedding"].shape[0])
        except (ValueError, KeyError, IndexError, TypeError):
            matches = False
        if not matches:
            raise RewardError(f"{path} holds no cached embeddings: delete it")
        self._file = os.open(path, os.O_RDWR)
        weakref.finalize(self, os.close, self._file)
        self._writes = True

    @staticmethod
    def make(path: pathlib.Path, rows: int, dimension: int) -> None:
        """Makes an empty file, unless there is one.

        Args:
          path: where, in a folder of one fingerprint.
          rows: most embeddings, rounded up to whole sets. The file is sparse until it fills.
          dimension: D.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        row, shape = _row(dimension), (-(-rows // _WAYS) * _WAYS,)
        header = {"descr": np.lib.format.dtype_to_descr(row), "fortran_order": False, "shape": shape}
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as made:
            np.lib.format.write_array_header_1_0(made, header)
            made.truncate(made.tell() + shape[0] * row.itemsize)
        try:
            # A link, since a rename would take the place of another process's file.
            os.link(made.name, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(made.name)

    def get(self, keys: Sequence[bytes]) -> list[np.ndarray | None]:
        """The embedding `[D]` of each key, None where it is not there."""
        return [self._get(key) for key in keys]

    def put(self, keys: Sequence[bytes], embeddings: np.ndarray) -> None:
        """Writes embeddings `[N, D]`."""
        if not self._writes:
            return
        try:
            for key, embedding in zip(keys, embeddings):
                self._put(key, embedding)
        except OSError as error:
            self._writes = False
            _log.warning("%s: %s; embeddings are no longer written there", self.path, error.strerror)

    def _set(self, key: bytes) -> tuple[int, np.ndarray]:
        """Where a key's set begins, and its rows."""
        start = self._offset + int.from_bytes(key[:8], "little") % self._sets * _WAYS * self._row.itemsize
        # A file that was cut short reads as empty rows.
        read = os.pread(self._file, _WAYS * self._row.itemsize, start).ljust(
            _WAYS * self._row.itemsize, b"\0"
        )
        return start, np.frombuffer(read, self._row)

    def _get(self, key: bytes) -> np.ndarray | None:
        _, rows = self._set(key)
        for row in rows:
            if row["key"].tobytes() == key and _is_whole(row):
                return row["embedding"].astype(np.float32)
        return None

    def _put(self, key: bytes, embedding: np.ndarray) -> None:
        start, rows = self._set(key)
        held = [row["key"].tobytes() if _is_whole(row) else None for row in rows]
        place = next((held.index(wanted) for wanted in (key, None) if wanted in held), key[8] % _WAYS)
        row = np.zeros((), self._row)
        row["key"] = np.frombuffer(key, np.uint8)
        row["embedding"] = embedding
        row["checksum"] = _checksum(row)
        os.pwrite(self._file, row.tobytes(), start + place * self._row.itemsize)


def _row(dimension: int) -> np.dtype:
    return np.dtype([("key", "u1", (KEY_BYTES,)), ("checksum", "<u4"), ("embedding", "<f4", (dimension,))])


def _checksum(row: np.ndarray | np.void) -> int:
    return zlib.crc32(row["embedding"].tobytes(), zlib.crc32(row["key"].tobytes()))


def _is_whole(row: np.void) -> bool:
    return int(row["checksum"]) == _checksum(row)
