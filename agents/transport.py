"""How blocks of histories come to the store: through a replay server, or in process."""

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from ._manifest import HistoryError
from .histories import HistoryWriter


_log = logging.getLogger(__name__)


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
      kind: "direct", "reverb", or "auto": Reverb where it is installed, else direct; one line in the log
        says which.
      writer: of the store.
      **options: of `ReverbTransport`; ignored by the direct one.

    Raises:
      HistoryError: an unknown kind, or Reverb without the `replay` extra.
    """
    if kind not in ("auto", "direct", "reverb"):
        raise HistoryError(f"A transport is auto, direct or reverb; got {kind!r}.")
    installed = importlib.util.find_spec("reverb") is not None
    if kind == "auto":
        kind = "reverb" if installed else "direct"
        _log.info(
            "Histories go %s.",
            "through a Reverb server" if installed else "straight to the store: Reverb is not installed",
        )
    if kind == "direct":
        return DirectTransport(writer)
    raise HistoryError("The replay extra is not installed: pip install 'limbeck[replay]', or use direct.")
