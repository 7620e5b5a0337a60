"""Rule sets for XLand-MiniGrid: a seeded generator, the check that they can be solved, and files.

The sizes of the kinds are those of the public benchmarks of A. Nikulin et al., "XLand-MiniGrid", arXiv
2312.12044; the generator, and so every rule set, is Limbeck's own.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ._xland_encoding import (
    COLOURS,
    GOAL_IDS,
    SHAPES,
    Condition,
    Tile,
    check_stacked,
    encode_goal,
    encode_rule,
    stack,
)
from ._xland_encoding import RuleSet as RuleSet
from ._xland_encoding import canonical as canonical
from ._xland_solver import is_solvable as is_solvable


class _Kind(NamedTuple):
    """depth: rules between an initial object and the goal at most. prune: chance that a tile which could
    be made by a rule is there from the start. distractor_rules: at most. distractor_objects: always."""

    depth: int
    prune: float
    distractor_rules: int
    distractor_objects: int

    @property
    def max_rules(self) -> int:
        return max(2 * (2**self.depth - 1) + self.distractor_rules, 1)  # xminigrid pads an empty list too

    @property
    def max_tiles(self) -> int:
        return 2 * 2**self.depth + self.distractor_objects


KINDS = {
    "trivial": _Kind(depth=0, prune=0.0, distractor_rules=0, distractor_objects=3),
    "small": _Kind(depth=1, prune=0.3, distractor_rules=2, distractor_objects=2),
    "medium": _Kind(depth=2, prune=0.1, distractor_rules=3, distractor_objects=2),
}
_CONDITIONS = tuple(GOAL_IDS)
_FORMAT, _VERSION = "limbeck.xland_rules", 1


def generate(kind: str, count: int, seed: int) -> RuleSet:
    """Draws rule sets that are all different and all solvable.

    A goal is drawn from XLand-MiniGrid's eleven on objects. Each of its tiles is there from the start or,
    to the kind's depth, made by a rule, whose tiles are again there or made. Every tile of this tree has a
    shape and colour of its own, so that no rule takes what another one needs. Beside the tree's leaves lie
    distractor objects. A distractor rule either turns such an object into something useless, or (a dead end)
    does so with it and a tile of the tree that are put beside each other.

    | kind | rules in a chain | distractor rules | distractor objects | arrays |
    |---|---|---|---|---|
    | trivial | 0 | 0 | 3 | rules [1, 7], init_tiles [5, 2] |
    | small | 1 | 0 to 2 | 2 | rules [4, 7], init_tiles [6, 2] |
    | medium | 1 to 2 | 0 to 3 | 2 | rules [9, 7], init_tiles [10, 2] |

    Args:
      kind: `trivial`, `small` or `medium`.
      count: how many.
      seed: 0 to 2**32 - 1. The same seed gives the same rule sets with every version of NumPy, and a
        smaller count the first of them.

    Returns:
      `count` stacked rule sets, as numpy arrays.

    Raises:
      ValueError: for another kind, a count below 1 or a seed out of range.
    """
    check_generator(kind, count, seed)
    # The legacy generator, whose stream NumPy promises never to change: task ids name rule sets for good.
    random = np.random.RandomState([list(KINDS).index(kind), seed])
    found: dict[bytes, RuleSet] = {}
    while len(found) < count:
        rule_set = _Draw(random, KINDS[kind]).rule_set()
        if not is_solvable(rule_set):
            raise RuntimeError(f"A generated rule set cannot be solved; please report this: {rule_set!r}.")
        found.setdefault(canonical(rule_set), rule_set)
    return stack(list(found.values()), KINDS[kind].max_rules, KINDS[kind].max_tiles)


def check_generator(kind: str, count: int, seed: int) -> None:
    """Raises ValueError as `generate` does, without generating."""
    if kind not in KINDS:
        raise ValueError(f"There is no kind of rule sets {kind!r}; known: {', '.join(KINDS)}.")
    if count < 1:
        raise ValueError(f"At least 1 rule set must be drawn, got {count}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"The seed of rule sets lies in 0 to 2**32 - 1, got {seed}.")


class _Draw:
    """One rule set while it is being drawn."""

    def __init__(self, random: np.random.RandomState, kind: _Kind):
        self._random, self._kind = random, kind
        tiles = [(shape, colour) for shape in SHAPES for colour in COLOURS]
        self._fresh = (tiles[i] for i in random.permutation(len(tiles)))
        self._rules: list[tuple[Condition, Tile]] = []
        self._leaves: list[Tile] = []

    def rule_set(self) -> RuleSet:
        goal = self._condition()
        for i, tile in enumerate(goal.tiles):
            self._grow(tile, self._kind.depth, certain=i == 0)
        distractors = [next(self._fresh) for _ in range(self._kind.distractor_objects)]
        self._distract(goal, distractors)
        rules = [encode_rule(condition, product) for condition, product in self._rules]
        order = self._random.permutation(len(rules))
        return RuleSet(
            encode_goal(goal),
            np.array([rules[i] for i in order], np.uint8).reshape(-1, 7),
            self._random.permutation(np.array(self._leaves + distractors, np.uint8)),
        )

    def _condition(self) -> Condition:
        kind, side = _CONDITIONS[self._random.randint(len(_CONDITIONS))]
        return Condition(kind, side, tuple(next(self._fresh) for _ in range(1 + (kind == "beside"))))

    def _grow(self, tile: Tile, depth: int, certain: bool) -> None:
        """Lets `tile` be made by a rule, and the rule's tiles likewise, or lie there from the start."""
        if not depth or not (certain or self._random.random_sample() >= self._kind.prune):
            self._leaves.append(tile)
            return
        condition = self._condition()
        self._rules.append((condition, tile))
        for source in condition.tiles:
            self._grow(source, depth - 1, certain=False)

    def _distract(self, goal: Condition, distractors: list[Tile]) -> None:
        # Tiles that no rule changes by itself: only these may lead to a dead end that can be avoided.
        steady = [*goal.tiles]
        steady += [tile for c, _ in self._rules if c.kind == "beside" for tile in c.tiles]
        untouched, pairs = list(distractors), set()
        for _ in range(self._random.randint(self._kind.distractor_rules + 1)):
            kind, side = _CONDITIONS[self._random.randint(len(_CONDITIONS))]
            if kind == "beside":
                partner = steady[self._random.randint(len(steady))]
                condition = Condition(
                    kind, side, (partner, distractors[self._random.randint(len(distractors))])
                )
                if frozenset(condition.tiles) in pairs:  # The first rule for a pair would hide the second.
                    continue
                pairs.add(frozenset(condition.tiles))
            elif untouched:
                tile = untouched.pop(self._random.randint(len(untouched)))
                condition = Condition(kind, side, (tile,))
            else:
                continue
            self._rules.append((condition, next(self._fresh)))


