"""Learning histories on disk: one Zarr v3 array per field, a manifest and a watermark per history.

    store/
      manifest.json     what the histories are (`Manifest`)
      watermarks.json   how far each one is whole
      writer.lock       held by the one process that writes
      arrays/<field>/   `[history, time, …]`, chunked [G histories, C steps], zstd and crc32c

A chunk's place is its index, so writing it twice leaves the same bytes. A history's watermark is moved
only after every chunk below it is durable, and a reader never looks beyond it. `docs/histories.md` has
the whole format.
"""

import fcntl
import json
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorstore as ts

from ._blocks import check_block, check_values, episode_ends
from ._blocks import split_blocks as split_blocks
from ._manifest import HistoryError as HistoryError
from ._manifest import HistoryInfo as HistoryInfo
from ._manifest import Manifest as Manifest
from ._manifest import differences, read_json, spec_to_json, sync_directory, unflatten_block, write_json


_MANIFEST, _WATERMARKS, _LOCK, _ARRAYS = "manifest.json", "watermarks.json", "writer.lock", "arrays"


class HistoryWriter:
    """Writes blocks of `[G histories, C steps]`. Thread-safe; one process at a time.

    Attributes:
      path: the store's directory.
      manifest: what it holds; its `cuts` grow by `restart`.
    """

    def __init__(self, path: pathlib.Path, manifest: Manifest, lock: Any):
        self.path, self.manifest = path, manifest
        self._lock_file = lock
        self._mutex = threading.Lock()
        self._arrays = {name: _open_array(path, name, manifest, create=True) for name in manifest.fields()}
        sync_directory(path / _ARRAYS)
        sync_directory(path)
        self._watermarks = _read_watermarks(path, manifest)
        self._done: set[tuple[int, int]] = set()
        for group in range(manifest.num_groups):
            mark = self._watermarks[manifest.rows(group).start]
            whole = (c for c in range(manifest.num_chunks) if manifest.times(c).stop <= mark)
            self._done.update((group, chunk) for chunk in whole)

    @classmethod
    def create_or_open(cls, path: str | pathlib.Path, manifest: Manifest) -> "HistoryWriter":
        """Begins a store, or goes on with one of the same manifest.

        Raises:
          HistoryError: the directory cannot be written, holds something else, is being written by
            another process, or holds a store of another manifest (the differences are named).
        """
        path = pathlib.Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            strangers = {entry.name for entry in path.iterdir()} - {
                _MANIFEST, _WATERMARKS, _LOCK, _ARRAYS, f".{_MANIFEST}.tmp", f".{_WATERMARKS}.tmp"
            }  # fmt: skip
            if strangers and not (path / _MANIFEST).exists():
                raise HistoryError(f"{path} holds other files ({', '.join(sorted(strangers)[:3])}).")
            lock = open(path / _LOCK, "ab")
        except OSError as error:
            raise HistoryError(f"Cannot write histories to {path}: {error.strerror or error}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise HistoryError(f"{path} is being written by another process.") from error
        try:
            # A killed writer leaves the temporary files of chunks that no watermark covers.
            for leftover in [*path.glob(f"{_ARRAYS}/*/*.__lock"), *path.glob(".*.tmp")]:
                leftover.unlink(missing_ok=True)
            if (path / _MANIFEST).exists():
                manifest = _same_store(path, manifest)
            else:
                write_json(path / _MANIFEST, manifest.to_json())
            return cls(path, manifest, lock)
        except OSError as error:
            lock.close()
            raise HistoryError(f"Cannot write histories to {path}: {error.strerror or error}.") from error
        except BaseException:
            lock.close()
            raise

    @property
    def watermarks(self) -> np.ndarray:
        """Steps up to which each history is whole, `[H]` int64."""
        with self._mutex:
            return self._watermarks.copy()

    @property
    def complete(self) -> bool:
        """Whether every history is whole."""
        return bool((self.watermarks == self.manifest.length).all())

    def below_watermark(self, group: int, chunk: int) -> bool:
        """Whether a block is acknowledged: durable, and so is everything before it."""
        with self._mutex:
            return self.manifest.times(chunk).stop <= self._watermarks[self.manifest.rows(group).start]

    def durable(self, group: int, chunk: int) -> bool:
        """Whether a block is on disk, be it above the watermark."""
        with self._mutex:
            return (group, chunk) in self._done

    def missing(self) -> list[tuple[int, int]]:
        """(group, chunk) of every block above the watermarks: what a producer still has to deliver."""
        blocks = (
            (group, chunk)
            for group in range(self.manifest.num_groups)
            for chunk in range(self.manifest.num_chunks)
        )
        return [block for block in blocks if not self.below_watermark(*block)]

    def write(self, group: int, chunk: int, block: Mapping[str, Any]) -> None:
        """Writes one block durably, in any order and any number of times.

        Args:
          group: index along the history axis.
          chunk: index along the time axis.
          block: every field `[G, C, …]` (short at the end of an axis): observation (an array or a
            dictionary of them), action, reward, discount, step_type, final_observation and the extras.

        Raises:
          HistoryError: the place or the block is wrong, or the disk refuses it. What was written
            before stays whole, and the watermark stays where it was.
        """
        rows, times = self._place(group, chunk)
        fields = check_block(self.manifest, block, rows, times)
        where = (slice(rows.start, rows.stop), slice(times.start, times.stop))
        try:
            for future in [_store(self._arrays[name][where], array) for name, array in fields.items()]:
                future.result()
        except (ValueError, OSError) as error:
            raise HistoryError(
                f"Cannot write histories {rows.start} to {rows.stop - 1}, steps {times.start} to "
                f"{times.stop - 1} to {self.path}: {_reason(error)}."
            ) from error
        with self._mutex:
            self._done.add((group, chunk))
            reached = self._watermarks[rows.start]
            while reached < self.manifest.length:
                following = int(reached) // self.manifest.steps_per_chunk
                if (group, following) not in self._done:
                    break
                reached = self.manifest.times(following).stop
            if reached > self._watermarks[rows.start]:
                marks = self._watermarks.copy()
                marks[rows.start : rows.stop] = reached
                write_json(self.path / _WATERMARKS, {"watermarks": marks.tolist()})
                self._watermarks = marks

    def restart(self, group: int) -> int:
        """The streams of a group go on at its watermark with a new episode each: what followed is lost for ever.

        Records a cut for each of its histories, unless nothing of them was whole or they are whole to their
        end, and forgets blocks of the group that are durable above the watermark: they are of the lost steps.

        Returns:
          The watermark: where the streams go on.

        Raises:
          HistoryError: there is no such group.
        """
        rows, _ = self._place(group, 0)
        with self._mutex:
            time = int(self._watermarks[rows.start])
            if 0 < time < self.manifest.length:
                cuts = ((history, time) for history in rows)
                manifest = self.manifest.with_cuts((*self.manifest.cuts, *cuts))
                write_json(self.path / _MANIFEST, manifest.to_json())
                self.manifest = manifest
            whole = self.manifest.times
            self._done -= {(g, c) for g, c in self._done if g == group and whole(c).stop > time}
        return time

    def close(self) -> None:
        """Lets another process write."""
        self._lock_file.close()

    def __enter__(self) -> "HistoryWriter":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _place(self, group: int, chunk: int) -> tuple[range, range]:
        groups, chunks = self.manifest.num_groups, self.manifest.num_chunks
        if not (0 <= group < groups and 0 <= chunk < chunks):
            raise HistoryError(
                f"Block ({group}, {chunk}) lies outside the store, which has {groups} groups of histories "
                f"and {chunks} chunks of steps."
            )
        return self.manifest.rows(group), self.manifest.times(chunk)


class HistoryReader:
    """Reads a store up to its watermarks, and trusts nothing that it reads.

    Attributes:
      path: the store's directory.
      manifest: what it holds.
    """

    def __init__(self, path: str | pathlib.Path, environment: Any = None):
        """Opens a store.

        Args:
          path: its directory.
          environment: a name, or an environment whose name, specs and number of tasks must fit.

        Raises:
          HistoryError: not a store, another format version, or another environment.
        """
        self.path = pathlib.Path(path)
        self.manifest = Manifest.from_json(read_json(self.path / _MANIFEST))
        if environment is not None:
            _check_environment(self.path, self.manifest, environment)
        self._arrays = {name: _open_array(self.path, name, self.manifest) for name in self.manifest.fields()}
        self._watermarks = _read_watermarks(self.path, self.manifest)

    def __len__(self) -> int:
        return len(self.manifest.histories)

    @property
    def watermarks(self) -> np.ndarray:
        """Steps up to which each history was whole when the store was opened, `[H]` int64."""
        return self._watermarks.copy()

    def read(self, history: int, start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Rows `start` to `stop` of a history (to its watermark by default), every field `[rows, …]`.

        Raises:
          HistoryError: no such history, rows beyond its watermark, a gap, a bad checksum, or values
            that the manifest rules out; the message names the history and the time.
        """
        if not 0 <= history < len(self):
            raise HistoryError(f"There is no history {history}: {self.path} has {len(self)}.")
        mark = int(self._watermarks[history])
        stop = mark if stop is None else stop
        if not 0 <= start <= stop <= mark:
            raise HistoryError(
                f"History {history} is whole up to step {mark}; steps {start} to {stop} were asked for."
            )
        rows = range(history, history + 1)
        fields = {name: array[0] for name, array in self.read_rows(rows, range(start, stop)).items()}
        return unflatten_block(fields)

    def read_rows(
        self, rows: range, times: range, names: tuple[str, ...] | None = None
    ) -> dict[str, np.ndarray]:
        """Flat fields `[len(rows), len(times), …]` below the watermarks, checked. Raises `HistoryError`."""
        return self.start_read(rows, times, names)()

    def start_read(self, rows: range, times: range, names: tuple[str, ...] | None = None) -> Any:
        """Begins `read_rows`; calling the result ends it. So reading overlaps with other work."""
        if (self._watermarks[rows.start : rows.stop] < times.stop).any():
            history = rows.start + int(np.argmax(self._watermarks[rows.start : rows.stop] < times.stop))
            raise HistoryError(
                f"History {history} is whole up to step {self._watermarks[history]}; step {times.stop - 1} "
                "was asked for."
            )
        specs = self.manifest.fields()
        result, pending = {}, []
        for name in names or tuple(specs):
            shape = (len(rows), len(times), *specs[name]["shape"])
            result[name] = np.empty(shape, specs[name]["dtype"])
            for r in _pieces(rows, self.manifest.histories_per_chunk):
                for t in _pieces(times, self.manifest.steps_per_chunk):
                    source = self._arrays[name][r.start : r.stop, t.start : t.stop]
                    target = result[name][
                        r.start - rows.start : r.stop - rows.start,
                        t.start - times.start : t.stop - times.start,
                    ]
                    pending.append((name, r, t, target, source.read()))

        def end() -> dict[str, np.ndarray]:
            for name, r, t, target, future in pending:
                try:
                    target[...] = future.result()
                except (ValueError, OSError) as error:
                    raise HistoryError(
                        f"Field {name} of histories {r.start} to {r.stop - 1}, steps {t.start} to "
                        f"{t.stop - 1} in {self.path}: {_reason(error, reading=True)}."
                    ) from error
            check_values(self.manifest, result, list(rows), times.start)
            return result

        return end

    def verify(self) -> None:
        """Reads everything below the watermarks. Raises `HistoryError` at the first thing wrong."""
        for group in range(self.manifest.num_groups):
            rows = self.manifest.rows(group)
            times = range(int(self._watermarks[rows.start]))
            fields = self.read_rows(rows, times)
            ends = episode_ends(self.manifest, fields["step_type"], list(rows))
            for name in fields:
                if name.startswith("final_observation"):
                    stray = fields[name].any(axis=tuple(range(2, fields[name].ndim))) & ~ends
                    if stray.any():
                        row, step = np.argwhere(stray)[0]
                        raise HistoryError(
                            f"Field {name} holds a value where no episode ends (history "
                            f"{rows[row]}, time {step})."
                        )


def _same_store(path: pathlib.Path, manifest: Manifest) -> Manifest:
    """The manifest on disk, where it differs from `manifest` at most in its cuts."""
    found = Manifest.from_json(read_json(path / _MANIFEST))
    theirs = json.loads(json.dumps(found.with_cuts(()).to_json()))
    ours = json.loads(json.dumps(manifest.with_cuts(()).to_json()))
    if theirs != ours:
        raise HistoryError(
            f"{path} holds other histories. Differences: {differences(theirs, ours)}. Use the settings "
            "that it was made with, or another directory."
        )
    return found


def _open_array(path: pathlib.Path, name: str, manifest: Manifest, create: bool = False) -> Any:
    spec = manifest.fields()[name]
    metadata = {
        "shape": [len(manifest.histories), manifest.length, *spec["shape"]],
        "data_type": spec["dtype"],
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [*manifest.block_shape, *(max(1, n) for n in spec["shape"])]},
        },
        # One flat directory per field: a chunk's rename is made durable with its directory.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": False if spec["dtype"] == "bool" else 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 3}},
            {"name": "crc32c"},
        ],
    }
    directory = path / _ARRAYS / name
    try:
        return ts.open(  # pyright: ignore[reportAttributeAccessIssue]  # of a C extension without stubs
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{directory}/"},
                "metadata": metadata,
                # A chunk of zeros is written like any other, or it would look like a gap.
                "store_data_equal_to_fill_value": True,
                "fill_missing_data_reads": False,
            },
            open=True,
            create=create,
        ).result()
    except (ValueError, OSError) as error:
        raise HistoryError(f"Cannot open the array {directory}: {_reason(error)}.") from error


def _store(view: Any, array: np.ndarray) -> Any:
    """Begins to write; the future ends when the bytes are on disk."""
    return view.write(array).commit


def _read_watermarks(path: pathlib.Path, manifest: Manifest) -> np.ndarray:
    if not (path / _WATERMARKS).exists():
        return np.zeros(len(manifest.histories), np.int64)
    try:
        marks = np.asarray(read_json(path / _WATERMARKS)["watermarks"], np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise HistoryError(f"{path / _WATERMARKS} is damaged: {error}.") from error
    whole = marks.shape == (len(manifest.histories),)
    if not whole or (marks < 0).any() or (marks > manifest.length).any():
        raise HistoryError(f"{path / _WATERMARKS} does not fit the manifest beside it.")
    first = np.arange(len(marks)) // manifest.histories_per_chunk * manifest.histories_per_chunk
    if (marks != marks[first]).any():
        raise HistoryError(f"{path / _WATERMARKS} is damaged: histories of one chunk differ.")
    return marks


def _check_environment(path: pathlib.Path, manifest: Manifest, environment: Any) -> None:
    name = environment if isinstance(environment, str) else environment.name
    if name != manifest.environment:
        raise HistoryError(f"{path} holds histories of {manifest.environment}, not of {name}.")
    if isinstance(environment, str):
        return
    theirs = {"observation": manifest.observation, "action": manifest.action, "max_steps": manifest.max_steps}
    ours = {
        "observation": spec_to_json(environment.observation_spec()),
        "action": spec_to_json(environment.action_spec()),
        "max_steps": environment.max_steps,
    }
    if theirs != ours:
        raise HistoryError(f"{path} holds histories of another {name}: {differences(theirs, ours)}.")
    if environment.num_tasks is not None:
        for history, info in enumerate(manifest.histories):
            if not 0 <= info.task_id < environment.num_tasks:
                raise HistoryError(
                    f"History {history} in {path} is of task {info.task_id}; {name} has tasks 0 to "
                    f"{environment.num_tasks - 1}."
                )


def _pieces(indices: range, size: int) -> list[range]:
    """`indices` cut where chunks of `size` meet."""
    edges = [*range(indices.start - indices.start % size, indices.stop, size), indices.stop]
    pairs = zip(edges, edges[1:], strict=False)
    return [range(max(a, indices.start), b) for a, b in pairs]


def _reason(error: Exception, reading: bool = False) -> str:
    """TensorStore's message without its spec and source lines; what it means, where a chunk is read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    for marker in (" [source locations", " [tensorstore_spec"):
        text = text.partition(marker)[0]
    text = text.rstrip(".")
    if not reading or "OS error" in text:
        return text
    return f"{'a gap' if 'is missing' in text else 'damaged'}: {text.partition(': ')[2] or text}"
