"""MiniGrid's tiles, drawn once by MiniGrid itself and gathered into images."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from ._minigrid_cells import CODES, EMPTY, ENCODINGS, UNSEEN


if TYPE_CHECKING:
    from minigrid.core.world_object import WorldObj

# A tile's index is (code, agent, highlight) in mixed radix; agent is 0 for none, else its direction plus 1.
AGENTS, HIGHLIGHTS = 5, 2


def tile_index(code: int, agent: int = 0, highlight: bool = False) -> int:
    """The index of a tile: what lies there, the agent on it (0: none, else direction + 1), lit or not."""
    return (code * AGENTS + agent) * HIGHLIGHTS + highlight


class TileBank:
    """All tiles of one size, each drawn when it is first wanted (milliseconds) and then kept.

    Attributes:
      size: pixels a side.
    """

    def __init__(self, size: int):
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"tile_size is a whole number of pixels from 1, got {size!r}.")
        self.size = int(size)
        count = CODES * AGENTS * HIGHLIGHTS
        self._tiles = np.zeros((count, self.size, self.size, 3), np.uint8)
        self._drawn = np.zeros(count, bool)
        # A row of a tile is one opaque item, so that one gather lays an image out as it is.
        self._rows = self._tiles.reshape(count * self.size, -1).view(f"V{self.size * 3}")[:, 0]
        self._offsets = np.arange(self.size)[:, None]

    def tile(self, index: int) -> np.ndarray:
        """uint8 `[size, size, 3]`, read-only."""
        self._draw(np.array([index]))
        tile = self._tiles[index]
        tile.flags.writeable = False
        return tile

    def image(self, indices: np.ndarray) -> np.ndarray:
        """The image uint8 `[rows * size, columns * size, 3]` of tile indices `[rows, columns]`."""
        self._draw(indices)
        rows, columns = indices.shape
        gathered = self._rows[indices[:, None, :] * self.size + self._offsets]
        return gathered.view(np.uint8).reshape(rows * self.size, columns * self.size, 3)

    def _draw(self, indices: np.ndarray) -> None:
        drawn = self._drawn[indices]
        if drawn.all():
            return
        for index in np.unique(indices[~drawn]).tolist():
            self._tiles[index] = _drawn_by_minigrid(index, self.size)
            self._drawn[index] = True


@functools.cache
def tile_bank(size: int) -> TileBank:
    """The process's one bank of tiles of a size.

    Raises:
      ValueError: for a size below 1.
    """
    return TileBank(size)


def _drawn_by_minigrid(index: int, size: int) -> np.ndarray:
    from minigrid.core.grid import Grid

    rest, highlight = divmod(index, HIGHLIGHTS)
    code, agent = divmod(rest, AGENTS)
    return Grid.render_tile(_object(code), agent - 1 if agent else None, bool(highlight), size)


def _object(code: int) -> WorldObj | None:
    """An object with this code; `WorldObj.decode` forgets a goal's colour."""
    from minigrid.core.constants import IDX_TO_COLOR
    from minigrid.core.world_object import Goal, WorldObj

    if code in (UNSEEN, EMPTY):
        return None
    kind, colour, state = ENCODINGS[code].tolist()
    decoded = WorldObj.decode(kind, colour, state)
    return Goal(IDX_TO_COLOR[colour]) if isinstance(decoded, Goal) else decoded
