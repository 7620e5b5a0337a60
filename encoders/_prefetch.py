"""Work done one step ahead of its reader, in a thread."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Prefetch:
    """Runs `jobs` one after the other in a thread, at most `depth` results ahead of the reader.

    An exception in the thread is raised where the result would have been read. Leaving the context stops the
    thread and waits for the job it is in.
    """

    def __init__(self, jobs: Iterator[Callable[[], Any]], depth: int):
        self._results: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(jobs,), name="prefetch", daemon=True)

    def _work(self, jobs):
        try:
            for job in jobs:
                if not self._put((job(), None)):
                    return
        except BaseException as error:
            self._put((None, error))
        else:
            self._put(None)

    def _put(self, result) -> bool:
        while not self._stop.is_set():
            try:
                self._results.put(result, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __enter__(self):
        self._thread.start()
        return self

    def __iter__(self):
        while (result := self._results.get()) is not None:
            value, error = result
            if error is not None:
                raise error
            yield value

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
