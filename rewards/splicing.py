"""Labelled rows of a stream as items of T rows again."""

from collections.abc import Mapping

import numpy as np

from ..agents.items import POLICY_VERSION
from .segments import SOURCE, is_memory


class StreamSplicer:
    """Rows of one stream, put together in their order and cut into items, one beginning every `period` rows."""

    def __init__(self, unroll: int, period: int, rows: Mapping[str, np.ndarray] | None = None):
        """
        Args:
          unroll: T.
          period: rows between the starts of two items, at most T.
          rows: to go on with, name -> `[n, …]`: an earlier splicer's `rows`.
        """
        self._unroll, self._period = unroll, period
        self.rows = dict(rows or {})

    def __len__(self) -> int:
        """Rows that are held for the next item."""
        return len(next(iter(self.rows.values()), ()))

    def add(
        self, rows: Mapping[str, np.ndarray], source: tuple[int, int, int, int], broken: bool
    ) -> list[dict]:
        """Adds rows.

        Args:
          rows: name -> `[n, …]`.
          source: (actor, incarnation, stream, segment) that they are of.
          broken: they do not follow those that are held, which are given up: no item has a hole.

        Returns:
          The items that are whole: `[T, …]` each, but the memory, which is the one before the first row, and
          POLICY_VERSION and SOURCE, which are the last row's.
        """
        rows = {**rows, SOURCE: np.tile(np.asarray(source, np.int64), (len(rows["reward"]), 1))}
        if broken or not len(self):
            self.rows = rows
        else:
            self.rows = {name: np.concatenate([self.rows[name], array]) for name, array in rows.items()}
        items, first, count = [], 0, len(self)
        while first + self._unroll <= count:
            items.append({name: self._cut(name, array, first) for name, array in self.rows.items()})
            first += self._period
        if first:
            self.rows = {name: array[first:].copy() for name, array in self.rows.items()}
        return items

    def _cut(self, name: str, array: np.ndarray, first: int) -> np.ndarray:
        last = first + self._unroll
        if is_memory(name):
            return array[first].copy()
        if name in (POLICY_VERSION, SOURCE):
            return array[last - 1].copy()
        return array[first:last].copy()
