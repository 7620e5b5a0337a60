"""How blocks of histories come to the store: through a replay server, or in process."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from ._blocks import check_block
from ._manifest import HistoryError, Manifest
from .histories import HistoryWriter
from .tables import Table


_log = logging.getLogger(__name__)
# The name of the table that blocks go through.
HISTORIES_TABLE = "histories"
_WAKE = -1  # The group of an item that only wakes the sink.


class Transport(Protocol):
    """Delivers blocks to a `HistoryWriter`. A context manager; leaving it closes it.

    Attributes:
      kind: "direct" or "reverb".
    """

    kind: str

    def send(self, group: int, chunk: int, block: Mapping[str, Any]) -> None:
        """Takes a block (see `HistoryWriter.write`). May wait for earlier ones. Raises `HistoryError`."""
        ...

    def finish(self, deadline_s: float = 600.0) -> None:
        """Returns when the watermarks cover every block that was sent. Raises `HistoryError`."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> "Transport": ...

    def __exit__(self, *_: Any) -> None: ...


class DirectTransport:
    """Writes each block to the store in process; `send` returns when it is durable."""

    kind = "direct"

    def __init__(self, writer: HistoryWriter):
        self._writer = writer
        self._sent: set[tuple[int, int]] = set()

    def send(self, group: int, chunk: int, block: Mapping[str, Any]) -> None:
        self._writer.write(group, chunk, block)
        self._sent.add((group, chunk))

    def finish(self, deadline_s: float = 600.0) -> None:
        del deadline_s  # Nothing is under way.
        raise_if_behind(self._writer, self._sent)

    def close(self) -> None:
        pass

    def __enter__(self) -> "DirectTransport":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class ReverbTransport:
    """Sends blocks through a Reverb queue to a thread that writes them to the store.

    A block counts as delivered when the store has it on disk, not when the queue does: until then it is
    kept here and sent again when the queue has lost it (a server that was restarted, a sampler that
    died). At most `in_flight` blocks are kept; `send` waits for room. Arrays that were sent must not be
    changed before `finish`.

    Items are padded to whole blocks, since a Reverb writer takes one shape per column. They carry the
    manifest's hash: what an earlier run of other settings left in the queue is thrown away.
    """

    kind = "reverb"

    def __init__(
        self,
        writer: HistoryWriter,
        address: str | None = None,
        port: int | None = None,
        in_flight: int = 16,
        deadline_s: float = 60.0,
        resend_after_s: float = 5.0,
    ):
        """Opens the queue.

        Args:
          writer: of the store.
          address: "host:port" of a server with the table of `histories_table`; by default one is
            started in this process.
          port: of the server that is started; a free one by default.
          in_flight: most blocks on their way.
          deadline_s: `send` fails when no block has arrived for so long while it waits for room.
          resend_after_s: blocks are sent again when the queue is empty and none has arrived for so long.

        Raises:
          HistoryError: the server does not answer or has no fitting table.
          ImportError: Reverb cannot be imported.
        """
        from . import replay  # Reverb and TensorFlow come only where they are asked for.

        self._replay, self._writer = replay, writer
        self._in_flight, self._deadline_s, self._resend_after_s = in_flight, deadline_s, resend_after_s
        self._kept: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self._sent: set[tuple[int, int]] = set()
        self._failure: HistoryError | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._last_arrival = time.monotonic()
        self._server = None
        try:
            if address is None:
                self._server = replay.ReplayServer([histories_table(writer.manifest, in_flight)], port)
                address = self._server.address
            self.address = address
            self._client = replay.ReplayClient(address)
            self._check_table()
        except replay.ReplayError as error:
            self._stop_server()
            raise HistoryError(f"Histories cannot go through Reverb: {error}") from error
        except HistoryError:
            self._stop_server()
            raise
        # A sampler in the server's own process can be woken by an item; another one looks up in between.
        self._poll_s = 2.0 if self._server is None else 30.0
        self._sink = threading.Thread(target=self._run_sink, name="history-sink", daemon=True)
        self._sink.start()

    def send(self, group: int, chunk: int, block: Mapping[str, Any]) -> None:
        rows, times = self._writer.manifest.rows(group), self._writer.manifest.times(chunk)
        fields = check_block(self._writer.manifest, block, rows, times)
        with self._changed:
            self._last_arrival = time.monotonic()
        self._wait(lambda: len(self._kept) < self._in_flight, lambda: self._last_arrival + self._deadline_s)
        with self._changed:
            self._kept[group, chunk] = fields
            self._sent.add((group, chunk))
        self._insert(group, chunk, fields, time.monotonic() + self._deadline_s)

    def finish(self, deadline_s: float = 600.0) -> None:
        deadline = time.monotonic() + deadline_s
        self._wait(lambda: not self._kept, lambda: deadline)
        raise_if_behind(self._writer, self._sent)

    def close(self) -> None:
        """Ends the sink and the server. Blocks that have not arrived are dropped: `finish` waits for them."""
        self._stopping = True
        if self._server is not None and self._sink.is_alive():
            # One for the sink, one for the sampler below it, which waits for the next item already.
            with contextlib.suppress(self._replay.ReplayError):
                for _ in range(2):
                    self._client.insert(
                        HISTORIES_TABLE, block_item(self._writer.manifest, _WAKE, _WAKE, {}), timeout_s=2.0
                    )
        self._sink.join(self._poll_s + 5.0)
        self._client.close()
        self._stop_server()

    def __enter__(self) -> "ReverbTransport":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _check_table(self) -> None:
        tables = self._client.info()
        expected = histories_signature(self._writer.manifest)
        if HISTORIES_TABLE not in tables:
            raise HistoryError(
                f"The replay server at {self.address} has no table {HISTORIES_TABLE}, only {', '.join(tables)}."
            )
        found = tables[HISTORIES_TABLE].signature or {}
        theirs = {key: (tuple(spec.shape), spec.dtype.name) for key, spec in found.items()}
        ours = {key: (tuple(shape), np.dtype(dtype).name) for key, (shape, dtype) in expected.items()}
        if theirs != ours:
            raise HistoryError(
                f"The table {HISTORIES_TABLE} at {self.address} is for other blocks: {theirs} there, {ours} here."
            )

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _insert(self, group: int, chunk: int, fields: Mapping[str, np.ndarray], deadline: float) -> None:
        item = block_item(self._writer.manifest, group, chunk, fields)
        while True:
            self._raise_failure()
            try:
                left = deadline - time.monotonic()
                self._client.insert(
                    HISTORIES_TABLE, item, timeout_s=max(0.1, min(left, self._resend_after_s))
                )
                return
            except self._replay.ReplayError as error:
                self._raise_failure()
                if time.monotonic() >= deadline:
                    raise self._late(str(error)) from error
                if not isinstance(error, self._replay.ReplayTimeout):
                    time.sleep(0.5)  # A server that refuses at once may be starting.

    def _wait(self, done: Callable[[], bool], deadline: Callable[[], float]) -> None:
        """Until `done()`, sending lost blocks again meanwhile. Raises `HistoryError` at the deadline."""
        resent = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: done() or self._failure, timeout=0.2)
                self._raise_failure()
                if done():
                    return
                now = time.monotonic()
                idle = now - max(resent, self._last_arrival) > self._resend_after_s
                lost = dict(self._kept) if idle else {}
            if now > deadline():
                raise self._late(self._client.describe(HISTORIES_TABLE))
            if lost and self._queue_is_empty():
                _log.warning("The replay server lost %d blocks; sending them again.", len(lost))
                for (group, chunk), fields in lost.items():
                    self._insert(group, chunk, fields, deadline())
            if lost:
                resent = time.monotonic()

    def _queue_is_empty(self) -> bool:
        try:
            return self._client.info(2.0)[HISTORIES_TABLE].current_size == 0
        except (self._replay.ReplayError, KeyError):
            return False

    def _late(self, why: str) -> HistoryError:
        with self._changed:
            waiting = sorted(self._kept)
        where = ""
        if waiting:
            rows = self._writer.manifest.rows(waiting[0][0])
            times = self._writer.manifest.times(waiting[0][1])
            where = (
                f", the first one with histories {rows.start} to {rows.stop - 1}, steps {times.start} to "
                f"{times.stop - 1}"
            )
        return HistoryError(
            f"{len(waiting)} blocks did not reach the store in time{where}: {why.rstrip('.')}. What was "
            "written is whole: the same command goes on from it."
        )

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise HistoryError(str(self._failure)) from self._failure

    def _run_sink(self) -> None:
        """Samples blocks and writes them, until `close` or a store that refuses."""
        # Fetching ahead may lose blocks of the queue; they are sent again.
        client = self._replay.ReplayClient(self.address, prefetch=True)
        try:
            while not self._stopping:
                try:
                    data = client.sample(HISTORIES_TABLE, 1, self._poll_s).data
                    self._write({name: array[0] for name, array in data.items()})
                except self._replay.ReplayTimeout:
                    continue
                except self._replay.ReplayError as error:
                    _log.info("The history sink tries again: %s", error)
                    time.sleep(0.5)
        except Exception as error:
            failure = (
                error if isinstance(error, HistoryError) else HistoryError(f"The sink failed: {error!r}")
            )
            with self._changed:
                self._failure = failure
                self._changed.notify_all()
        finally:
            client.close()

    def _write(self, item: dict[str, np.ndarray]) -> None:
        if item["group"] == _WAKE:
            return
        block = item_block(self._writer.manifest, item)
        if block is None:
            _log.warning("A block of another store was in the queue of %s; it is thrown away.", self.address)
            return
        self._writer.write(block.group, block.chunk, block.fields)
        with self._changed:
            self._kept.pop((block.group, block.chunk), None)
            self._last_arrival = time.monotonic()
            self._changed.notify_all()


