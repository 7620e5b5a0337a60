"""What hosted actors see, as blocks of a history store: kept until the store has them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ..envs import LAST
from ._blocks import check_block
from ._manifest import Manifest
from .actor import Rows


class HistoryRecorder:
    """Cuts the rows of a group's streams into blocks, and sends each until the store acknowledges it.

    The store's watermark is the acknowledgement. A block that is not below it is kept here and sent again.

    Attributes:
      recording: False once the histories are whole.
    """

    def __init__(
        self,
        manifest: Manifest,
        group: int,
        start: int,
        send: Callable[[int, Mapping[str, np.ndarray]], Any],
        resend_after_s: float = 10.0,
    ):
        """
        Args:
          manifest: of the store.
          group: whose histories the streams are, in their order.
          start: the step of the histories at which the streams begin: their watermark. At their length there
            is nothing left to record.
          send: `send(chunk, flat fields)`; may lose what it is given.
          resend_after_s: a block is sent again when it was not acknowledged for so long.
        """
        self._manifest, self._group, self._send = manifest, group, send
        self._resend_after_s = resend_after_s
        # Rounded up: a last chunk that is short ends where the histories do, not at a multiple.
        self._chunk, self._filled = -(-start // manifest.steps_per_chunk), 0
        self._block: dict[str, Any] | None = None
        self._kept: dict[int, tuple[float, dict[str, np.ndarray]]] = {}

    @property
    def recording(self) -> bool:
        return self._chunk < self._manifest.num_chunks

    @property
    def waiting(self) -> int:
        """Blocks that were sent and not acknowledged."""
        return len(self._kept)

    def add(self, rows: Rows) -> None:
        """Adds one step of every stream; sends the block that it completes."""
        if not self.recording:
            return
        row = _row(rows, self._manifest.action["dtype"])
        times = self._manifest.times(self._chunk)
        block = self._block
        if block is None:
            block = jax.tree.map(lambda x: np.empty((len(x), len(times), *x.shape[1:]), x.dtype), row)
            self._block = block
        for whole, part in zip(jax.tree.leaves(block), jax.tree.leaves(row)):
            whole[:, self._filled] = part
        self._filled += 1
        if self._filled == len(times):
            fields = check_block(self._manifest, block, self._manifest.rows(self._group), times)
            self._kept[self._chunk] = (time.monotonic(), fields)
            self._send(self._chunk, fields)
            self._chunk, self._filled, self._block = self._chunk + 1, 0, None

    def acknowledge(self, watermark: int) -> None:
        """Forgets what lies below the store's watermark, and sends again what has waited too long."""
        for chunk in sorted(self._kept):
            since, fields = self._kept[chunk]
            if self._manifest.times(chunk).stop <= watermark:
                del self._kept[chunk]
            elif time.monotonic() - since > self._resend_after_s:
                self._kept[chunk] = (time.monotonic(), fields)
                self._send(chunk, fields)


def _row(rows: Rows, action_dtype: str) -> dict[str, Any]:
    last = rows.led_to.step_type == LAST

    def final(value: np.ndarray) -> np.ndarray:
        return np.where(last.reshape(-1, *[1] * (value.ndim - 1)), value, np.zeros_like(value))

    return {
        "observation": rows.timestep.observation,
        # Agents choose int32, whatever integers the environment's own are.
        "action": rows.action.astype(action_dtype),
        "reward": rows.led_to.reward,
        "discount": rows.led_to.discount,
        "step_type": rows.led_to.step_type,
        "final_observation": jax.tree.map(final, rows.next_observation),
    }
