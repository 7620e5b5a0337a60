"""Calls that end: work on a thread that is given up at its deadline."""

import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any


_THREADS: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


class Late(Exception):
    """Something did not end in time."""


def start_thread(name: str, target: Callable[..., Any], *arguments: Any) -> threading.Thread:
    """Starts a thread that does not keep the process alive."""
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    _THREADS.add(thread)
    thread.start()
    return thread


def wait_for_threads(timeout_s: float) -> None:
    """Until every thread of `start_thread` has ended, at most `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    for thread in list(_THREADS):
        thread.join(max(0.0, deadline - time.monotonic()))


def whole_seconds(timeout_s: float) -> int:
    """A timeout for a library that counts in seconds, at least one."""
    return max(1, round(timeout_s))


class Worker:
    """One thread that does one job after another. Give it up after `Late`: it may be stuck for ever."""

    def __init__(self, name: str):
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        # The thread knows the queue only: it ends when its worker is forgotten.
        start_thread(name, _work, self._jobs)

    def run(self, job: Callable[[], Any], timeout_s: float) -> Any:
        """What `job()` returns or raises.

        Raises:
          Late: it did not end within `timeout_s`. It is not interrupted, and may end later.
        """
        answers: queue.SimpleQueue = queue.SimpleQueue()
        self._jobs.put((job, answers))
        try:
            value, error = answers.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            raise Late from None
        if error is not None:
            raise error
        return value

    def stop(self, last: Callable[[], Any] = lambda: None) -> None:
        """Ends the thread after the jobs that it has and `last`, without waiting for it."""
        self._jobs.put((last, queue.SimpleQueue()))
        self._jobs.put(None)

    def __del__(self) -> None:
        self._jobs.put(None)


def _work(jobs: queue.SimpleQueue) -> None:
    while (job := jobs.get()) is not None:
        work, answers = job
        try:
            answers.put((work(), None))
        except BaseException as error:
            answers.put((None, error))
        del job, work, answers  # Or what they hold would live until the next job.
