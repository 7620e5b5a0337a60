"""XLand-MiniGrid's rule sets as arrays: what xminigrid's `core/goals.py` and `core/rules.py` encode, in numpy.

Three conditions carry nearly all goals and rules: the agent *holds* a tile, the agent is *near* a tile, two
tiles lie *beside* each other. The last two may ask for a side. A goal is reached where its condition holds;
a rule replaces the tiles of its condition by a product.
"""

from typing import Any, NamedTuple

import numpy as np


Tile = tuple[int, int]

NUM_SHAPES, NUM_COLOURS, NUM_GOALS, NUM_RULES = 13, 12, 15, 12
# Ball, square, pyramid, key, hexagon, star: what an agent can pick up and put down.
SHAPES = (3, 4, 5, 7, 11, 12)
# All but "empty" and black, which is the floor's.
COLOURS = (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)

_SIDES = ("up", "right", "down", "left")
# (kind, side) -> the encoding's first number.
GOAL_IDS: dict[tuple[str, str], int] = {
    ("hold", "any"): 1,
    ("near", "any"): 3,
    ("beside", "any"): 4,
    **{("beside", side): 7 + i for i, side in enumerate(_SIDES)},
    **{("near", side): 11 + i for i, side in enumerate(_SIDES)},
}
RULE_IDS: dict[tuple[str, str], int] = {
    ("hold", "any"): 1,
    ("near", "any"): 2,
    ("beside", "any"): 3,
    **{("beside", side): 4 + i for i, side in enumerate(_SIDES)},
    **{("near", side): 8 + i for i, side in enumerate(_SIDES)},
}
_GOALS = {number: condition for condition, number in GOAL_IDS.items()}
_RULES = {number: condition for condition, number in RULE_IDS.items()}


class RuleSet(NamedTuple):
    """One task of XLand-MiniGrid, or N of them stacked; uint8 arrays, padded with zeros.

    Attributes:
      goal: [5], or [N, 5]: the goal's number, then its tiles or position.
      rules: [R, 7], or [N, R, 7]: each a rule's number, then its tiles and its product.
      init_tiles: [I, 2], or [N, I, 2]: (shape, colour) of the objects that an episode begins with.
    """

    goal: Any
    rules: Any
    init_tiles: Any


class Condition(NamedTuple):
    """A relation that must hold.

    Attributes:
      kind: `hold` (the agent picks the tile up), `near` (the agent is next to it) or `beside` (the tiles lie
        next to each other).
      side: `any`, or for `near` the side of the agent on which the tile lies, and for `beside` the side of
        the first tile on which the second one lies.
      tiles: one tile, or two for `beside`, each (shape, colour).
    """

    kind: str
    side: str
    tiles: tuple[Tile, ...]


def encode_goal(goal: Condition) -> np.ndarray:
    """uint8 [5]."""
    return _row((GOAL_IDS[goal.kind, goal.side], *_flat(goal.tiles)), 5)


def encode_rule(condition: Condition, product: Tile) -> np.ndarray:
    """uint8 [7]."""
    return _row((RULE_IDS[condition.kind, condition.side], *_flat(condition.tiles), *product), 7)


def decode_goal(goal: np.ndarray) -> Condition | None:
    """The goal's condition; None for a goal of another sort (none, a position, a tile under the agent)."""
    if int(goal[0]) not in _GOALS:
        return None
    kind, side = _GOALS[int(goal[0])]
    return Condition(kind, side, _tiles(goal[1:], 2 if kind == "beside" else 1))


def decode_rules(rules: np.ndarray) -> list[tuple[Condition, Tile]]:
    """(condition, product) of every rule, without the padding."""
    decoded = []
    for rule in rules[rules[:, 0] > 0]:
        kind, side = _RULES[int(rule[0])]
        *tiles, product = _tiles(rule[1:], 3 if kind == "beside" else 2)
        decoded.append((Condition(kind, side, tuple(tiles)), product))
    return decoded


def decode_tiles(tiles: np.ndarray) -> list[Tile]:
    """The tiles [I, 2], without the padding."""
    return [tile for tile in _tiles(tiles.reshape(-1), len(tiles)) if tile != (0, 0)]


