import bz2
import hashlib
import importlib.util
import itertools
import os
import pathlib
import pickle

import numpy as np
import pytest
from limbeck.envs import split_of, xland_rules
from limbeck.envs._xland_encoding import (
    COLOURS,
    GOAL_IDS,
    RULE_IDS,
    SHAPES,
    Condition,
    RuleSet,
    decode_goal,
    decode_rules,
    decode_tiles,
    encode_goal,
    encode_rule,
)


KINDS = ["trivial", "small", "medium"]
BALL, SQUARE, PYRAMID, KEY, STAR = (3, 1), (4, 2), (5, 3), (7, 4), (12, 11)
needs_xminigrid = pytest.mark.skipif(
    importlib.util.find_spec("xminigrid") is None, reason="needs the extra xland"
)


def hold(tile):
    return Condition("hold", "any", (tile,))


def near(tile, side="any"):
    return Condition("near", side, (tile,))


def beside(a, b, side="any"):
    return Condition("beside", side, (a, b))


def hand_made(goal, rules, tiles):
    encoded = [encode_rule(condition, product) for condition, product in rules]
    return RuleSet(
        encode_goal(goal),
        np.array(encoded, np.uint8).reshape(-1, 7),
        np.array(tiles, np.uint8).reshape(-1, 2),
    )


def one(rule_sets, i):
    return RuleSet(*(part[i] for part in rule_sets))


@needs_xminigrid
def test_encodings_and_tiles_are_xminigrid_s():
    from xminigrid.core import constants, goals, rules

    tiles = np.array([BALL, SQUARE, STAR], np.uint8)

    def name(kind, side, what):
        part = {"hold": "AgentHold", "near": "AgentNear", "beside": "TileNear"}[kind]
        return part + ("" if side == "any" else side.capitalize()) + what

    for (kind, side), number in GOAL_IDS.items():
        theirs = getattr(goals, name(kind, side, "Goal"))(*tiles[: 1 + (kind == "beside")]).encode()
        ours = encode_goal(Condition(kind, side, (BALL, SQUARE)[: 1 + (kind == "beside")]))
        assert ours[0] == number
        np.testing.assert_array_equal(ours, np.asarray(theirs))
    for (kind, side), number in RULE_IDS.items():
        sources = tiles[: 1 + (kind == "beside")]
        theirs = getattr(rules, name(kind, side, "Rule"))(*sources, tiles[2]).encode()
        ours = encode_rule(Condition(kind, side, (BALL, SQUARE)[: len(sources)]), STAR)
        assert ours[0] == number
        np.testing.assert_array_equal(ours, np.asarray(theirs))
    # With the empty ones and the three goals on places and floors these are all that there are.
    assert len(GOAL_IDS) == len(RULE_IDS) == 11 == goals.NUM_GOALS - 4 == rules.NUM_RULES - 1
    assert set(SHAPES) == set(np.asarray(constants.PICKABLE).tolist())
    spare = {constants.Colors.EMPTY, constants.Colors.BLACK}
    assert set(COLOURS) == set(range(constants.NUM_COLORS)) - spare
    assert (constants.NUM_TILES, constants.NUM_COLORS) == (13, 12)


def test_what_was_encoded_is_decoded():
    goal, rule = beside(BALL, SQUARE, "left"), (near(KEY, "down"), STAR)
    rule_set = hand_made(goal, [rule, (beside(BALL, KEY), PYRAMID)], [BALL, KEY])
    padded = RuleSet(
        rule_set.goal, np.pad(rule_set.rules, ((1, 2), (0, 0))), np.pad(rule_set.init_tiles, ((0, 3), (0, 0)))
    )
    assert decode_goal(padded.goal) == goal
    assert decode_rules(padded.rules) == [rule, (beside(BALL, KEY), PYRAMID)]
    assert decode_tiles(padded.init_tiles) == [BALL, KEY]
    assert [decode_goal(np.array([i, 3, 1, 0, 0])) for i in (0, 2, 5, 6)] == [None] * 4


