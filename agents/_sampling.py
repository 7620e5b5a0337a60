"""Batches of one table, fetched on a thread of their own."""

import queue
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ._deadlines import Late, start_thread


POLL_S = 1.0
_GRACE_S = 4.0


class Sample(NamedTuple):
    """Items of a replay table. Arrays may be read-only.

    Attributes:
      data: name -> `[B, …]`.
      keys: of the items, `[B]` uint64, for `ReplayClient.update_priorities`.
      probabilities: with which each was sampled at that time, `[B]` float64.
      table_size: items in the table when the last one was sampled.
    """

    data: dict[str, np.ndarray]
    keys: np.ndarray
    probabilities: np.ndarray
    table_size: int


class BatchFetcher:
    """Fetches whole batches in order, one request at a time, whether or not anybody still waits.

    A batch that comes after `get` has given up is there for the next `get`: nothing that left the server
    is dropped before `close`.

    Attributes:
      ahead: whether it fetches ahead.
    """

    def __init__(self, open_stream: Callable[[int | None], Iterator[Sample]], batch: int, ahead: bool):
        """Starts the thread.

        Args:
          open_stream: `open_stream(n)` iterates over samples of up to `batch` items: exactly n items in
            all, or without an end for None. It ends where the server has let nothing through for
            `POLL_S`.
          batch: items of a batch.
          ahead: fetch the next batch as soon as one is handed out, from an endless stream; else fetch
            exactly the items of a batch when it is asked for.
        """
        self._open_stream, self._batch, self.ahead = open_stream, batch, ahead
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        self._waiting = 0  # Requests without an answer yet.
        self._closed = False
        self._heard = time.monotonic()
        self._thread = start_thread("replay-sample", self._run)

    def get(self, timeout_s: float) -> Sample:
        """The next batch.

        Raises:
          Late: it did not come within `timeout_s`.
          Exception: whatever ended the stream; the fetcher is of no more use.
        """
        if not self._waiting:
            self._request()
        try:
            sample, error = self._answers.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            raise Late from None
        self._waiting -= 1
        if error is not None:
            raise error
        if self.ahead:
            self._request()
        return sample

    @property
    def silent(self) -> bool:
        """Whether a request is under way and the server has said nothing for long: its stream is dead."""
        busy = self._waiting and self._answers.empty()
        return bool(busy) and time.monotonic() - self._heard > POLL_S + _GRACE_S

    def close(self) -> None:
        """Ends the thread when its stream next says something, without waiting for it."""
        self._closed = True
        self._requests.put(None)

    def wait_closed(self) -> None:
        """Until nothing is taken from the server any more, but not for one that is gone."""
        self._thread.join(POLL_S + 0.5)

    def _request(self) -> None:
        self._heard = time.monotonic()
        self._waiting += 1
        self._requests.put(True)

    def _run(self) -> None:
        stream: Iterator[Sample] | None = None
        while self._requests.get() is not None:
            try:
                sample, stream = self._fetch(stream)
            except BaseException as error:
                self._answers.put((None, error))
                return
            if sample is None:
                return
            self._answers.put((sample, None))

    def _fetch(self, stream: Iterator[Sample] | None) -> tuple[Sample | None, Iterator[Sample] | None]:
        """A whole batch, None once closed; and the stream to go on with."""
        parts: list[Sample] = []
        arrived = 0
        while arrived < self._batch:
            if self._closed:
                return None, None
            if stream is None:
                # What is missing of a begun batch is fetched exactly, or later batches would be cut too.
                endless = self.ahead and not parts
                stream = self._open_stream(None if endless else self._batch - arrived)
            part = next(stream, None)
            self._heard = time.monotonic()
            if part is None:
                stream = None
            else:
                parts.append(part)
                arrived += len(part.keys)
        if not self.ahead or len(parts) > 1:
            stream = None
        return parts[0] if len(parts) == 1 else _joined(parts), stream


def _joined(parts: list[Sample]) -> Sample:
    return Sample(
        data={name: np.concatenate([part.data[name] for part in parts]) for name in parts[0].data},
        keys=np.concatenate([part.keys for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        table_size=parts[-1].table_size,
    )