def save_npz(path: str | os.PathLike, rule_sets: RuleSet, about: Mapping[str, Any]) -> None:
    """Writes stacked rule sets to a file, at exactly `path`.

    Args:
      path: the file, replaced where there is one.
      rule_sets: stacked, numpy or JAX arrays.
      about: JSON-able facts to keep with them: where they come from, `kind` and `seed` of generated ones.

    Raises:
      ValueError: for arrays that are not rule sets.
      TypeError: for facts that JSON cannot hold.
    """
    arrays = check_stacked(rule_sets)._asdict()
    header = json.dumps({"format": _FORMAT, "version": _VERSION, "about": dict(about)})
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        np.savez_compressed(file, header=np.array(header), **arrays)
    os.replace(temporary, path)


def load_npz(path: str | os.PathLike) -> tuple[RuleSet, dict[str, Any]]:
    """(stacked rule sets, the facts beside them) of a file that `save_npz` wrote. Nothing is unpickled.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: for a file of another format, with what to do about it.
    """
    with open(path, "rb") as file:
        start = file.read(3)
    if start == b"BZh":
        raise ValueError(f"{path} is a bz2 file, as xminigrid's benchmarks are: a pickle. {CONVERT}")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not an npz file")
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            if header["format"] != _FORMAT or header["version"] != _VERSION:
                raise ValueError(f"it says {header['format']} version {header['version']}")
            return check_stacked(RuleSet(*(archive[name] for name in RuleSet._fields))), header["about"]
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} does not hold rule sets as `save_npz` writes them ({_FORMAT} version {_VERSION}): {error}."
        ) from None


CONVERT = (
    "Limbeck unpickles nothing; where you trust the file, convert it once: "
    "`b = xminigrid.load_benchmark(NAME)` or `xminigrid.benchmarks.load_benchmark_from_path(PATH)`, then "
    "`xland_rules.save_npz('NAME.npz', xland_rules.RuleSet(b.goals, b.rules, b.init_tiles), "
    "{'source': NAME})`, and give benchmark='NAME.npz'."
)
