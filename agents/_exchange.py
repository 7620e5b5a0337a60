"""Histories in and out of other formats, and a summary of a store."""

import contextlib
import json
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..envs import LAST, MID
from ._blocks import check_block, episode_ends, split_blocks
from ._manifest import HistoryError, Manifest, is_spec
from .histories import HistoryReader, HistoryWriter


_MANIFEST_KEY, _MARKS_KEY = "limbeck_manifest", "limbeck_watermarks"


def show_histories(path: str | pathlib.Path) -> dict[str, Any]:
    """A store in figures, as JSON values.

    Returns:
      `environment`, `environment_kwargs`, `histories`, `tasks`, `length`, `steps` (below the watermarks),
      `complete`, `watermarks` (min, max), `split` (salt, seed, held_out, and histories of each kind),
      `size_on_disk` in bytes, `compression_ratio`, `cuts`, `settings`, and for every algorithm
      `algorithms[name]`: `histories`, and mean returns over the `first_10` and `last_10` whole episodes
      of each history (None without whole episodes).

    Raises:
      HistoryError: not a store, or one that cannot be trusted.
    """
    reader = HistoryReader(path)
    manifest, marks = reader.manifest, reader.watermarks
    returns: dict[str, list[tuple[float, float]]] = {info.algorithm: [] for info in manifest.histories}
    for group in range(manifest.num_groups):
        rows = manifest.rows(group)
        times = range(int(marks[rows.start]))
        fields = reader.read_rows(rows, times, ("step_type", "reward"))
        ends = episode_ends(manifest, fields["step_type"], list(rows))
        for row, history in enumerate(rows):
            edges = np.flatnonzero(ends[row]) + 1
            if len(edges):
                totals = np.concatenate([[0.0], np.cumsum(fields["reward"][row], dtype=np.float64)])
                episodes = np.diff(totals[np.concatenate([[0], edges])])
                algorithm = manifest.histories[history].algorithm
                returns[algorithm].append((episodes[:10].mean(), episodes[-10:].mean()))
    size = sum(file.stat().st_size for file in pathlib.Path(path).rglob("*") if file.is_file())
    per_row = sum(
        int(np.prod(spec["shape"], dtype=np.int64)) * np.dtype(spec["dtype"]).itemsize
        for spec in manifest.fields().values()
    )
    splits = [info.split for info in manifest.histories]
    names = [info.algorithm for info in manifest.histories]
    return {
        "path": str(path),
        "environment": manifest.environment,
        "environment_kwargs": manifest.environment_kwargs,
        "histories": len(manifest.histories),
        "tasks": len({info.task_id for info in manifest.histories}),
        "length": manifest.length,
        "steps": int(marks.sum()),
        "complete": bool((marks == manifest.length).all()),
        "watermarks": {"min": int(marks.min()), "max": int(marks.max())},
        "split": {**manifest.split, "histories": {name: splits.count(name) for name in sorted(set(splits))}},
        "size_on_disk": size,
        "compression_ratio": round(float(marks.sum()) * per_row / size, 2),
        "cuts": [list(cut) for cut in manifest.cuts],
        "settings": manifest.settings,
        "algorithms": {
            name: {
                "histories": names.count(name),
                "first_10": float(np.mean([first for first, _ in pairs])) if pairs else None,
                "last_10": float(np.mean([last for _, last in pairs])) if pairs else None,
            }
            for name, pairs in returns.items()
        },
    }


def export_npz(path: str | pathlib.Path, file: str | pathlib.Path) -> None:
    """Writes a store's rows and manifest to one compressed npz file, without pickles.

    Entries: every field `[H, T, …]`, zeros beyond a watermark; `limbeck_watermarks` `[H]`; the manifest
    as a JSON string. Raises `HistoryError`.
    """
    reader = HistoryReader(path)
    reader.verify()
    manifest, marks = reader.manifest, reader.watermarks
    arrays = _empty(manifest)
    for group in range(manifest.num_groups):
        rows = manifest.rows(group)
        times = range(int(marks[rows.start]))
        for name, array in reader.read_rows(rows, times).items():
            arrays[name][rows.start : rows.stop, : len(times)] = array
    file = pathlib.Path(file)
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with open(temporary, "wb") as opened:
            entries: dict[str, Any] = {_MANIFEST_KEY: json.dumps(manifest.to_json()), _MARKS_KEY: marks}
            np.savez_compressed(opened, **arrays, **entries)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise HistoryError(f"Cannot write {file}: {error.strerror or error}.") from error


