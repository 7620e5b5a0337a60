"""Images of MiniGrid and the way back: the agent's view, the whole grid, and the parser of the latter."""

import functools
from typing import NamedTuple

import numpy as np

from ._minigrid_cells import CODES, EMPTY, ENCODINGS, OPAQUE, UNSEEN, code_of, codes_of
from ._minigrid_tiles import AGENTS, HIGHLIGHTS, TileBank, tile_bank, tile_index


# By code: the tile in the agent's view, lit where the agent sees; in the full view nothing is lit.
_IN_VIEW = np.array([tile_index(code, highlight=code != UNSEEN) for code in range(CODES)])
_IN_FULL = np.array([tile_index(code) for code in range(CODES)])
_UP = 4


class GridState(NamedTuple):
    """What the full view shows.

    Attributes:
      symbols: uint8 `[width, height, 3]`, MiniGrid's `grid.encode()`: (type, colour, state) at x, y. The
        agent is not among them, so that what it stands on is told.
      position: the agent's (x, y).
      direction: the agent's, 0 right, 1 down, 2 left, 3 up.
      carried: (type, colour, state) of what the agent carries; (1, 0, 0), empty, for nothing.
    """

    symbols: np.ndarray
    position: tuple[int, int]
    direction: int
    carried: tuple[int, int, int]


def view_image(view: np.ndarray, bank: TileBank) -> np.ndarray:
    """The picture of an agent's view (`agent_view`), as `MiniGridEnv.get_pov_render` draws it."""
    indices = _IN_VIEW[view]
    size = len(view)
    indices[size - 1, size // 2] += _UP * HIGHLIGHTS
    return bank.image(indices)


def full_image(
    codes: np.ndarray, position: tuple[int, int], direction: int, carried: int, bank: TileBank
) -> np.ndarray:
    """The picture of a grid `[height, width]` of codes, as `MiniGridEnv.get_full_render(False, …)` draws it.

    Below it is one more row of tiles, the inventory: the carried object on the left, the rest black.
    """
    height, width = codes.shape
    indices = np.full((height + 1, width), tile_index(EMPTY))
    indices[:height] = _IN_FULL[codes]
    x, y = position
    indices[y, x] += (direction + 1) * HIGHLIGHTS
    indices[height, 0] = tile_index(carried)
    image = bank.image(indices)
    image[height * bank.size :, bank.size :] = 0
    return image


def render_state(state: GridState, tile_size: int = 8) -> np.ndarray:
    """The full view with its inventory row, uint8 `[(height + 1) * tile_size, width * tile_size, 3]`.

    Raises:
      ValueError: for a tile size below 1 or an encoding that MiniGrid does not have.
    """
    if not np.all(state.symbols < ENCODINGS.max(0) + 1):
        raise ValueError("symbols hold (type, colour, state) beyond MiniGrid's, such as the agent itself.")
    codes = codes_of(state.symbols).T
    return full_image(codes, state.position, state.direction, code_of(state.carried), tile_bank(tile_size))


def parse_tiles(image: np.ndarray, tile_size: int = 8) -> GridState:
    """Reads the full view back: the exact inverse of `render_state`.

    One pair of MiniGrid's objects looks the same, a goal and a wall of the goal's colour. Green is read as
    the goal and other colours as walls, which is so in every registered id.

    Args:
      image: uint8 `[(height + 1) * tile_size, width * tile_size, 3]`, as the key `image` holds it where
        `minigrid(…, image="full")`.
      tile_size: pixels a side of a tile.

    Raises:
      ValueError: for an image of another shape, a tile that is not MiniGrid's, not exactly one agent, or a
        tile size at which some tiles look the same.
    """
    known, bank = _known(tile_size), tile_bank(tile_size)
    image = np.asarray(image)
    rows, columns = (side // tile_size for side in image.shape[:2]) if image.ndim == 3 else (0, 0)
    expected = (rows * tile_size, columns * tile_size, 3)
    if image.dtype != np.uint8 or image.shape != expected or rows < 2 or columns < 1:
        raise ValueError(
            f"A full view is uint8 [rows * {tile_size}, columns * {tile_size}, 3] with an inventory row, "
            f"got {image.dtype} {list(image.shape)}."
        )
    tiles = image.reshape(rows, tile_size, columns, tile_size, 3).swapaxes(1, 2)
    height = rows - 1
    if tiles[height, 1:].any():
        raise ValueError("The last row of tiles is not an inventory: it is black but for its first tile.")
    codes, agents = np.zeros((height, columns), np.uint8), []
    for y in range(height):
        for x in range(columns):
            codes[y, x], agent = _read(tiles[y, x], known, bank, (x, y))
            if agent:
                agents.append((x, y, agent - 1))
    if len(agents) != 1:
        raise ValueError(f"A full view shows one agent; this one shows {len(agents)}.")
    carried, agent = _read(tiles[height, 0], known, bank, (0, height))
    if agent:
        raise ValueError("The inventory shows the agent itself.")
    (x, y, direction), kind = agents[0], ENCODINGS[carried].tolist()
    return GridState(ENCODINGS[codes.T], (x, y), direction, (kind[0], kind[1], kind[2]))


def _read(
    tile: np.ndarray, known: dict[bytes, int], bank: TileBank, place: tuple[int, int]
) -> tuple[int, int]:
    """(code, agent) of one tile."""
    index = known.get(tile.tobytes())
    if index is None:
        raise ValueError(f"The tile at {place} is none of MiniGrid's at tile_size {bank.size}.")
    return divmod(index // HIGHLIGHTS, AGENTS)


@functools.cache
def _known(tile_size: int) -> dict[bytes, int]:
    """Tile indices by pixels, for all that a full view may show."""
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

    bank = tile_bank(tile_size)
    colours = sorted(COLOR_TO_IDX.values())
    code = lambda name, colour, state=0: code_of((OBJECT_TO_IDX[name], colour, state))  # noqa: E731
    goal = code("goal", COLOR_TO_IDX["green"])
    walls = [code("wall", colour) for colour in colours if colour != COLOR_TO_IDX["green"]]
    codes = [EMPTY, goal, code("lava", COLOR_TO_IDX["red"]), *walls]
    codes += [code(name, colour) for name in ("floor", "key", "ball", "box") for colour in colours]
    codes += [code("door", colour, state) for colour in colours for state in range(3)]
    solid = [OBJECT_TO_IDX[name] for name in ("key", "ball", "box")]
    known: dict[bytes, int] = {}
    for code_ in codes:
        stands = not OPAQUE[code_] and ENCODINGS[code_, 0] not in solid
        for agent in range(AGENTS if stands else 1):
            index = tile_index(code_, agent)
            other = known.setdefault(bank.tile(index).tobytes(), index)
            if other != index:
                raise ValueError(
                    f"At tile_size {tile_size} some of MiniGrid's tiles look the same "
                    f"({ENCODINGS[other // (AGENTS * HIGHLIGHTS)].tolist()} and {ENCODINGS[code_].tolist()}); "
                    "a larger one tells them apart."
                )
    return known
