"""Replay over Reverb: servers, and clients whose every call ends. The only module that imports reverb.

Reverb 0.14 has timeouts for `flush`, `server_info` and the rate limiter of a sampler. Everything else
(and those too, where a connection is dead) can block for ever. So every call runs on a worker thread
that is given up at its deadline, with its connection; the next call uses a fresh one. What was given up may
still be carried out later. Nothing may depend on a queue alone for not losing data.

Reverb listens on every network interface and cannot be told otherwise: whoever reaches the port can
read and write the tables. `docs/histories.md` has the firewall rule.
"""

import atexit
import contextlib
import logging
import os
import pathlib
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import replay_checkpoints
from ._deadlines import Late, wait_for_threads, whole_seconds
from ._listening import check_free, quiet
from ._replay_items import Connection, ItemWriter, Shapes, check_priorities, fit_item, table_shapes
from ._replay_status import describe_status, is_queue, table_status
from ._sampling import POLL_S, BatchFetcher
from ._sampling import Sample as Sample
from .tables import ReplayError as ReplayError
from .tables import ReplayTimeout as ReplayTimeout
from .tables import Table


# TensorFlow, which Reverb imports, else tells of its CPU features on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

with warnings.catch_warnings():
    # Reverb compares TensorFlow's version by distutils, which warns that it is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import reverb
    import tensorflow as tf


_log = logging.getLogger(__name__)
_LOCAL: set[str] = set()  # Addresses of servers in this process.
_CLIENTS: "weakref.WeakSet[ReplayClient]" = weakref.WeakSet()
_NO_ANSWER = "the server does not answer"
_GRACE_S = 0.3  # For Reverb's own timeouts, which leave the connection usable.


@atexit.register
def _close_clients() -> None:
    """A thread that comes back from Reverb while Python is being torn down would abort the process."""
    for client in list(_CLIENTS):
        client.close()
    wait_for_threads(2 * POLL_S)


