"""A bounded cache that makes each value once, however many threads ask for it at the same time."""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple


class CacheStats(NamedTuple):
    """Counts since a cache was made; every value asked for is counted in one of the first five.

    Attributes:
      memory_hits: found in memory.
      repeats: the same as another in one call.
      waits: being made by another thread at that moment.
      disk_hits: found on disk; 0 where there is no disk tier.
      made: made by the model, the encoder.
      evictions: forgotten because the cache was full.
      held: in memory now.
    """

    memory_hits: int = 0
    repeats: int = 0
    waits: int = 0
    disk_hits: int = 0
    made: int = 0
    evictions: int = 0
    held: int = 0

    @property
    def hit_rate(self) -> float:
        """The share of what was asked for that did not have to be made; 0 where nothing was."""
        asked = sum(self[:5])
        return 1 - self.made / asked if asked else 0.0


class SingleFlight:
    """Values by key, least recently used forgotten first; see `CacheStats`."""

    def __init__(self, capacity: int):
        """`capacity`: values in memory, at least 1."""
        self._capacity = capacity
        self._values: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._pending: dict[Hashable, concurrent.futures.Future[Any]] = {}
        self._counts: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def fetch(
        self, keys: Sequence[Hashable], make: Callable[[list[int]], tuple[Sequence[Any], int]]
    ) -> list[Any]:
        """The values of some keys.

        Args:
          keys: one for each value, repetitions allowed.
          make: places in `keys` -> their values, and how many of these came from disk. Called at most once, outside
            all locks, for what nobody has or is making. What it raises is raised here and in waiting threads.

        Returns:
          The values, in the order of `keys`.
        """
        found: dict[Hashable, Any] = {}
        mine: dict[Hashable, int] = {}
        others: dict[Hashable, concurrent.futures.Future[Any]] = {}
        with self._lock:
            for place, key in enumerate(keys):
                if key in found or key in mine or key in others:
                    self._counts["repeats"] += 1
                elif key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key]
                    self._counts["memory_hits"] += 1
                elif key in self._pending:
                    others[key] = self._pending[key]
                    self._counts["waits"] += 1
                else:
                    mine[key] = place
                    self._pending[key] = concurrent.futures.Future()
        # What is ours is made before others are waited for: two threads never wait for each other.
        if mine:
            found |= self._make(mine, make)
        found |= {key: future.result() for key, future in others.items()}
        return [found[key] for key in keys]

    def stats(self) -> CacheStats:
        """The counts so far."""
        with self._lock:
            return CacheStats(held=len(self._values), **self._counts)

    def _make(
        self, mine: dict[Hashable, int], make: Callable[[list[int]], tuple[Sequence[Any], int]]
    ) -> dict[Hashable, Any]:
        try:
            values, from_disk = make(list(mine.values()))
            made = dict(zip(mine, values, strict=True))
        except BaseException as error:
            with self._lock:
                waited_for = [self._pending.pop(key) for key in mine]
            # An interruption is of one thread.
            told = (
                error
                if isinstance(error, Exception)
                else RuntimeError("the thread that made it was interrupted")
            )
            for future in waited_for:
                future.set_exception(told)
            raise
        with self._lock:
            self._counts["disk_hits"] += from_disk
            self._counts["made"] += len(made) - from_disk
            for key, value in made.items():
                self._values[key] = value
                if len(self._values) > self._capacity:
                    self._values.popitem(last=False)
                    self._counts["evictions"] += 1
            waited_for = {key: self._pending.pop(key) for key in mine}
        for key, future in waited_for.items():
            future.set_result(made[key])
        return made