# Drawn once from seed 0; task ids name rule sets for good, so these must never change.
DIGESTS = {"trivial": "f97f469d7535937a", "small": "2eadfd3bc409f5b2", "medium": "c60e7922312f0f6c"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_determines_the_rule_sets_and_a_smaller_count_gives_the_first_of_them(kind):
    many = xland_rules.generate(kind, 50, seed=0)
    digest = hashlib.sha256(b"".join(part.tobytes() for part in many)).hexdigest()
    assert digest[:16] == DIGESTS[kind]
    for part, fewer in zip(many, xland_rules.generate(kind, 20, seed=0), strict=True):
        np.testing.assert_array_equal(part[:20], fewer)
    other = xland_rules.generate(kind, 50, seed=1)
    assert not {xland_rules.canonical(one(many, i)) for i in range(50)} & {
        xland_rules.canonical(one(other, i)) for i in range(50)
    }


def facts(rule_set):
    """The rule set as sets, worked out from the raw numbers alone."""
    rules = frozenset(map(tuple, rule_set.rules[rule_set.rules[:, 0] > 0].tolist()))
    tiles = tuple(sorted(map(tuple, rule_set.init_tiles[rule_set.init_tiles[:, 0] > 0].tolist())))
    return tuple(rule_set.goal.tolist()), rules, tiles


def chain(tile, makers):
    """How many rules lie between the initial objects and `tile`."""
    return 1 + max(chain(source, makers) for source in makers[tile]) if tile in makers else 0


@pytest.mark.parametrize(
    "kind, depths, spare_rules, spare_objects",
    [("trivial", {0}, 0, 3), ("small", {1}, 2, 2), ("medium", {1, 2}, 3, 2)],
)
def test_rule_sets_are_unique_and_built_as_their_kind_says(kind, depths, spare_rules, spare_objects):
    rule_sets = xland_rules.generate(kind, 400, seed=3)
    assert rule_sets.goal.shape == (400, 5) and all(part.dtype == np.uint8 for part in rule_sets)
    assert len({facts(one(rule_sets, i)) for i in range(400)}) == 400
    goals, found, most_spare = set(), set(), 0
    for i in range(400):
        rule_set = one(rule_sets, i)
        goal, rules = decode_goal(rule_set.goal), decode_rules(rule_set.rules)
        tiles = decode_tiles(rule_set.init_tiles)
        makers = {product: condition.tiles for condition, product in rules}
        assert len(makers) == len(rules)  # no tile is made by two rules
        assert len(set(tiles)) == len(tiles) and not set(tiles) & set(makers)
        goals.add((goal.kind, goal.side))
        found.add(max(chain(tile, makers) for tile in goal.tiles))
        tree, todo = set(), list(goal.tiles)
        while todo:
            tree.add(todo[-1])
            todo.extend(makers.get(todo.pop(), ()))
        assert len(set(tiles) - tree) == spare_objects
        assert tree <= set(tiles) | set(makers)
        wasted = [product for product in makers if product not in tree]
        assert len(wasted) <= spare_rules
        most_spare = max(most_spare, len(wasted))
        # What a distractor rule makes is of no use, and those that take a tile of the tree can be avoided.
        for condition, product in rules:
            assert product in tree or not any(product in sources for sources in makers.values())
            assert product in tree or condition.kind == "beside" or not set(condition.tiles) & tree
    assert goals == set(GOAL_IDS)
    assert found == depths and most_spare == spare_rules


def test_what_is_drawn_again_in_another_order_is_left_out(monkeypatch):
    draw, drawn = xland_rules._Draw.rule_set, []

    def each_twice(self):
        drawn.append(draw(self))
        again = drawn[-2] if len(drawn) % 2 == 0 else drawn[-1]
        return again._replace(rules=again.rules[::-1], init_tiles=again.init_tiles[::-1])

    monkeypatch.setattr(xland_rules._Draw, "rule_set", each_twice)
    rule_sets = xland_rules.generate("small", 10, seed=0)
    assert len({facts(one(rule_sets, i)) for i in range(10)}) == 10 and len(drawn) == 19


def test_a_rule_set_that_cannot_be_solved_is_never_given_away(monkeypatch):
    hopeless = hand_made(hold(STAR), [], [BALL])
    monkeypatch.setattr(xland_rules._Draw, "rule_set", lambda self: hopeless)
    with pytest.raises(RuntimeError, match="cannot be solved"):
        xland_rules.generate("trivial", 1, seed=0)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="no kind of rule sets 'easy'; known: trivial, small, medium"):
        xland_rules.generate("easy", 1, 0)
    with pytest.raises(ValueError, match="At least 1"):
        xland_rules.generate("small", 0, 0)
    with pytest.raises(ValueError, match="seed of rule sets"):
        xland_rules.generate("small", 1, -1)


