"""Whether a rule set can be solved, without playing it."""

from collections import Counter

from ._xland_encoding import (
    SHAPES,
    Condition,
    RuleSet,
    Tile,
    decode_goal,
    decode_rules,
    decode_tiles,
    normalised,
)


def is_solvable(rule_set: RuleSet) -> bool:
    """Whether a goal is shown to be reachable from the initial objects, given open floor around them.

    A search over the multisets of objects that the rules can make of the initial ones. Where things lie is
    left out, but not what the agent cannot help: a `hold` rule fires whenever its tile is picked up and a
    `near` rule whenever the agent walks up to its tile, so that a tile with such a rule is of use to that rule
    alone, and of no use where it has several. A `beside` rule fires only where the agent puts something
    down, so it can be avoided; but of rules for the same pair the first one wins, over the goal too.

    So True is a promise (on a floor with room to carry things about), and False means "not shown": a few
    solvable rule sets are refused, as are all goals that are positions on the map or tiles under the agent.

    Args:
      rule_set: one rule set, of numpy arrays.
    """
    goal = decode_goal(rule_set.goal)
    rules = decode_rules(rule_set.rules)
    forced = Counter(condition.tiles[0] for condition, _ in rules if condition.kind != "beside")

    def free(condition: Condition) -> bool:
        return all(tile not in forced and tile[0] in SHAPES for tile in condition.tiles)

    if goal is None or not free(goal) or any(_clash(goal, condition) for condition, _ in rules):
        return False
    usable = []
    for i, (condition, product) in enumerate(rules):
        if condition.kind == "beside":
            ok = free(condition) and not any(_clash(condition, earlier) for earlier, _ in rules[:i])
        else:
            ok = forced[condition.tiles[0]] == 1 and condition.tiles[0][0] in SHAPES
        if ok:
            usable.append((condition, product))
    return _search(goal, usable, decode_tiles(rule_set.init_tiles))


def _clash(one: Condition, other: Condition) -> bool:
    """Whether two pairs can be laid down so that both conditions hold."""
    if one.kind != "beside" or other.kind != "beside" or sorted(one.tiles) != sorted(other.tiles):
        return False
    return "any" in (one.side, other.side) or normalised(one) == normalised(other)


def _search(goal: Condition, rules: list[tuple[Condition, Tile]], objects: list[Tile]) -> bool:
    """Depth first; it ends because no rule makes more objects than it takes."""
    wanted = Counter(goal.tiles)
    start = tuple(sorted(objects))
    seen, stack = {start}, [start]
    while stack:
        here = Counter(stack.pop())
        if wanted <= here:
            return True
        for condition, product in rules:
            taken = Counter(condition.tiles)
            if not taken <= here:
                continue
            after = tuple(sorted((here - taken + Counter([product])).elements()))
            if after not in seen:
                seen.add(after)
                stack.append(after)
    return False
