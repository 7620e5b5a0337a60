"""What a frame of a MiniGrid world shows: what is held, faced, seen, and what lies next to what."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._minigrid_cells import EMPTY, ENCODINGS, UNSEEN, WALL, codes_of


# In the order of MiniGrid's numbers, colours from 0 and kinds from 5; an object's number is its place in
# OBJECTS. Networks are trained on these numbers and splits are made of them: the order is for good.
COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("key", "ball", "box")
OBJECTS = tuple((color, kind) for color in COLORS for kind in KINDS)
NUM_OBJECTS = len(OBJECTS)
# Numbers of what is no object: a wall, anything else that fills a cell (doors, goals, lava, …), and an empty
# cell, empty hands or what is not seen.
WALL_ID, OTHER_ID, NOTHING_ID = NUM_OBJECTS, NUM_OBJECTS + 1, NUM_OBJECTS + 2
# What `Facts.facing` says of them.
Object = tuple[str, str]
A_WALL, A_THING = ("grey", "wall"), ("grey", "thing")
_NAMED: tuple[Object | None, ...] = (*OBJECTS, A_WALL, A_THING, None)

_FIRST_KIND = 5


def _ids_by_code() -> np.ndarray:
    kind, color = ENCODINGS[:, 0].astype(int), ENCODINGS[:, 1].astype(int)
    movable = (kind >= _FIRST_KIND) & (kind < _FIRST_KIND + len(KINDS))
    ids = np.where(movable, color * len(KINDS) + kind - _FIRST_KIND, OTHER_ID)
    ids[kind == ENCODINGS[WALL, 0]] = WALL_ID
    ids[np.isin(kind, ENCODINGS[[UNSEEN, EMPTY], 0])] = NOTHING_ID
    return ids.astype(np.int32)


# int32, the number of what each of MiniGrid's codes stands for; and uint8, the code of each object.
ID_OF_CODE = _ids_by_code()
CODE_OF_OBJECT = np.array([np.flatnonzero(ID_OF_CODE == i)[0] for i in range(NUM_OBJECTS)], np.uint8)


class Facts(NamedTuple):
    """What is true of one frame. Objects are (colour, kind); what the agent does not see is not there.

    Attributes:
      holding: what the agent carries, None for nothing.
      facing: what fills the cell in front of the agent: a key, ball or box, `("grey", "wall")` for a wall of any
        colour, `("grey", "thing")` for anything else (a door, a goal, lava), None for an empty cell.
      pairs: objects on the floor beside each other, left and right or above and below, both seen. Each is a pair
        in the order of `OBJECTS`. What is carried is beside nothing.
      visible: objects that are seen, on the floor or carried.
    """

    holding: Object | None
    facing: Object | None
    pairs: frozenset[tuple[Object, Object]]
    visible: frozenset[Object]


class FactArrays(NamedTuple):
    """The same as arrays, NumPy's or JAX's, with any leading axes; see `Facts` for what counts.

    Attributes:
      holding: int32 `[...]`, the number of an object (its place in `OBJECTS`), NOTHING_ID for nothing.
      facing: int32 `[...]`, the number of an object, WALL_ID, OTHER_ID or NOTHING_ID.
      floor: int32 `[..., V, V]`, the same for every cell that the agent sees (x, y in its view), its own
        excepted, which is NOTHING_ID.
    """

    holding: Any
    facing: Any
    floor: Any


def read_facts(symbols: Any) -> FactArrays:
    """The facts of what an agent sees, `symbols` as MiniGrid observes it; jittable.

    Args:
      symbols: uint8 `[..., V, V, 3]`, (type, colour, state) at x, y; V is odd and the agent looks up from the
        middle of the last row, whose cell shows what it carries.
    """
    xp = np if isinstance(symbols, np.ndarray) else jnp
    ids = xp.asarray(ID_OF_CODE)[codes_of(symbols)]
    size = ids.shape[-1]
    middle, last = size // 2, size - 1
    own = np.zeros((size, size), bool)
    own[middle, last] = True
    return FactArrays(ids[..., middle, last], ids[..., middle, last - 1], xp.where(own, NOTHING_ID, ids))


def goal_holds(predicate: str, thing: Any, other: Any, facts: FactArrays) -> Any:
    """Whether a goal is true of unbatched facts, bool; jittable but for the predicate.

    Args:
      predicate: `face`, `hold` or `next_to`.
      thing: int32, the number of the goal's object.
      other: int32, of its other object; only `next_to` has one.
      facts: unbatched.
    """
    if predicate == "face":
        return facts.facing == thing
    if predicate == "hold":
        return facts.holding == thing
    a, b = facts.floor == thing, facts.floor == other
    beside = (a[1:] & b[:-1]) | (a[:-1] & b[1:])
    below = (a[:, 1:] & b[:, :-1]) | (a[:, :-1] & b[:, 1:])
    return beside.any() | below.any()


def neighbours(floor: np.ndarray) -> np.ndarray:
    """bool `[N, 18, 18]`, symmetric: which objects lie beside which, of floors `[N, V, V]`."""
    found = np.zeros((len(floor), NUM_OBJECTS, NUM_OBJECTS), bool)
    for a, b in ((floor[:, 1:], floor[:, :-1]), (floor[:, :, 1:], floor[:, :, :-1])):
        frame, x, y = np.nonzero((a < NUM_OBJECTS) & (b < NUM_OBJECTS))
        found[frame, a[frame, x, y], b[frame, x, y]] = True
        found[frame, b[frame, x, y], a[frame, x, y]] = True
    return found


def seen(facts: FactArrays) -> np.ndarray:
    """bool `[N, 18]`: which objects are visible, of NumPy facts with one leading axis."""
    everything = np.concatenate([facts.floor.reshape(len(facts.floor), -1), facts.holding[:, None]], axis=1)
    found = np.zeros((len(everything), NOTHING_ID + 1), bool)
    np.put_along_axis(found, everything, True, axis=1)
    return found[:, :NUM_OBJECTS]


def to_facts(facts: FactArrays) -> Facts:
    """Unbatched arrays as `Facts`."""
    one = FactArrays(*(np.asarray(part)[None] for part in facts))
    pairs = np.argwhere(np.triu(neighbours(one.floor)[0]))
    return Facts(
        holding=_NAMED[one.holding[0]],
        facing=_NAMED[one.facing[0]],
        pairs=frozenset((OBJECTS[i], OBJECTS[j]) for i, j in pairs),
        visible=frozenset(OBJECTS[i] for i in np.flatnonzero(seen(one)[0])),
    )


def facts_of(environment: Any) -> Facts:
    """The facts of a MiniGrid world at this moment: what its agent's view shows.

    Args:
      environment: of `minigrid` or `make_hosted`, or any gymnasium environment around a `MiniGridEnv`.

    Raises:
      ValueError: for anything else, or before the first reset.
    """
    if callable(getattr(environment, "symbols", None)):
        return to_facts(read_facts(environment.symbols()))
    world: Any = getattr(environment, "unwrapped", None)
    if not callable(getattr(world, "gen_obs", None)):
        raise ValueError(f"Facts are read from a MiniGrid environment, got {environment!r}.")
    if getattr(world, "agent_pos", None) is None:
        raise ValueError("There are no facts before the first reset().")
    return to_facts(read_facts(world.gen_obs()["image"]))
