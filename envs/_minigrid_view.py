"""What MiniGrid's agent sees of the grid: `MiniGridEnv.gen_obs` on arrays of codes."""

import functools

import numpy as np

from ._minigrid_cells import OPAQUE


def agent_view(
    padded: np.ndarray,
    margin: int,
    position: tuple[int, int],
    direction: int,
    carried: int,
    size: int,
    see_through_walls: bool,
) -> np.ndarray:
    """The agent's view: the square before it, turned so that it looks up from the middle of the last row.

    Args:
      padded: codes with a frame of walls of at least `size - 1` cells (`GridMirror.padded`).
      margin: the frame's width in cells.
      position: the agent's (x, y) in the grid.
      direction: 0 right, 1 down, 2 left, 3 up.
      carried: the code of what the agent carries, EMPTY for nothing; it is seen on the agent's own cell.
      size: of the view, odd.
      see_through_walls: whether nothing hides what is behind it.

    Returns:
      uint8 `[size, size]` codes, rows from the far end; UNSEEN where the agent does not see.
    """
    half, x, y = size // 2, position[0] + margin, position[1] + margin
    if direction == 0:
        view = padded[y - half : y + half + 1, x : x + size].T[::-1]
    elif direction == 1:
        view = padded[y : y + size, x - half : x + half + 1][::-1, ::-1]
    elif direction == 2:
        view = padded[y - half : y + half + 1, x - size + 1 : x + 1].T[:, ::-1]
    else:
        view = padded[y - size + 1 : y + 1, x - half : x + half + 1]
    view = view.copy() if see_through_walls else view * _visible(view)
    view[size - 1, half] = carried
    return view


# By code, for `bytes.translate`: 1 where a cell hides what is behind it.
_HIDES = OPAQUE.astype(np.uint8).tobytes().ljust(256, b"\0")


def _visible(view: np.ndarray) -> np.ndarray:
    """bool `[size, size]`: MiniGrid's rule of sight (`Grid.process_vis`), the agent in the last row's middle.

    Light goes from a seen cell that hides nothing to its neighbours in the same row and to the three cells
    above. A row's cells are the bits of an integer and its walls are bytes, so that the rule for a whole row
    is one look-up.
    """
    size = len(view)
    hides = view.tobytes().translate(_HIDES)
    rows, seen = [b""] * size, 1 << size // 2
    for row in range(size - 1, -1, -1):
        rows[row], seen = _light(seen, hides[row * size : (row + 1) * size])
    return np.frombuffer(b"".join(rows), bool).reshape(size, size)


@functools.lru_cache(maxsize=1 << 16)
def _light(seen: int, hides: bytes) -> tuple[bytes, int]:
    """One row of `process_vis`, from left to right and then back.

    Args:
      seen: bit i is 1 where light reached cell i from the row below.
      hides: byte i is 1 where cell i hides what is behind it.

    Returns:
      (the row's seen cells, one byte each; the cells that it lights in the row above, as bits).
    """
    size, above = len(hides), 0
    for column in range(size - 1):
        if seen >> column & 1 and not hides[column]:
            seen |= 2 << column
            above |= 3 << column
    for column in range(size - 1, 0, -1):
        if seen >> column & 1 and not hides[column]:
            seen |= 1 << column - 1
            above |= 3 << column - 1
    return bytes(seen >> column & 1 for column in range(size)), above
