"""What a replay server holds, said without Reverb: tables, their limits, and what a checkpoint must match."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ._limiter import Limiter


Signature = Mapping[str, tuple[Sequence[int], Any]]

KINDS = ("uniform", "prioritised", "queue", "held")


class ReplayError(RuntimeError):
    """A replay call failed or did not end in time: names the table, its counts and who waits for whom."""


class ReplayTimeout(ReplayError):
    """A replay call did not end in time."""


@dataclasses.dataclass(frozen=True)
class Table:
    """One table of a replay server. What could never be sampled or would deadlock is refused here.

    Attributes:
      name: of the table.
      kind: "uniform": any item, equally likely. "prioritised": item i with probability
        p_i^α / Σ_k p_k^α (Schaul et al. 2016, equation 1). "queue": each item once, in the order of
        their inserts; inserts wait while it is full. "held": always the oldest item, until it is deleted
        by its key. A full table of the other kinds forgets its oldest item; whoever inserts into a held
        one keeps to its limit (`ReplayClient.status`).
      signature: name -> (shape, dtype) of every array of an item.
      max_size: most items at a time.
      min_size: items below which nothing is sampled. 1 for a queue and a held table.
      samples_per_insert: samples that each insert pays for; the side that runs ahead waits. None: none
        waits for the other once `min_size` is reached. None for a queue, which has a limit of its own, and
        for a held table.
      error_buffer: how many samples ahead or behind, counted from when `min_size` was reached, either
        side may be before it waits. None: `samples_per_insert · min_size`, at least 1, so that there
        are never more than `samples_per_insert` samples an insert.
      priority_exponent: α of a prioritised table; 0 samples uniformly.
      max_times_sampled: samples after which an item is removed; 0 for no limit. 1 for a queue, 0 for a
        held table.
    """

    name: str
    kind: Literal["uniform", "prioritised", "queue", "held"]
    signature: Signature
    max_size: int
    min_size: int = 1
    samples_per_insert: float | None = None
    error_buffer: float | None = None
    priority_exponent: float = 0.6
    max_times_sampled: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"A table's name is a non-empty string; got {self.name!r}.")
        if self.kind not in KINDS:
            raise self._wrong(f"kind is one of {', '.join(KINDS)}; got {self.kind!r}")
        object.__setattr__(self, "signature", self._check_signature())
        for field, least in (("max_size", 1), ("min_size", 1), ("max_times_sampled", 0)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise self._wrong(f"{field} is a whole number of at least {least}; got {value!r}")
            object.__setattr__(self, field, int(value))
        for field in ("samples_per_insert", "error_buffer"):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise self._wrong(f"{field} is a number above 0, or None for no such limit; got {value!r}")
            object.__setattr__(self, field, None if value is None else float(value))
        if not (math.isfinite(self.priority_exponent) and self.priority_exponent >= 0):
            raise self._wrong(f"priority_exponent is at least 0; got {self.priority_exponent!r}")
        object.__setattr__(self, "priority_exponent", float(self.priority_exponent))
        if self.max_size < self.min_size:
            raise self._wrong(
                f"it never holds min_size = {self.min_size} items, since max_size is {self.max_size}: nothing "
                f"would ever be sampled. Lower min_size or raise max_size"
            )
        {"queue": self._check_queue, "held": self._check_held}.get(self.kind, self._check_ratio)()

    def check_batch(self, batch: int) -> None:
        """Refuses a batch that the limiter could hold up half-way while it holds up the inserts too.

        Once inserts have run until they wait, the samples left must be enough for a whole batch:
        2 · error_buffer ≥ batch + samples_per_insert; of a queue, max_size ≥ batch.

        Args:
          batch: items that the learner samples before it does anything else.

        Raises:
          ValueError: with the reason and the remedy.
        """
        if batch < 1:
            raise self._wrong(f"a batch has at least 1 item; got {batch}")
        if self.kind == "queue":
            if batch > self.max_size:
                raise self._wrong(
                    f"it holds at most {self.max_size} items, less than a batch of {batch}: whoever fills it "
                    f"before it samples would wait for ever. Raise max_size to at least {batch}"
                )
        elif self.samples_per_insert is not None:
            limiter, ratio = self.limiter, self.samples_per_insert
            if limiter.max_diff - limiter.min_diff < batch + ratio:
                given = "" if self.error_buffer is not None else ", the default,"
                least = max(1.0, ratio, (batch + ratio) / 2)
                raise self._wrong(
                    f"its limiter lets through fewer than {batch} samples, one batch, once inserts wait: "
                    f"error_buffer = {(limiter.max_diff - limiter.min_diff) / 2:g}{given} is too small. Set "
                    f"error_buffer to at least (batch + samples_per_insert) / 2 = {least:g}, or sample smaller "
                    "batches"
                )

    @property
    def limiter(self) -> Limiter:
        """The rate limiter in Reverb's terms."""
        if self.kind == "queue":
            return Limiter(1.0, 1, 0.0, float(self.max_size))
        if self.samples_per_insert is None:
            largest = float(np.finfo(np.float64).max)
            return Limiter(1.0, self.min_size, -largest, largest)
        offset = self.samples_per_insert * self.min_size
        buffer = self.error_buffer if self.error_buffer is not None else max(1.0, offset)
        return Limiter(self.samples_per_insert, self.min_size, offset - buffer, offset + buffer)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        signature = {name: [list(shape), dtype] for name, (shape, dtype) in self.signature.items()}
        return {**fields, "signature": signature}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Table":
        """The inverse of `to_json`. Raises ValueError."""
        names = {field.name for field in dataclasses.fields(cls)}
        if (
            not isinstance(value, Mapping)
            or not {"name", "kind", "signature", "max_size"} <= set(value) <= names
        ):
            raise ValueError(
                f"Not a table: {json.dumps(value)[:200]}. Its fields are {', '.join(sorted(names))}."
            )
        return cls(**value)

    def _wrong(self, why: str) -> ValueError:
        return ValueError(f"Table {self.name}: {why}.")

    def _check_signature(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """The signature with plain shapes and names of dtypes, sorted by name."""
        if not isinstance(self.signature, Mapping) or not self.signature:
            raise self._wrong(f"signature maps names to (shape, dtype); got {self.signature!r}")
        result = {}
        for name, value in sorted(self.signature.items()):
            try:
                shape, dtype = value
                shape, dtype = tuple(int(size) for size in shape), np.dtype(dtype)
            except (TypeError, ValueError) as error:
                raise self._wrong(f"{name} has no (shape, dtype): {error}") from error
            if min(shape, default=0) < 0 or dtype.kind not in "biufc":
                raise self._wrong(f"{name} needs a fixed shape and a numeric dtype; got {shape}, {dtype}")
            result[name] = (shape, dtype.name)
        return result

    def _check_queue(self) -> None:
        if self.min_size != 1:
            raise self._wrong(
                f"a queue gives what it has: min_size is 1, got {self.min_size}. With more, its last items would "
                "never be sampled"
            )
        if self.max_times_sampled not in (0, 1):
            raise self._wrong(
                f"a queue gives each item once: max_times_sampled is 1, got {self.max_times_sampled}. Use a "
                "uniform table"
            )
        object.__setattr__(self, "max_times_sampled", 1)
        if self.samples_per_insert is not None or self.error_buffer is not None:
            raise self._wrong(
                "a queue samples each insert once and makes inserts wait at max_size: leave samples_per_insert and "
                "error_buffer out"
            )

    def _check_held(self) -> None:
        limits = (self.min_size, self.max_times_sampled, self.samples_per_insert, self.error_buffer)
        if limits != (1, 0, None, None):
            raise self._wrong(
                "a held table gives its oldest item until that is deleted: leave min_size, max_times_sampled, "
                "samples_per_insert and error_buffer out"
            )

    def _check_ratio(self) -> None:
        if self.samples_per_insert is None:
            if self.error_buffer is not None:
                raise self._wrong(
                    "error_buffer bounds samples_per_insert, which is None: set it, or leave both out"
                )
            return
        ratio = self.samples_per_insert
        least = max(1.0, ratio)
        if self.error_buffer is not None and self.error_buffer < least:
            raise self._wrong(
                f"error_buffer = {self.error_buffer:g} is below max(1, samples_per_insert) = {least:g}: inserts and "
                f"samples could wait for each other. Raise it to at least {least:g}"
            )
        if 0 < self.max_times_sampled < ratio:
            raise self._wrong(
                f"items are removed after {self.max_times_sampled} samples, so there are never samples_per_insert "
                f"= {ratio:g} samples an insert, and inserts would wait for them. Raise max_times_sampled to at least "
                f"{math.ceil(ratio)}, or 0 for no limit"
            )


def fingerprint(tables: Sequence[Table]) -> str:
    """SHA-256, in hexadecimal, of what the tables are; their order does not matter."""
    return hashlib.sha256(json.dumps(tables_to_json(tables), sort_keys=True).encode()).hexdigest()


def tables_to_json(tables: Sequence[Table]) -> dict[str, Any]:
    """name -> `Table.to_json` of each."""
    return {table.name: table.to_json() for table in sorted(tables, key=lambda table: table.name)}