SOLVABLE = {
    "the goal's object is there": hand_made(hold(BALL), [], [BALL]),
    "one rule": hand_made(near(STAR), [(hold(BALL), STAR)], [BALL]),
    "two rules": hand_made(
        beside(STAR, KEY, "up"), [(beside(PYRAMID, SQUARE), STAR), (near(BALL), PYRAMID)], [BALL, SQUARE, KEY]
    ),
    "a dead end that can be avoided": hand_made(
        hold(STAR), [(beside(BALL, KEY), PYRAMID), (beside(BALL, SQUARE), STAR)], [BALL, KEY, SQUARE]
    ),
    "twins": hand_made(hold(STAR), [(beside(BALL, BALL), STAR)], [BALL, BALL]),
    "a rule on another side than the goal": hand_made(
        beside(BALL, KEY, "up"), [(beside(BALL, KEY, "down"), STAR)], [BALL, KEY]
    ),
}
UNSOLVABLE = {
    "the object is missing": hand_made(hold(BALL), [], [SQUARE]),
    "no rule makes it": hand_made(hold(STAR), [(hold(BALL), PYRAMID)], [BALL]),
    "one of two is missing": hand_made(beside(BALL, SQUARE), [], [BALL]),
    "two are needed of one": hand_made(hold(STAR), [(beside(BALL, BALL), STAR)], [BALL]),
    "the only one is used up": hand_made(
        beside(STAR, PYRAMID), [(hold(BALL), STAR), (beside(BALL, SQUARE), PYRAMID)], [BALL, SQUARE]
    ),
    "a rule makes one object": hand_made(beside(STAR, STAR), [(hold(BALL), STAR)], [BALL]),
    "picking it up changes it": hand_made(hold(BALL), [(hold(BALL), STAR)], [BALL]),
    "the same rule hides the goal": hand_made(beside(BALL, KEY), [(beside(KEY, BALL), STAR)], [BALL, KEY]),
    "written the other way": hand_made(
        beside(BALL, KEY, "up"), [(beside(KEY, BALL, "down"), STAR)], [BALL, KEY]
    ),
    "an earlier rule for the pair wins": hand_made(
        hold(STAR), [(beside(BALL, KEY), PYRAMID), (beside(KEY, BALL), STAR)], [BALL, KEY]
    ),
    "no goal": RuleSet(np.zeros(5, np.uint8), np.zeros((1, 7), np.uint8), np.array([BALL], np.uint8)),
    "a wall cannot be carried": hand_made(hold((2, 6)), [], [(2, 6)]),
}


@pytest.mark.parametrize("what", SOLVABLE)
def test_solvable_rule_sets_are_found_so(what):
    assert xland_rules.is_solvable(SOLVABLE[what])


@pytest.mark.parametrize("what", UNSOLVABLE)
def test_unsolvable_rule_sets_are_found_so(what):
    assert not xland_rules.is_solvable(UNSOLVABLE[what])


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_rule_set_without_one_of_its_needed_objects_is_unsolvable(kind):
    rule_sets = xland_rules.generate(kind, 60, seed=5)
    for i in range(60):
        rule_set = one(rule_sets, i)
        assert xland_rules.is_solvable(rule_set)
        # Exactly the two or three distractor objects can be taken away.
        spared = sum(
            xland_rules.is_solvable(rule_set._replace(init_tiles=np.delete(rule_set.init_tiles, j, axis=0)))
            for j in range(len(decode_tiles(rule_set.init_tiles)))
        )
        assert spared == (3 if kind == "trivial" else 2)