def block_item(
    manifest: Manifest, group: int, chunk: int, fields: Mapping[str, np.ndarray], epoch: int = 0
) -> dict[str, np.ndarray]:
    """A block as an item of the table of `histories_table`, padded to a whole one.

    Args:
      manifest: of the store.
      group: index along the history axis.
      chunk: index along the time axis.
      fields: flat ones, as `check_block` returns them.
      epoch: which start of the group's streams the block is of.
    """
    places = {"store": manifest.fingerprint, "group": group, "chunk": chunk, "epoch": epoch}
    item = {}
    for key, (shape, dtype) in histories_signature(manifest).items():
        if key in places:
            item[key] = np.asarray(places[key], dtype)
        elif key in fields and fields[key].shape == tuple(shape):
            item[key] = fields[key]
        else:
            item[key] = np.zeros(shape, dtype)
            if key in fields:
                part = fields[key]
                item[key][: part.shape[0], : part.shape[1]] = part
    return item


class Block(NamedTuple):
    """An item that was taken apart: where its block belongs, which start it is of, and its flat fields."""

    group: int
    chunk: int
    epoch: int
    fields: dict[str, np.ndarray]


def item_block(manifest: Manifest, item: Mapping[str, np.ndarray]) -> Block | None:
    """The inverse of `block_item`; None for an item that is of another store."""
    item = dict(item)
    store, group, chunk, epoch = (int(item.pop(key)) for key in ("store", "group", "chunk", "epoch"))
    if store != manifest.fingerprint or group < 0:
        return None
    rows, steps = len(manifest.rows(group)), len(manifest.times(chunk))
    return Block(group, chunk, epoch, {name: array[:rows, :steps] for name, array in item.items()})