def import_npz(file: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Makes a store of what `export_npz` wrote, checked like any block. Raises `HistoryError`."""
    try:
        with np.load(file, allow_pickle=False) as entries:
            arrays = dict(entries)
    except (OSError, ValueError, EOFError) as error:
        raise HistoryError(f"Cannot read {file}: {getattr(error, 'strerror', None) or error}.") from error
    if _MANIFEST_KEY not in arrays or _MARKS_KEY not in arrays:
        raise HistoryError(f"{file} is not an export of histories: it has no {_MANIFEST_KEY}.")
    manifest = _parse_manifest(str(arrays.pop(_MANIFEST_KEY)), file)
    marks = arrays.pop(_MARKS_KEY)
    _write_store(path, manifest, arrays, marks)


def export_minari(path: str | pathlib.Path, dataset_id: str) -> None:
    """Writes a store as a local Minari dataset, an episode each, histories one after the other.

    The manifest lies in the dataset's metadata, the history and its task in each episode's. An episode
    without an end (at a cut, or where a history stops) repeats its last observation as the final one.

    Raises:
      HistoryError: the dataset exists already, or holds what Minari cannot: uint8 observations (it
        stores them as JPEG, which changes them), discounts other than 0 and 1, or extra fields.
    """
    minari, gymnasium = _minari(), _gymnasium()
    reader = HistoryReader(path)
    reader.verify()
    manifest = reader.manifest
    specs = {"": manifest.observation} if is_spec(manifest.observation) else dict(manifest.observation)
    if any(spec["dtype"] == "uint8" and spec["shape"] for spec in specs.values()):
        raise HistoryError("Minari stores uint8 observations as JPEG, which changes them: export to npz.")
    if manifest.extras:
        raise HistoryError(f"Minari has no place for the fields {', '.join(manifest.extras)}: export to npz.")
    spaces = {key: _space(gymnasium, spec) for key, spec in specs.items()}
    buffers, metadata = [], []
    for history, episode in _episodes(reader):
        discount, last = episode["discount"], episode["step_type"][-1] == LAST
        terminated = bool(last and discount[-1] == 0)
        if not np.array_equal(discount, np.append(np.ones(len(discount) - 1), 0.0 if terminated else 1.0)):
            raise HistoryError(f"Minari has no discounts between 0 and 1 (history {history}): export to npz.")
        ended = np.arange(len(discount)) == len(discount) - 1
        observations = {}
        for key in specs:
            name = f".{key}" if key else ""
            rows = episode[f"observation{name}"]
            final = episode[f"final_observation{name}"][-1:] if last else rows[-1:]
            observations[key] = np.concatenate([rows, final])
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=len(buffers),
                observations=observations if "" not in specs else observations[""],
                actions=episode["action"],
                rewards=episode["reward"],
                terminations=ended & terminated,
                truncations=ended & bool(last and not terminated),
            )
        )
        info = manifest.histories[history]
        metadata.append({"history": history, "task_id": info.task_id, "split": info.split})
    if not buffers:
        raise HistoryError(f"{path} has no rows to export.")
    try:
        with warnings.catch_warnings():
            # There is no gymnasium environment to name, and Minari says so each time.
            warnings.filterwarnings("ignore", "`eval_env` is set to None|env_spec is None", UserWarning)
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                buffers,
                observation_space=spaces[""] if "" in specs else gymnasium.spaces.Dict(spaces),
                action_space=_space(gymnasium, manifest.action),
                algorithm_name=", ".join(sorted({info.algorithm for info in manifest.histories})),
                author={"unknown"},
                author_email={"unknown"},
                code_permalink="unknown",
                description=f"Learning histories on {manifest.environment}.",
            )
        dataset.storage.update_episode_metadata(metadata, range(len(buffers)))
        marks = [int(mark) for mark in reader.watermarks]
        dataset.storage.update_metadata({_MANIFEST_KEY: json.dumps(manifest.to_json()), _MARKS_KEY: marks})
    except (ValueError, OSError) as error:
        raise HistoryError(f"Minari cannot make the dataset {dataset_id}: {error}.") from error


def import_minari(dataset_id: str, path: str | pathlib.Path) -> None:
    """Makes a store of what `export_minari` wrote, checked like any block. Raises `HistoryError`."""
    minari = _minari()
    try:
        dataset = minari.load_dataset(dataset_id)
    except (FileNotFoundError, ValueError, OSError) as error:
        raise HistoryError(f"There is no local Minari dataset {dataset_id}: {error}") from error
    metadata = dataset.storage.metadata
    if _MANIFEST_KEY not in metadata:
        raise HistoryError(f"{dataset_id} is not an export of histories: it has no {_MANIFEST_KEY}.")
    manifest = _parse_manifest(metadata[_MANIFEST_KEY], dataset_id)
    arrays, filled = _empty(manifest), np.zeros(len(manifest.histories), np.int64)
    places = dataset.storage.get_episode_metadata(range(dataset.total_episodes))
    for place, episode in zip(places, dataset.iterate_episodes(), strict=True):
        history, steps = int(place["history"]), len(episode.rewards)
        if not 0 <= history < len(filled) or filled[history] + steps > manifest.length:
            raise HistoryError(f"Episode {episode.id} of {dataset_id} does not fit history {history}.")
        start = int(filled[history])
        rows = slice(start, start + steps)
        observations = episode.observations
        for name, array in _by_key(observations):
            arrays[f"observation{name}"][history, rows] = array[:-1]
        arrays["action"][history, rows] = episode.actions
        arrays["reward"][history, rows] = episode.rewards
        arrays["discount"][history, rows] = ~np.asarray(episode.terminations, bool)
        over = np.asarray(episode.terminations, bool) | np.asarray(episode.truncations, bool)
        arrays["step_type"][history, rows] = np.where(over, LAST, MID)
        if over[-1]:
            for name, array in _by_key(observations):
                arrays[f"final_observation{name}"][history, start + steps - 1] = array[-1]
        filled[history] += steps
    marks = np.asarray(metadata[_MARKS_KEY], np.int64)
    if filled.tolist() != marks.tolist():
        history = int(np.argmax(filled != marks))
        raise HistoryError(
            f"{dataset_id} has {filled[history]} steps of history {history}, not {marks[history]}: a gap."
        )
    _write_store(path, manifest, arrays, marks)


def _write_store(
    path: str | pathlib.Path, manifest: Manifest, arrays: Mapping[str, np.ndarray], marks: np.ndarray
) -> None:
    """Everything is checked before the first byte is written."""
    shape = (len(manifest.histories), manifest.length)
    if marks.shape != shape[:1] or any(array.shape[:2] != shape for array in arrays.values()):
        raise HistoryError("The arrays do not have the manifest's number of histories and steps.")
    blocks = [
        (group, chunk, make())
        for group, chunk, make in split_blocks(manifest, arrays)
        if manifest.times(chunk).stop <= marks[manifest.rows(group).start]
    ]
    for group, chunk, block in blocks:
        check_block(manifest, block, manifest.rows(group), manifest.times(chunk))
    for group in range(manifest.num_groups):
        rows = manifest.rows(group)
        step_type = arrays["step_type"][rows.start : rows.stop, : int(marks[rows.start])]
        episode_ends(manifest, step_type, list(rows))
    with HistoryWriter.create_or_open(path, manifest) as writer:
        for block in blocks:
            writer.write(*block)
    HistoryReader(path).verify()


def _episodes(reader: HistoryReader) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    manifest, marks = reader.manifest, reader.watermarks
    for group in range(manifest.num_groups):
        rows = manifest.rows(group)
        fields = reader.read_rows(rows, range(int(marks[rows.start])))
        ends = episode_ends(manifest, fields["step_type"], list(rows))
        for row, history in enumerate(rows):
            edges = sorted({0, *(np.flatnonzero(ends[row]) + 1), ends.shape[1]})
            for start, stop in zip(edges, edges[1:], strict=False):
                yield history, {name: array[row, start:stop] for name, array in fields.items()}


def _empty(manifest: Manifest) -> dict[str, np.ndarray]:
    shape = (len(manifest.histories), manifest.length)
    return {name: np.zeros((*shape, *s["shape"]), s["dtype"]) for name, s in manifest.fields().items()}


def _by_key(observations: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(observations, Mapping):
        return [(f".{key}", np.asarray(value)) for key, value in observations.items()]
    return [("", np.asarray(observations))]


def _parse_manifest(text: str, source: Any) -> Manifest:
    try:
        return Manifest.from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise HistoryError(f"The manifest in {source} is damaged: {error}.") from error


def _space(gymnasium: Any, spec: Mapping[str, Any]) -> Any:
    shape, dtype = tuple(spec["shape"]), np.dtype(spec["dtype"])
    if dtype.kind == "b":
        low, high = 0, 1
    else:
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        low, high = spec.get("minimum", limits.min), spec.get("maximum", limits.max)
    if not shape and dtype.kind in "iu" and low == 0 and "maximum" in spec:
        return gymnasium.spaces.Discrete(int(high) + 1)
    low, high = (
        np.broadcast_to(np.asarray(low, dtype), shape),
        np.broadcast_to(np.asarray(high, dtype), shape),
    )
    return gymnasium.spaces.Box(low, high, shape, dtype.type)


def _minari() -> Any:
    try:
        import minari
        import minari.data_collector
    except ImportError as error:
        raise HistoryError(
            f"Minari cannot be imported ({error}): pip install 'minari[create,hdf5]'."
        ) from error
    return minari


def _gymnasium() -> Any:
    import gymnasium

    return gymnasium