def test_canonical_bytes_know_no_order_and_no_padding():
    rules = [(near(BALL), STAR), (beside(STAR, KEY, "left"), PYRAMID)]
    a = hand_made(beside(PYRAMID, SQUARE), rules, [BALL, KEY, SQUARE])
    b = hand_made(
        beside(SQUARE, PYRAMID),
        [(beside(KEY, STAR, "right"), PYRAMID), rules[0]],
        [SQUARE, (0, 0), KEY, BALL],
    )
    assert xland_rules.canonical(a) == xland_rules.canonical(b)
    others = [
        hand_made(beside(PYRAMID, SQUARE, "up"), rules, [BALL, KEY, SQUARE]),
        hand_made(beside(PYRAMID, SQUARE), rules[:1], [BALL, KEY, SQUARE]),
        hand_made(beside(PYRAMID, SQUARE), rules, [BALL, KEY, SQUARE, SQUARE]),
        hand_made(
            beside(PYRAMID, SQUARE), [rules[0], (beside(STAR, KEY, "right"), PYRAMID)], [BALL, KEY, SQUARE]
        ),
    ]
    codes = [xland_rules.canonical(rule_set) for rule_set in [a, *others]]
    assert all(x != y for x, y in itertools.combinations(codes, 2))
    assert split_of(codes[0], "limbeck-0", 0.5) == split_of(xland_rules.canonical(b), "limbeck-0", 0.5)


def test_a_file_gives_back_what_was_saved(tmp_path: pathlib.Path):
    rule_sets = xland_rules.generate("medium", 30, seed=2)
    path = tmp_path / "rules"  # no suffix is added
    xland_rules.save_npz(path, rule_sets, {"kind": "medium", "seed": 2})
    loaded, about = xland_rules.load_npz(path)
    assert about == {"kind": "medium", "seed": 2}
    for ours, theirs in zip(rule_sets, loaded, strict=True):
        assert theirs.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)
    assert os.listdir(tmp_path) == ["rules"]


def test_other_files_are_refused_and_nothing_is_unpickled(tmp_path: pathlib.Path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    files = {
        "bz2": (
            bz2.compress(pickle.dumps(Bomb())),
            "a bz2 file, as xminigrid's benchmarks are: a pickle.*save_npz",
        ),
        "pickle": (pickle.dumps(Bomb()), "does not hold rule sets .*not an npz"),
        "empty": (b"", "does not hold rule sets"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            xland_rules.load_npz(tmp_path / name)
    np.savez(tmp_path / "objects.npz", header=np.array([Bomb()], dtype=object))
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    np.savez(tmp_path / "newer.npz", header=np.array('{"format": "limbeck.xland_rules", "version": 9}'))
    for name in ("objects", "other", "newer"):
        with pytest.raises(ValueError, match="does not hold rule sets"):
            xland_rules.load_npz(tmp_path / f"{name}.npz")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(FileNotFoundError):
        xland_rules.load_npz(tmp_path / "absent.npz")


def test_arrays_that_are_no_rule_sets_are_not_saved(tmp_path: pathlib.Path):
    good = xland_rules.generate("small", 4, seed=0)
    cases = [
        (one(good, 0), "arrays .N, 5"),
        (good._replace(goal=good.goal[:3]), "arrays .N, 5"),
        (good._replace(rules=good.rules + np.uint8(20)), "rules of rule sets"),
        (good._replace(init_tiles=good.init_tiles.astype(float)), "init_tiles of rule sets"),
    ]
    for rule_sets, message in cases:
        with pytest.raises(ValueError, match=message):
            xland_rules.save_npz(tmp_path / "x.npz", rule_sets, {})
    with pytest.raises(TypeError):
        xland_rules.save_npz(tmp_path / "x.npz", good, {"seed": object()})
    assert not list(tmp_path.iterdir())


@needs_xminigrid
def test_a_benchmark_of_xminigrid_is_converted_as_the_message_says(tmp_path: pathlib.Path):
    import jax.numpy as jnp
    from xminigrid.benchmarks import load_benchmark_from_path, save_bz2_pickle

    goals, rules, init_tiles = xland_rules.generate("small", 5, seed=0)
    fields = {"goals": goals, "rules": rules, "init_tiles": init_tiles, "num_rules": np.zeros(5, np.uint8)}
    path = str(tmp_path / "theirs")
    save_bz2_pickle({name: jnp.asarray(value) for name, value in fields.items()}, path)
    with pytest.raises(ValueError, match="load_benchmark_from_path"):
        xland_rules.load_npz(path)
    b = load_benchmark_from_path(path)
    xland_rules.save_npz(
        tmp_path / "ours.npz", xland_rules.RuleSet(b.goals, b.rules, b.init_tiles), {"source": "x"}
    )
    loaded, _ = xland_rules.load_npz(tmp_path / "ours.npz")
    np.testing.assert_array_equal(loaded.rules, rules)
