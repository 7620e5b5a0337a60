"""What every block of rows must obey, whoever delivers it: a writer, a reader or an import."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..envs import LAST, MID
from ._manifest import HistoryError, Manifest, flatten_block


def check_block(
    manifest: Manifest, block: Mapping[str, Any], rows: range, times: range
) -> dict[str, np.ndarray]:
    """Checks a block `[len(rows), len(times), …]` against the manifest; returns its flat fields.

    Raises:
      HistoryError: a field is missing, unknown, of another shape or type, or out of range; the message
        names the history and the time.
    """
    fields = flatten_block(block)
    specs = manifest.fields()
    if set(fields) != set(specs):
        missing, unknown = sorted(set(specs) - set(fields)), sorted(set(fields) - set(specs))
        raise HistoryError(
            f"A block needs the fields {', '.join(specs)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
            + "."
        )
    for name, spec in specs.items():
        array = fields[name]
        shape = (len(rows), len(times), *spec["shape"])
        if array.shape != shape or array.dtype != np.dtype(spec["dtype"]):
            raise HistoryError(
                f"Field {name} of histories {_span(rows)}, steps {_span(times)} must be "
                f"{spec['dtype']}{list(shape)}; got {array.dtype}{list(array.shape)}."
            )
    check_values(manifest, fields, list(rows), times.start)
    return {name: fields[name] for name in specs}


def check_values(
    manifest: Manifest, fields: Mapping[str, np.ndarray], histories: list[int], start: int
) -> None:
    """Checks ranges, and that termination comes with an episode's end.

    Args:
      manifest: of the store.
      fields: any of its fields, flat, `[len(histories), steps, …]`.
      histories: the history of every row.
      start: the time of the first step.
    """
    specs = manifest.fields()

    def fail(bad: np.ndarray, message: str, array: np.ndarray) -> None:
        if bad.any():
            row, step = np.argwhere(bad.reshape(*bad.shape[:2], -1).any(axis=2))[0]
            raise HistoryError(
                f"{message.format(np.asarray(array[row, step]).tolist())} "
                f"(history {histories[row]}, time {start + step})."
            )

    for name, array in fields.items():
        low, high = specs[name].get("minimum"), specs[name].get("maximum")
        if name.startswith("final_observation"):
            continue  # Zeros, which a spec may exclude, wherever no episode ends.
        if np.issubdtype(array.dtype, np.floating):
            fail(~np.isfinite(array), f"Field {name} holds {{}}", array)
        if low is not None and np.any(np.isfinite(np.asarray(low, np.float64))):
            fail(array < np.asarray(low), f"Field {name} holds {{}}, below its minimum {low}", array)
        if high is not None and np.any(np.isfinite(np.asarray(high, np.float64))):
            fail(array > np.asarray(high), f"Field {name} holds {{}}, above its maximum {high}", array)
    if "step_type" in fields and "discount" in fields:
        ended = fields["step_type"] == LAST
        fail((fields["discount"] == 0) & ~ended, "Discount {} where no episode ends", fields["discount"])


def episode_ends(manifest: Manifest, step_type: np.ndarray, histories: list[int]) -> np.ndarray:
    """Which rows end an episode, `[len(histories), steps]` bool, for rows that begin at time 0.

    A row before a cut ends one too. Raises `HistoryError` where a step type is none of a row's (MID,
    LAST) or an episode is longer than the environment allows: then rows are lost or out of order.
    """
    bad = (step_type != MID) & (step_type != LAST)
    if bad.any():
        row, step = np.argwhere(bad)[0]
        raise HistoryError(
            f"Step type {step_type[row, step]} is none of a row's ({MID} or {LAST}) "
            f"(history {histories[row]}, time {step})."
        )
    ends = step_type == LAST
    position = {history: row for row, history in enumerate(histories)}
    for history, time in manifest.cuts:
        if history in position and 0 < time <= step_type.shape[1]:
            ends[position[history], time - 1] = True
    if manifest.max_steps is not None and step_type.size:
        steps = np.arange(step_type.shape[1])
        begun = np.zeros_like(step_type, np.int64)
        begun[:, 1:] = np.where(ends[:, :-1], steps[1:], 0)
        age = steps - np.maximum.accumulate(begun, axis=1)
        if (age >= manifest.max_steps).any():
            row, step = np.argwhere(age >= manifest.max_steps)[0]
            raise HistoryError(
                f"An episode goes on after {manifest.max_steps} steps, the environment's horizon: rows are "
                f"lost or out of order (history {histories[row]}, time {step})."
            )
    return ends


def split_blocks(
    manifest: Manifest, arrays: Mapping[str, Any], first: int = 0
) -> Iterator[tuple[int, int, Callable[[], dict[str, np.ndarray]]]]:
    """Cuts whole histories into blocks.

    Args:
      manifest: of the store.
      arrays: every field of a block, `[N, T, …]`: N histories from `first` on, whole groups of them.
      first: the history of the first row, a multiple of `manifest.histories_per_chunk`.

    Yields:
      `(group, chunk, make)`, where `make()` gives the block as views, so that blocks which a store
      already has cost nothing.
    """
    fields = flatten_block(arrays)
    count = len(fields["action"])
    per = manifest.histories_per_chunk
    if first % per or not (count % per == 0 or first + count == len(manifest.histories)):
        raise HistoryError(
            f"Histories {first} to {first + count - 1} are not whole groups of {per} histories each."
        )
    for group in range(first // per, -(-(first + count) // per)):
        rows = slice(group * per - first, min((group + 1) * per - first, count))
        for chunk in range(manifest.num_chunks):
            times = slice(manifest.times(chunk).start, manifest.times(chunk).stop)
            yield group, chunk, lambda r=rows, t=times: {name: a[r, t] for name, a in fields.items()}


def _span(indices: range) -> str:
    return f"{indices.start} to {indices.stop - 1}"
