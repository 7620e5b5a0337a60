"""How items go into a table: arrays as its signature has them, priorities, many on their way at once."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._deadlines import Late, Worker
from .tables import ReplayError


_IN_FLIGHT = 64  # Items that are on their way unconfirmed.

# name -> (shape, dtype)
Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def fit_item(table: str, shapes: Shapes, row: Mapping[str, Any], index: int) -> dict[str, np.ndarray]:
    """An item's arrays. Raises `ReplayError` where they are not those of the table."""
    if row.keys() != shapes.keys():
        raise ReplayError(
            f"Could not insert into {table}: item {index} has the arrays {', '.join(sorted(row))}; the table takes "
            f"{', '.join(sorted(shapes))}."
        )
    arrays = {name: np.asarray(value) for name, value in row.items()}
    for name, array in arrays.items():
        shape, dtype = shapes[name]
        if array.shape != shape or array.dtype != dtype:
            raise ReplayError(
                f"Could not insert into {table}: {name} of item {index} is {array.dtype} {list(array.shape)}; the "
                f"table takes {dtype} {list(shape)}."
            )
    return arrays


def check_priorities(values: Any, count: int, what: str) -> list[float]:
    """One priority for each of `count` items. Raises `ReplayError`: Reverb would hang on a negative one."""
    array = np.asarray(values, np.float64)
    if array.shape not in ((), (count,)) or not np.all(np.isfinite(array) & (array >= 0)):
        raise ReplayError(
            f"Could not {what}: priorities are finite, at least 0, and one or {count}; got {str(values)[:100]}."
        )
    return np.broadcast_to(array, (count,)).tolist()


def table_shapes(info: Mapping[str, Any], table: str, address: str) -> Shapes:
    """A table's signature, from the `TableInfo`s of a server. Raises `ReplayError`."""
    if table not in info:
        raise ReplayError(f"There is no table {table} at {address}, only {', '.join(sorted(info))}.")
    signature = info[table].signature
    if not isinstance(signature, dict):
        raise ReplayError(f"The table {table} at {address} has no signature that names its arrays.")
    return {
        name: (tuple(spec.shape), np.dtype(spec.dtype.as_numpy_dtype)) for name, spec in signature.items()
    }


class ItemWriter:
    """Writes whole items into one table through a Reverb `TrajectoryWriter`, which is kept open."""

    def __init__(self, writer: Any, table: str):
        self._writer, self._table = writer, table
        self._columns: Mapping[str, Any] | None = None  # They follow the writer; making them anew is slow.

    def write(
        self, items: Sequence[Mapping[str, np.ndarray]], priorities: Sequence[float], deadline: float
    ) -> None:
        """Returns when the server has confirmed all of them.

        Args:
          items: that fit the table.
          priorities: one each.
          deadline: by `time.monotonic`.

        Raises:
          Late: they were not confirmed by then.
          Exception: of Reverb's, which has a `DeadlineExceededError` for the same.
        """
        for count, (item, priority) in enumerate(zip(items, priorities, strict=True), start=1):
            self._writer.append(item)
            columns = self._columns = self._columns or self._writer.history
            self._writer.create_item(
                self._table, priority, {name: column[-1] for name, column in columns.items()}
            )
            if count % (_IN_FLIGHT // 2) == 0 and count < len(items):
                self._flush(_IN_FLIGHT // 2, deadline)
        self._flush(0, deadline)

    def close(self) -> None:
        """May wait for a server that is gone."""
        self._writer.close()

    def _flush(self, pending: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Late
        self._writer.flush(pending, timeout_ms=max(1, round(left * 1000)))


class Connection:
    """What belongs to one connection, so that a call that was given up touches nothing of the next one.

    Attributes:
      client: Reverb's.
      worker: the thread of its calls.
      writers, shapes: of each table that was used.
    """

    def __init__(self, client: Any):
        self.client = client
        self.worker = Worker("replay-call")
        self.writers: dict[str, ItemWriter] = {}
        self.shapes: dict[str, Shapes] = {}

    def close(self) -> None:
        """After the calls under way, which may never end: nobody waits for it."""
        self.worker.stop(lambda: [writer.close() for writer in self.writers.values()])
