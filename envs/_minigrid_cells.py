"""MiniGrid's grid as an array: one byte a cell, kept in step with the grid of objects."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any

import numpy as np


if TYPE_CHECKING:
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

# A cell's code is its encoding (type, colour, state) in mixed radix. These are MiniGrid's counts of each
# (`minigrid.core.constants`); a state is a door's, for the agent is never an object of the grid.
TYPES, COLOURS, STATES = 11, 6, 3
CODES = TYPES * COLOURS * STATES


def code_of(encoding: tuple[int, int, int]) -> int:
    """The code of an encoding (type, colour, state)."""
    kind, colour, state = (int(part) for part in encoding)
    if not (0 <= kind < TYPES and 0 <= colour < COLOURS and 0 <= state < STATES):
        raise ValueError(
            f"MiniGrid encodes a cell as (type below {TYPES}, colour below {COLOURS}, state below {STATES}), "
            f"got {(kind, colour, state)}."
        )
    return (kind * COLOURS + colour) * STATES + state


# uint8 [CODES, 3], the inverse.
ENCODINGS = np.stack(np.unravel_index(np.arange(CODES), (TYPES, COLOURS, STATES)), -1).astype(np.uint8)

UNSEEN = 0
EMPTY = code_of((1, 0, 0))
# What MiniGrid's `Grid.slice` puts beyond the grid's edge: `Wall()`, which is grey.
WALL = code_of((2, 5, 0))

# What hides the cells behind it: walls, and doors that are not open (state 0).
OPAQUE = (ENCODINGS[:, 0] == 2) | ((ENCODINGS[:, 0] == 4) & (ENCODINGS[:, 2] != 0))
_OPAQUE = OPAQUE.tolist()
_BY_ENCODING = {tuple(encoding): code for code, encoding in enumerate(ENCODINGS.tolist())}


def codes_of(symbols: Any) -> Any:
    """uint8 codes `[...]` of encodings `[..., 3]`, NumPy's or JAX's, without checks."""
    kind, colour, state = (symbols[..., part] for part in range(3))
    return ((kind * COLOURS + colour) * STATES + state).astype(np.uint8)


def cell_code(cell: WorldObj | None) -> int:
    """The code of what a cell holds.

    Raises:
      ValueError: for an object that MiniGrid's encoding does not describe.
    """
    if cell is None:
        return EMPTY
    code = _BY_ENCODING.get(cell.encode())
    if code is None:
        code = code_of(cell.encode())
    if _OPAQUE[code] == cell.see_behind():
        raise ValueError(
            f"{cell!r} is encoded as {cell.encode()}, of which MiniGrid's own objects "
            f"{'do not let' if _OPAQUE[code] else 'let'} the agent see what is behind; this one differs."
        )
    return code


class GridMirror:
    """The codes of a grid, brought up to date in microseconds.

    MiniGrid replaces objects by `Grid.set`, which shows when its list of cells is compared with the last
    one, and changes only doors in place. Objects of other classes than MiniGrid's may do so too, so
    whatever is not known to stay as it is gets looked at every time.

    Attributes:
      padded: uint8 `[height + 2 * margin, width + 2 * margin]`, the codes with a frame of walls around
        them, rows from the top. Written to by `update`.
      codes: `[height, width]`, the view of `padded` without the frame.
      version: grows whenever a cell changed.
    """

    def __init__(self, margin: int):
        from minigrid.core import world_object

        self._margin = margin
        kinds = ("Ball", "Box", "Floor", "Goal", "Key", "Lava", "Wall")
        self._constant = {getattr(world_object, kind) for kind in kinds}
        self._shape = (0, 0)
        self.version = 0

    def update(self, grid: Grid) -> None:
        """Brings `codes` up to date with the grid.

        Raises:
          ValueError: for an object that MiniGrid's encoding does not describe.
        """
        cells = grid.grid
        if (grid.height, grid.width) != self._shape:
            self._resize(grid.height, grid.width)
        if cells != self._cells:
            self._replace(cells)
            self.version += 1
        for place, (cell, encoding) in self._watched.items():
            new = cell.encode()
            if new != encoding:
                self._watched[place] = cell, new
                self.codes[place] = cell_code(cell)
                self.version += 1

    def _resize(self, height: int, width: int) -> None:
        margin = self._margin
        self._shape = height, width
        self.padded = np.full((height + 2 * margin, width + 2 * margin), WALL, np.uint8)
        self.codes = self.padded[margin : margin + height, margin : margin + width]
        self.codes[:] = EMPTY
        self._cells: list[WorldObj | None] = [None] * (height * width)
        self._watched: dict[tuple[int, int], tuple[WorldObj, tuple[int, int, int]]] = {}

    def _replace(self, cells: list[WorldObj | None]) -> None:
        width = self._shape[1]
        differ = map(operator.is_not, cells, self._cells)
        for index in itertools.compress(range(len(cells)), differ):
            place, cell = divmod(index, width), cells[index]
            self.codes[place] = cell_code(cell)
            self._watched.pop(place, None)
            if cell is not None and type(cell) not in self._constant:
                self._watched[place] = cell, cell.encode()
        self._cells = cells.copy()
