"""Breadth-first search in a room, on the host: demonstrations and near-misses."""

import collections
from collections.abc import Callable, Collection
from typing import NamedTuple

import jax
import numpy as np

from ._minigrid_cells import EMPTY
from ._rooms_world import DIRECTIONS, DONE, DROP, FORWARD, LEFT, PICKUP, RIGHT, VIEW_SIZE, World
from .facts import CODE_OF_OBJECT, COLORS, KINDS, OBJECTS, Object
from .goals import Goal


# States after which a search is given up: far above what a room of the usual sizes needs.
_LIMIT = 200_000


class _Node(NamedTuple):
    """A state: the grid's codes row by row, the agent's cell as an index into them, and the rest of `World`."""

    cells: bytes
    place: int
    direction: int
    carried: int


def search_demonstration(world: World, goal: Goal) -> np.ndarray:
    """See `Rooms.demonstrate`."""
    node, size = _node(world), len(world.grid)
    actions = _search(node, size, _test(goal, size), {_code(thing) for thing in goal.objects}, None)
    if actions is None:
        raise ValueError(
            f"'{goal.text()}' cannot be reached from here: an object of it is not in the room, or is beyond a search "
            f"of {_LIMIT} states."
        )
    return actions


def search_facing(world: World, cell: tuple[int, int]) -> np.ndarray:
    """The fewest actions after which the agent faces a cell (x, y), int32 `[T]`, none where it does already.

    Raises:
      ValueError: where it cannot be reached.
    """
    node, size = _node(world), len(world.grid)
    steps = [int(dx + dy * size) for dx, dy in DIRECTIONS]
    place = int(cell[0] + cell[1] * size)

    def faces(node: _Node) -> bool:
        return node.place + steps[node.direction] == place

    actions = [] if faces(node) else _breadth_first(node, size, faces, (), None)
    if actions is None:
        raise ValueError(f"There is no way to face the cell {tuple(cell)} from here.")
    return np.array(actions, np.int32)


def search_near_misses(world: World, goal: Goal) -> list[tuple[Goal, np.ndarray]]:
    """See `Rooms.near_misses`."""
    node, size = _node(world), len(world.grid)
    found = []
    for miss in _variants(goal):
        codes = {_code(thing) for thing in miss.objects}
        actions = _search(node, size, _test(miss, size), codes, _test(goal, size))
        if actions is not None:
            found.append((miss, actions))
    return found


def _variants(goal: Goal) -> list[Goal]:
    """The goals that differ from this one in one colour or one kind."""
    goals = []
    for i, (color, kind) in enumerate(goal.objects):
        others = [(c, kind) for c in COLORS if c != color] + [(color, k) for k in KINDS if k != kind]
        for other in others:
            objects: list[Object] = list(goal.objects)
            objects[i] = other
            if len(set(objects)) == len(objects):
                goals.append(Goal(goal.predicate, *(part for thing in objects for part in thing)))
    return goals


def _search(
    start: _Node,
    size: int,
    wanted: Callable[[_Node], bool],
    movable: set[int],
    avoided: Callable[[_Node], bool] | None,
) -> np.ndarray | None:
    """The fewest actions to a wanted state that pick up what is movable alone; else the fewest of all."""
    in_room = {*start.cells, start.carried}
    if not movable <= in_room:
        return None
    everything = {code for code in CODE_OF_OBJECT.tolist() if code in in_room}
    for allowed in (movable, everything):
        actions = _breadth_first(start, size, wanted, allowed, avoided)
        if actions is not None:
            return np.array(actions, np.int32)
    return None


def _breadth_first(
    start: _Node,
    size: int,
    wanted: Callable[[_Node], bool],
    movable: Collection[int],
    avoided: Callable[[_Node], bool] | None,
) -> list[int] | None:
    if wanted(start) and not (avoided and avoided(start)):
        return [DONE]
    steps = [int(dx + dy * size) for dx, dy in DIRECTIONS]
    came: dict[_Node, tuple[_Node, int] | None] = {start: None}
    queue = collections.deque([start])
    while queue and len(came) < _LIMIT:
        node = queue.popleft()
        for action, child in _children(node, node.place + steps[node.direction], movable):
            if child in came or (avoided and avoided(child)):
                continue
            came[child] = node, action
            if wanted(child):
                return _path(came, child)
            queue.append(child)
    return None


def _path(came: dict[_Node, tuple[_Node, int] | None], node: _Node) -> list[int]:
    actions = []
    while (step := came[node]) is not None:
        node, action = step
        actions.append(action)
    return actions[::-1]


def _children(node: _Node, front: int, movable: Collection[int]) -> list[tuple[int, _Node]]:
    cells, place, direction, carried = node
    children = [
        (LEFT, _Node(cells, place, (direction - 1) % 4, carried)),
        (RIGHT, _Node(cells, place, (direction + 1) % 4, carried)),
    ]
    cell = cells[front]
    if cell == EMPTY:
        children.append((FORWARD, _Node(cells, front, direction, carried)))
        if carried != EMPTY:
            dropped = cells[:front] + bytes([carried]) + cells[front + 1 :]
            children.append((DROP, _Node(dropped, place, direction, EMPTY)))
    elif carried == EMPTY and cell in movable:
        taken = cells[:front] + bytes([EMPTY]) + cells[front + 1 :]
        children.append((PICKUP, _Node(taken, place, direction, cell)))
    return children


def _test(goal: Goal, size: int) -> Callable[[_Node], bool]:
    """Whether a goal is true of a state, by what the agent sees there."""
    codes = [_code(thing) for thing in goal.objects]
    moves = DIRECTIONS.tolist()
    if goal.predicate == "hold":
        return lambda node: node.carried == codes[0]
    if goal.predicate == "face":
        steps = [dx + dy * size for dx, dy in moves]
        return lambda node: node.cells[node.place + steps[node.direction]] == codes[0]

    def seen(node: _Node, cell: int) -> bool:
        dy, dx = cell // size - node.place // size, cell % size - node.place % size
        forward_x, forward_y = moves[node.direction]
        ahead, across = forward_x * dx + forward_y * dy, forward_x * dy - forward_y * dx
        return 0 <= ahead < VIEW_SIZE and abs(across) <= VIEW_SIZE // 2

    def beside(node: _Node) -> bool:
        a, b = (node.cells.find(code) for code in codes)
        # The outer wall keeps the ends of two rows from being one step apart.
        return min(a, b) >= 0 and abs(a - b) in (1, size) and seen(node, a) and seen(node, b)

    return beside


def _code(thing: Object) -> int:
    return int(CODE_OF_OBJECT[OBJECTS.index(thing)])


def _node(world: World) -> _Node:
    grid, position, direction, carried = jax.device_get(world)
    x, y = (int(part) for part in position)
    return _Node(grid.tobytes(), x + y * len(grid), int(direction), int(carried))