class ReplayServer:
    """A Reverb server in this process. Close every client of this process before `stop`.

    Attributes:
      port: that it listens on, on every interface.
      address: for clients on this machine.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        port: int | None = None,
        checkpoints: str | os.PathLike[str] | None = None,
        restore: str | os.PathLike[str] | None = None,
    ):
        """Starts the server.

        Args:
          tables: that it holds.
          port: a free one by default.
          checkpoints: directory for what `ReplayClient.checkpoint` writes, of this server alone; by
            default a temporary one, which goes with the server.
          restore: path of a checkpoint to begin with, which `ReplayClient.checkpoint` returned. It may
            lie in `checkpoints`.

        Raises:
          ReplayError: the port is taken, the directory cannot be used, or the checkpoint is missing,
            unfinished, or of other tables.
        """
        if len({table.name for table in tables}) < len(tables):
            raise ReplayError(f"Two tables share a name: {', '.join(table.name for table in tables)}.")
        if port is not None:
            check_free(port)
        if restore is not None:
            replay_checkpoints.check_checkpoint(restore, tables)
            restore = str(pathlib.Path(restore).absolute())
        self._temporary = None
        if checkpoints is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="limbeck-replay-")
            checkpoints = self._temporary.name
        self._checkpoints = replay_checkpoints.CheckpointDirectory(checkpoints, tables)
        try:
            # A root without a checkpoint in it, or Reverb would not look at the one to restore.
            checkpointer = reverb.checkpointers.DefaultCheckpointer(
                str(self._checkpoints.incoming), fallback_checkpoint_path=restore
            )
            with quiet():
                self._server = reverb.Server(
                    [_reverb_table(table) for table in tables], port=port, checkpointer=checkpointer
                )
        except (RuntimeError, ValueError) as error:
            self._release()
            raise ReplayError(f"The replay server did not start: {_reason(error)}.") from error
        self.port = self._server.port
        self.address = f"localhost:{self.port}"
        _LOCAL.add(self.address)
        _log.warning(
            "The replay server on port %d listens on every network interface; keep others out with a "
            "firewall (docs/histories.md).",
            self.port,
        )

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stops the server; left running, with a line in the log, where a call inside it blocks that."""

        def work() -> None:
            with quiet():
                self._server.stop()

        thread = threading.Thread(target=work, name="replay-stop", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            _log.warning("The replay server on port %d did not stop within %g s.", self.port, timeout_s)
        _LOCAL.discard(self.address)
        self._release()

    def _release(self) -> None:
        self._checkpoints.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> "ReplayServer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


class ReplayClient:
    """A connection to a replay server. One thread at a time.

    Every call ends within its timeout; one that fails takes up to two seconds more to find out why.
    After a server was restarted at the same address the same client goes on.

    Attributes:
      address: "host:port" of the server.
    """

    def __init__(self, address: str, prefetch: bool | None = None):
        """Connects at the first call.

        Args:
          address: "host:port" of the server.
          prefetch: whether `sample` fetches ahead: a batch, and up to five more on their way, are then
            taken from the table before they are asked for; of a queue they are lost when this client is
            closed or killed. Else exactly what is asked for is taken. By default, not from queues.
        """
        self.address = address
        self._prefetch = prefetch
        self._connection: Connection | None = None
        self._fetchers: dict[tuple[str, int], BatchFetcher] = {}
        _CLIENTS.add(self)

    def info(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """Reverb's `TableInfo` of every table, by name. Raises `ReplayError`."""
        return self._call(lambda c, _: c.client.server_info(whole_seconds(timeout_s)), "ask", None, timeout_s)

    def status(self, timeout_s: float = 5.0) -> dict[str, dict[str, Any]]:
        """What each table holds and who waits, by name, as JSON values. Raises `ReplayError`."""
        return {name: table_status(info) for name, info in sorted(self.info(timeout_s).items())}

    def insert(
        self,
        table: str,
        items: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        priorities: float | Sequence[float] | np.ndarray = 1.0,
        timeout_s: float = 30.0,
    ) -> None:
        """Inserts items, in order, and waits until the server has them all. Many at once are faster.

        Args:
          table: its name.
          items: one, or several: name -> array, as in the table's signature.
          priorities: of each, or one for all; finite and at least 0.
          timeout_s: for all of them.

        Raises:
          ReplayTimeout: inserts had to wait for samples, or the server did not answer. Items may have
            arrived, or arrive later: whoever inserts them again may insert them twice.
          ReplayError: an item does not fit the table (then none was inserted), or the server refused.
        """
        rows = [items] if isinstance(items, Mapping) else list(items)
        values = check_priorities(priorities, len(rows), f"insert into {table}")

        def work(connection: Connection, deadline: float) -> None:
            shapes = _shapes(connection, table, deadline)
            arrays = [fit_item(table, shapes, row, index) for index, row in enumerate(rows)]
            if table not in connection.writers:
                connection.writers[table] = ItemWriter(connection.client.trajectory_writer(1), table)
            connection.writers[table].write(arrays, values, deadline)

        self._call(work, "insert into", table, timeout_s)

    def sample(self, table: str, batch: int = 1, timeout_s: float = 30.0) -> Sample:
        """The next items of a table.

        Args:
          table: its name.
          batch: how many. Stay with one number a table: each has a stream of its own.
          timeout_s: for all of them. What came of a batch too late is kept for the next call.

        Raises:
          ReplayTimeout: samples had to wait for inserts, or the server did not answer.
          ReplayError: no such table, or the server refused.
        """
        deadline = time.monotonic() + timeout_s
        fetcher = self._fetchers.get((table, batch))
        if fetcher is None:
            fetcher = self._fetchers[table, batch] = self._open_fetcher(table, batch, timeout_s)
        try:
            return fetcher.get(deadline - time.monotonic())
        except Late as error:
            why = self.describe(table)
            if fetcher.silent and (fetcher.ahead or why != _NO_ANSWER):
                # The network has lost its stream. While the server is gone, what was asked of it still comes.
                self._drop_fetcher(table, batch)
            raise ReplayTimeout(
                f"Could not sample {batch} items from {table} at the replay server at {self.address} within "
                f"{timeout_s:g} s: {why}."
            ) from error
        except Exception as error:
            self._drop_fetcher(table, batch)
            raise ReplayError(
                f"Could not sample from {table} at the replay server at {self.address}: {_reason(error)}."
            ) from error

    def update_priorities(
        self,
        table: str,
        keys: Sequence[int] | np.ndarray,
        priorities: float | Sequence[float] | np.ndarray,
        timeout_s: float = 10.0,
    ) -> None:
        """Gives items new priorities. Items that are gone are passed over; of a repeated key the last counts.

        Args:
          table: its name.
          keys: `[B]`, of a `Sample`.
          priorities: `[B]`, or one for all; finite and at least 0.
          timeout_s: for all of them.

        Raises:
          ReplayTimeout: the server did not answer.
          ReplayError: bad priorities, no such table, or the server refused.
        """
        names = np.asarray(keys, np.uint64).reshape(-1).tolist()
        updates = dict(zip(names, check_priorities(priorities, len(names), f"update {table}"), strict=True))
        self._call(lambda c, _: c.client.mutate_priorities(table, updates), "update", table, timeout_s)

    def delete(self, table: str, keys: Sequence[int] | np.ndarray, timeout_s: float = 10.0) -> None:
        """Removes items by their keys `[B]`, of a `Sample`; those that are gone are passed over.

        Raises:
          ReplayTimeout: the server did not answer. It may still remove them.
          ReplayError: no such table, or the server refused.
        """
        names = np.asarray(keys, np.uint64).reshape(-1).tolist()
        self._call(
            lambda c, _: c.client.mutate_priorities(table, deletes=names), "delete from", table, timeout_s
        )

    def checkpoint(self, timeout_s: float = 120.0) -> str:
        """Writes what all tables hold to the server's directory. All other calls wait meanwhile.

        Returns:
          The path of the checkpoint, for `ReplayServer(restore=…)`. It stays until somebody deletes it
          (`prune_checkpoints`).

        Raises:
          ReplayTimeout: it was not written in time. It may still be.
          ReplayError: the disk refused, or this machine does not see the server's directory.
        """
        return self._call(
            lambda c, _: replay_checkpoints.publish(c.client.checkpoint()),
            "write a checkpoint of",
            None,
            timeout_s,
        )

    def describe(self, table: str, timeout_s: float = 1.5) -> str:
        """A table's size and its limiter's counts in words, or that the server does not answer."""
        try:
            tables = self.status(timeout_s)
        except ReplayError:
            return _NO_ANSWER
        if table not in tables:
            return f"the server has no such table, only {', '.join(tables)}"
        return describe_status(tables[table])

    def close(self) -> None:
        """Ends it. Where a sample is under way this takes a second or two; afterwards nothing is taken."""
        fetchers, self._fetchers = list(self._fetchers.values()), {}
        for fetcher in fetchers:
            fetcher.close()
        for fetcher in fetchers:
            fetcher.wait_closed()
        self._disconnect()

    def __enter__(self) -> "ReplayClient":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(reverb.Client(self.address))
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _drop_fetcher(self, table: str, batch: int) -> None:
        fetcher = self._fetchers.pop((table, batch), None)
        if fetcher is not None:
            fetcher.close()

    def _open_fetcher(self, table: str, batch: int, timeout_s: float) -> BatchFetcher:
        if batch < 1:
            raise ReplayError(f"A batch has at least 1 item; got {batch}.")

        def look(connection: Connection, deadline: float) -> tuple[Shapes, bool]:
            info = connection.client.server_info(whole_seconds(deadline - time.monotonic()))
            return table_shapes(info, table, self.address), is_queue(info[table])

        shapes, ordered = self._call(look, "sample from", table, timeout_s)
        ahead = self._prefetch if self._prefetch is not None else not ordered
        # A queue keeps its order only with one worker; two are faster elsewhere.
        workers = 1 if ordered or batch == 1 or not ahead else 2

        def open_stream(items: int | None) -> Iterator[Sample]:
            return _open_stream(self.address, table, shapes, batch, workers, items)

        return BatchFetcher(open_stream, batch, ahead)

    def _call(
        self, work: Callable[[Connection, float], Any], verb: str, table: str | None, timeout_s: float
    ) -> Any:
        """`work(connection, deadline)`; once more where the server was restarted under the client."""
        deadline = time.monotonic() + timeout_s
        what = f"{verb} {table} at" if table else verb
        for attempt in (1, 2):
            connection = self._connect()
            try:
                return connection.worker.run(
                    lambda c=connection: work(c, deadline), deadline + _GRACE_S - time.monotonic()
                )
            except ReplayError:
                raise
            except (Late, reverb.DeadlineExceededError) as error:
                self._disconnect()
                why = f": {self.describe(table)}" if table else ""
                raise ReplayTimeout(
                    f"Could not {what} the replay server at {self.address} within {timeout_s:g} s{why}."
                ) from error
            except Exception as error:
                self._disconnect()
                if attempt == 1 and any(text in str(error) for text in ("Socket closed", "Transport closed")):
                    continue
                raise ReplayError(
                    f"Could not {what} the replay server at {self.address}: {_reason(error)}."
                ) from error
        raise AssertionError("unreachable")


def _reverb_table(table: Table) -> reverb.Table:
    selectors, limiter = reverb.selectors, table.limiter
    sampler = {
        "uniform": selectors.Uniform,
        "prioritised": lambda: selectors.Prioritized(table.priority_exponent),
        "queue": selectors.Fifo,
        "held": selectors.Fifo,
    }[table.kind]()
    return reverb.Table(
        table.name,
        sampler=sampler,
        remover=selectors.Fifo(),
        max_size=table.max_size,
        max_times_sampled=table.max_times_sampled,
        rate_limiter=reverb.rate_limiters.RateLimiter(
            limiter.samples_per_insert, limiter.min_size, limiter.min_diff, limiter.max_diff
        ),
        signature={
            key: tf.TensorSpec(shape, tf.as_dtype(dtype)) for key, (shape, dtype) in table.signature.items()
        },
    )


def _shapes(connection: Connection, table: str, deadline: float) -> Shapes:
    """The table's signature, asked for once a connection. Raises `ReplayError`."""
    if table not in connection.shapes:
        info = connection.client.server_info(whole_seconds(deadline - time.monotonic()))
        connection.shapes[table] = table_shapes(info, table, connection.client.server_address)
    return connection.shapes[table]


def _open_stream(
    address: str, table: str, shapes: Shapes, batch: int, workers: int, items: int | None
) -> Iterator[Sample]:
    """Samples of up to `batch` items, `items` in all, until the limiter lets none through for `POLL_S`."""
    dataset = reverb.TrajectoryDataset(
        address,
        table,
        dtypes={name: tf.as_dtype(dtype) for name, (_, dtype) in shapes.items()},
        shapes={name: tf.TensorShape(shape) for name, (shape, _) in shapes.items()},
        max_in_flight_samples_per_worker=batch if items is None else max(1, batch // workers),
        num_workers_per_iterator=workers,
        rate_limiter_timeout_ms=round(POLL_S * 1000),
        max_samples=-1 if items is None else items,
    ).batch(batch if items is None else items)
    if items is None:
        dataset = dataset.prefetch(1)  # Reverb's threads make the next batch while this one becomes arrays.
    options = tf.data.Options()
    options.autotune.enabled = False  # Optimising the graph takes longer than a short stream.
    options.experimental_optimization.apply_default_optimizations = False
    with quiet() if address in _LOCAL else contextlib.nullcontext():
        stream = dataset.with_options(options).as_numpy_iterator()
    for info, data in stream:
        yield Sample(data, info.key, info.probability, int(info.table_size[-1]))


def _reason(error: Exception) -> str:
    """One line of an error of Reverb's."""
    return " ".join(str(error).split())[:300].rstrip(".")
