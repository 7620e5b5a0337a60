"""Replay over Reverb: servers, and clients whose every call ends. The only module that imports reverb.

Reverb 0.14 has timeouts for `flush`, `server_info` and the rate limiter of a sampler. Everything else
(and those too, where a connection is dead) can block for ever, so every call runs on a worker thread
that is abandoned at its deadline; the next call uses a fresh client. An abandoned call may still be
carried out later, once its server is back: a sampler then takes an item that nobody sees. Nothing may
depend on a queue alone for not losing data.

Reverb listens on every network interface and cannot be told otherwise: whoever reaches the port can
read and write the tables. `docs/histories.md` has the firewall rule.
"""

import contextlib
import logging
import os
import queue as queue_lib
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


# TensorFlow, which Reverb imports, else tells of its CPU features on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

with warnings.catch_warnings():
    # Reverb compares TensorFlow's version by distutils, which warns that it is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import reverb
    import tensorflow as tf


_log = logging.getLogger(__name__)
_STDERR = threading.Lock()

Signature = Mapping[str, tuple[Sequence[int], Any]]


class ReplayError(RuntimeError):
    """A replay call failed or did not end in time: names the table, its counts and who waits for whom."""


class ReplayTimeout(ReplayError):
    """A replay call did not end in time."""


def queue_table(name: str, signature: Signature, max_size: int) -> reverb.Table:
    """A first-in-first-out table that gives each item to one sampler, once, and then forgets it.

    Its limiter lets an insert wait while `max_size` items are unsampled, so a full table slows its
    producers down and never drops an item to make room.

    Args:
      name: of the table.
      signature: name -> (shape, dtype) of every array of an item.
      max_size: most items at a time.
    """
    specs = {key: tf.TensorSpec(shape, tf.as_dtype(dtype)) for key, (shape, dtype) in signature.items()}
    return reverb.Table(
        name,
        sampler=reverb.selectors.Fifo(),
        remover=reverb.selectors.Fifo(),
        max_size=max_size,
        max_times_sampled=1,
        rate_limiter=reverb.rate_limiters.Queue(max_size),
        signature=specs,
    )