def normalised(condition: Condition) -> Condition:
    """The one way to write a condition: "a beside b" is "b beside a", "a below b" is "b above a"."""
    kind, side, tiles = condition
    if kind != "beside":
        return condition
    if side == "any":
        return Condition(kind, side, tuple(sorted(tiles)))
    if side in ("down", "left"):
        return Condition(kind, {"down": "up", "left": "right"}[side], tiles[::-1])
    return condition


def canonical(rule_set: RuleSet) -> bytes:
    """Bytes that two rule sets share where they say the same in another order or with other padding.

    They are what `split_of` splits by. Rule sets that differ only in the order of their rules count as one,
    although that order may decide whether two rules fire in the same step.
    """
    rules = [encode_rule(normalised(c), product).tobytes() for c, product in decode_rules(rule_set.rules)]
    goal = decode_goal(rule_set.goal)
    goal = np.asarray(rule_set.goal, np.uint8) if goal is None else encode_goal(normalised(goal))
    tiles = sorted(decode_tiles(rule_set.init_tiles))
    return b"".join([goal.tobytes(), *sorted(rules), b"|", np.array(tiles, np.uint8).tobytes()])


def stack(rule_sets: list[RuleSet], num_rules: int, num_tiles: int) -> RuleSet:
    """Rule sets of any sizes as one, padded to `num_rules` and `num_tiles`."""

    def padded(rows: np.ndarray, length: int) -> np.ndarray:
        return np.pad(rows, ((0, length - len(rows)), (0, 0)))

    return RuleSet(
        np.stack([r.goal for r in rule_sets]),
        np.stack([padded(r.rules, num_rules) for r in rule_sets]),
        np.stack([padded(r.init_tiles, num_tiles) for r in rule_sets]),
    )


def check_stacked(rule_sets: RuleSet) -> RuleSet:
    """Stacked rule sets as uint8 numpy arrays.

    Raises:
      ValueError: for arrays of other shapes, or numbers that XLand-MiniGrid has no meaning for (it would take
        them for the nearest that it knows).
    """
    goal, rules, tiles = (np.asarray(part) for part in rule_sets)
    shapes = f"goal {goal.shape}, rules {rules.shape} and init_tiles {tiles.shape}"
    expected = "[N, 5], [N, R, 7] and [N, I, 2] with N, R and I of at least 1"
    if (goal.ndim, rules.ndim, tiles.ndim) != (2, 3, 3) or not goal.size * rules.size * tiles.size:
        raise ValueError(f"Rule sets are arrays {expected}, got {shapes}.")
    if len({len(goal), len(rules), len(tiles)}) > 1 or (goal.shape[1], rules.shape[2], tiles.shape[2]) != (
        5,
        7,
        2,
    ):
        raise ValueError(f"Rule sets are arrays {expected}, got {shapes}.")
    shape, colour = NUM_SHAPES - 1, NUM_COLOURS - 1
    for name, array, top in (
        ("goal", goal, [NUM_GOALS - 1, 255, 255, 255, 255]),
        ("rules", rules, [NUM_RULES - 1, shape, colour, shape, colour, shape, colour]),
        ("init_tiles", tiles, [shape, colour]),
    ):
        if not np.issubdtype(array.dtype, np.integer) or np.any(array < 0) or np.any(array > top):
            raise ValueError(f"The {name} of rule sets are whole numbers from 0 to {top}: these are not.")
    return RuleSet(*(part.astype(np.uint8) for part in (goal, rules, tiles)))


def _flat(tiles: tuple[Tile, ...]) -> list[int]:
    return [number for tile in tiles for number in tile]


def _row(numbers: tuple[int, ...], length: int) -> np.ndarray:
    row = np.zeros(length, np.uint8)
    row[: len(numbers)] = numbers
    return row


def _tiles(numbers: np.ndarray, count: int) -> tuple[Tile, ...]:
    return tuple((int(numbers[2 * i]), int(numbers[2 * i + 1])) for i in range(count))
