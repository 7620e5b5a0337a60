"""Whole batches from streams that end in between, without a server."""

import queue
import threading

import numpy as np
import pytest
from limbeck.agents import _sampling
from limbeck.agents._deadlines import Late, Worker
from limbeck.agents._sampling import BatchFetcher, Sample


class Server:
    """Hands out numbers in order, in the parts that it is told; None for a time without any."""

    def __init__(self, batch):
        self.parts, self.opened, self.batch, self.next = queue.SimpleQueue(), [], batch, 0

    def open(self, items):
        self.opened.append(items)
        left = items
        while left is None or left > 0:
            size = self.parts.get()
            if size is None:
                return
            if isinstance(size, Exception):
                raise size
            assert size <= (self.batch if left is None else left)
            numbers = np.arange(self.next, self.next + size)
            self.next += size
            left = None if left is None else left - size
            yield Sample({"x": numbers}, numbers.astype(np.uint64), np.full(size, 0.5), 10 + self.next)

    def put(self, *parts):
        for part in parts:
            self.parts.put(part)


def check(sample, first, size):
    assert sample.data["x"].tolist() == sample.keys.tolist() == list(range(first, first + size))
    assert sample.keys.dtype == np.uint64 and sample.probabilities.tolist() == [0.5] * size
    assert sample.table_size == 10 + first + size


def test_exactly_what_is_asked_for():
    server = Server(4)
    fetcher = BatchFetcher(server.open, 4, ahead=False)
    server.put(4, 1, None, 2, None, None, 1, 4)
    check(fetcher.get(5), 0, 4)
    check(fetcher.get(5), 4, 4)  # In three parts.
    check(fetcher.get(5), 8, 4)
    assert server.opened == [4, 4, 3, 1, 1, 4]
    fetcher.close()


def test_fetching_ahead_goes_on_with_one_stream():
    server = Server(3)
    fetcher = BatchFetcher(server.open, 3, ahead=True)
    server.put(3, 3, 1, None, 2, 3)
    for n in range(4):
        check(fetcher.get(5), 3 * n, 3)
    # The batch that was cut was filled by exactly what it lacked.
    assert server.opened == [None, 2, None]
    fetcher.close()
    server.put(None)


def test_what_comes_late_is_kept():
    server = Server(2)
    fetcher = BatchFetcher(server.open, 2, ahead=False)
    for _ in range(3):
        with pytest.raises(Late):
            fetcher.get(0.01)
    server.put(1, 1, 2)
    check(fetcher.get(5), 0, 2)
    check(fetcher.get(5), 2, 2)
    assert server.opened == [2, 2]


def test_errors_and_silence(monkeypatch):
    server = Server(2)
    fetcher = BatchFetcher(server.open, 2, ahead=False)
    server.put(RuntimeError("gone"))
    with pytest.raises(RuntimeError, match="gone"):
        fetcher.get(5)
    now = [100.0]
    monkeypatch.setattr(_sampling.time, "monotonic", lambda: now[0])
    fetcher = BatchFetcher(server.open, 2, ahead=False)
    now[0] += 60
    assert not fetcher.silent  # Nothing was asked for.
    with pytest.raises(Late):
        fetcher.get(0.01)
    assert not fetcher.silent
    now[0] += 60
    assert fetcher.silent
    server.put(2)
    check(fetcher.get(5), 0, 2)
    assert not fetcher.silent


def test_a_closed_fetcher_takes_nothing_more():
    server = Server(2)
    fetcher = BatchFetcher(server.open, 2, ahead=False)
    with pytest.raises(Late):
        fetcher.get(0.01)
    fetcher.close()
    server.put(None)  # The server answers that there was nothing.
    fetcher.wait_closed()
    assert not fetcher._thread.is_alive()
    assert server.opened == [2]


def test_a_worker_does_one_job_after_another():
    worker, names, release = Worker("worker"), [], threading.Event()
    name = lambda: names.append(threading.current_thread().name) or len(names)  # noqa: E731
    assert [worker.run(name, 5) for _ in range(3)] == [1, 2, 3]
    assert names == ["worker"] * 3
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0, 5)
    with pytest.raises(Late):
        worker.run(release.wait, 0.05)
    done = threading.Event()
    worker.stop(done.set)
    assert not done.is_set()
    release.set()
    assert done.wait(5)