class ReplayServer:
    """A Reverb server in this process. End every sampler of this process before `stop`.

    Attributes:
      port: that it listens on, on every interface.
      address: for clients on this machine.
    """

    def __init__(self, tables: Sequence[reverb.Table], port: int | None = None):
        """Starts the server. Raises `ReplayError` where the port is taken."""
        if port is not None:
            _check_free(port)
        self._checkpoints = tempfile.TemporaryDirectory(prefix="limbeck-replay-")
        checkpointer = reverb.checkpointers.DefaultCheckpointer(self._checkpoints.name)
        with _quiet():
            self._server = reverb.Server(tables, port=port, checkpointer=checkpointer)
        self.port = self._server.port
        self.address = f"localhost:{self.port}"
        _log.warning(
            "The replay server on port %d listens on every network interface; keep others out with a "
            "firewall (docs/histories.md).",
            self.port,
        )

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stops the server; left running, with a line in the log, where a call inside it blocks that."""

        def work() -> None:
            with _quiet():
                self._server.stop()

        thread = threading.Thread(target=work, name="replay-stop", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            _log.warning("The replay server on port %d did not stop within %g s.", self.port, timeout_s)
        self._checkpoints.cleanup()

    def __enter__(self) -> "ReplayServer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


class _Connection:
    """What belongs to one connection, so that an abandoned call touches nothing of the next one."""

    def __init__(self, address: str):
        self.client = reverb.Client(address)
        self.writer: Any = None
        self.samplers: dict[str, Iterator[Any]] = {}
        self.signatures: dict[str, Any] = {}  # of each table, a `tf.TensorSpec` by key


class ReplayClient:
    """A connection to a replay server. One thread at a time.

    Every call ends within its timeout; one that fails takes up to three seconds more to find out why.

    Attributes:
      address: "host:port" of the server.
    """

    def __init__(self, address: str):
        self.address = address
        self._connection = _Connection(address)

    def info(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """Reverb's `TableInfo` of every table, by name. Raises `ReplayError`."""
        return self._call(lambda c: c.client.server_info(_seconds(timeout_s)), "ask", None, timeout_s)

    def insert(self, table: str, item: Mapping[str, np.ndarray], timeout_s: float = 30.0) -> None:
        """Inserts one item and waits until the server has it.

        Raises:
          ReplayTimeout: the table stayed full or the server did not answer. The item may arrive later.
          ReplayError: the item does not fit the table's signature, or the server refused it.
        """

        def work(connection: _Connection) -> None:
            if connection.writer is None:
                connection.writer = connection.client.trajectory_writer(1)
            writer = connection.writer
            writer.append(dict(item))
            writer.create_item(table, 1.0, {key: writer.history[key][-1] for key in item})
            writer.flush(timeout_ms=max(1, round(timeout_s * 1000)))

        self._call(work, "insert into", table, timeout_s)

    def sample(self, table: str, timeout_s: float = 30.0) -> dict[str, np.ndarray]:
        """The next item of a table.

        Raises:
          ReplayTimeout: the limiter let no sample through, or the server did not answer.
          ReplayError: no such table, or the server refused.
        """

        def work(connection: _Connection) -> dict[str, np.ndarray]:
            if table not in connection.samplers:
                connection.samplers[table] = self._sampler(connection, table, timeout_s)
            try:
                item = next(connection.samplers[table])
            except StopIteration:  # The limiter's timeout ends the iterator.
                del connection.samplers[table]
                raise _Late from None
            return {key: value.numpy() for key, value in item.data.items()}

        return self._call(work, "sample from", table, timeout_s)

    def describe(self, table: str, timeout_s: float = 2.0) -> str:
        """A table's size and its limiter's counts in words, or that the server does not answer."""
        try:
            tables = self.info(timeout_s)
        except ReplayError:
            return "the server does not answer"
        if table not in tables:
            return f"the server has no such table, only {', '.join(sorted(tables))}"
        info = tables[table]
        inserted = info.rate_limiter_info.insert_stats.completed
        sampled = info.rate_limiter_info.sample_stats.completed
        if info.current_size >= info.max_size:
            starving = "inserts wait for samples: whoever samples is slow or gone"
        elif info.current_size < info.rate_limiter_info.min_size_to_sample:
            starving = "samples wait for inserts: whoever inserts is slow or gone"
        else:
            starving = "neither side waits for the other: the network or a machine is slow"
        return (
            f"the table holds {info.current_size} of at most {info.max_size} items after {inserted} inserts "
            f"and {sampled} samples; {starving}"
        )

    def close(self) -> None:
        """Drops the connection, without waiting for anything under way."""
        writer = self._connection.writer
        if writer is not None:  # Closing may wait for a dead server.
            threading.Thread(target=writer.close, name="replay-close", daemon=True).start()
        self._connection = _Connection(self.address)

    def __enter__(self) -> "ReplayClient":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _sampler(self, connection: _Connection, table: str, timeout_s: float) -> Iterator[Any]:
        if table not in connection.signatures:
            info = connection.client.server_info(_seconds(timeout_s))
            if table not in info:
                raise ReplayError(f"There is no table {table} at {self.address}, only {', '.join(info)}.")
            connection.signatures[table] = info[table].signature
        specs = connection.signatures[table]
        dataset = reverb.TrajectoryDataset(
            self.address,
            table,
            dtypes={key: spec.dtype for key, spec in specs.items()},
            shapes={key: spec.shape for key, spec in specs.items()},
            max_in_flight_samples_per_worker=1,
            num_workers_per_iterator=1,  # A queue keeps its order only with one.
            rate_limiter_timeout_ms=max(1, round(timeout_s * 1000)),
        )
        with _quiet():
            return iter(dataset)

    def _call(
        self, work: Callable[[_Connection], Any], verb: str, table: str | None, timeout_s: float
    ) -> Any:
        """`work` within `timeout_s`; once more where the server was restarted under the client."""
        what = f"{verb} {table} at" if table else verb
        for attempt in (1, 2):
            connection = self._connection
            try:
                # Half a second for Reverb's own timeouts, which leave the connection usable.
                return _within(lambda c=connection: work(c), timeout_s + 0.5)
            except ReplayError:
                raise
            except (_Late, reverb.DeadlineExceededError) as error:
                self.close()
                why = f": {self.describe(table)}" if table else ""
                raise ReplayTimeout(
                    f"Could not {what} the replay server at {self.address} within {timeout_s:g} s{why}."
                ) from error
            except Exception as error:
                self.close()
                if attempt == 1 and "Socket closed" in str(error):
                    continue
                reason = " ".join(str(error).split())[:300].rstrip(".")
                raise ReplayError(
                    f"Could not {what} the replay server at {self.address}: {reason}."
                ) from error
        raise AssertionError("unreachable")


class _Late(Exception):
    """A call did not end in time."""


def _within(work: Callable[[], Any], timeout_s: float) -> Any:
    """`work()` on a thread that is abandoned after `timeout_s`. Raises `_Late` then."""
    answers: queue_lib.SimpleQueue = queue_lib.SimpleQueue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, name="replay-call", daemon=True).start()
    try:
        value, error = answers.get(timeout=timeout_s)
    except queue_lib.Empty:
        raise _Late from None
    if error is not None:
        raise error
    return value


def _check_free(port: int) -> None:
    """gRPC lets two servers share a port, and clients would reach either."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Old connections do not matter.
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ReplayError(f"Cannot listen on port {port}: {error.strerror}.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops the lines that Reverb's C++ writes to stderr without asking; all others are passed on."""
    sys.stderr.flush()
    with _STDERR, tempfile.TemporaryFile() as caught:
        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not line.startswith(b"[reverb/cc/"):
                    os.write(2, line)


def _seconds(timeout_s: float) -> int:
    """Whole seconds, as `server_info` takes them."""
    return max(1, round(timeout_s))