def histories_signature(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], str]]:
    """name -> (shape, dtype) of the arrays of an item: whole blocks, their place, store and epoch."""
    result: dict[str, tuple[tuple[int, ...], str]] = {
        "store": ((), "int64"),
        "group": ((), "int32"),
        "chunk": ((), "int32"),
        "epoch": ((), "int32"),
    }
    for name, spec in manifest.fields().items():
        result[name] = ((*manifest.block_shape, *spec["shape"]), spec["dtype"])
    return result


def histories_table(manifest: Manifest, max_size: int = 16) -> Table:
    """The table that a replay server needs to take the blocks of such a store."""
    return Table(HISTORIES_TABLE, "queue", histories_signature(manifest), max_size)


def raise_if_behind(writer: HistoryWriter, sent: set[tuple[int, int]]) -> None:
    """Raises `HistoryError` where a sent block lies above its watermark: one before it never came."""
    behind = sorted(block for block in sent if not writer.below_watermark(*block))
    if behind:
        group, chunk = behind[0]
        rows = writer.manifest.rows(group)
        raise HistoryError(
            f"Histories {rows.start} to {rows.stop - 1} are whole up to step "
            f"{writer.watermarks[rows.start]}, but steps from {writer.manifest.times(chunk).start} on were "
            "sent: blocks between them never were."
        )


def open_transport(kind: str, writer: HistoryWriter, **options: Any) -> Transport:
    """Opens the way to a store.

    Args:
      kind: "direct", "reverb", or "auto": Reverb where it can be imported, else direct. One line in the
        log says which.
      writer: of the store.
      **options: of `ReverbTransport`; ignored by the direct one.

    Raises:
      HistoryError: an unknown kind, or Reverb where it cannot be imported or opened.
    """
    if kind not in ("auto", "direct", "reverb"):
        raise HistoryError(f"A transport is auto, direct or reverb; got {kind!r}.")
    if kind == "direct":
        return DirectTransport(writer)
    try:
        from . import replay as replay
    except ImportError as error:
        if kind == "reverb":
            raise HistoryError(
                f"Reverb cannot be imported ({error}): install limbeck[replay], or use the direct transport."
            ) from error
        _log.info("Histories go straight to the store: Reverb cannot be imported (%s).", error)
        return DirectTransport(writer)
    _log.info("Histories go through a Reverb server to the store.")
    return ReverbTransport(writer, **options)
