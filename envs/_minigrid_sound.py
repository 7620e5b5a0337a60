"""What a MiniGrid world sounds like: events read from the states before and after an action, and the goal."""

import numpy as np

from ._minigrid_cells import EMPTY, ENCODINGS
from ._minigrid_render import GridState
from ._rooms_world import DIRECTIONS, FORWARD
from .sound import SILENCE, beacon_levels, mix


# MiniGrid's numbers of kinds, and the state of a door that is open.
_DOOR, _BOX, _GOAL = 4, 7, 8
_OPEN = 0
_NOTHING = tuple(ENCODINGS[EMPTY].tolist())


def heard(
    now: GridState, before: GridState | None = None, action: int = 0, success: bool = False
) -> np.ndarray:
    """The waveform that the agent hears, float32 `[S]`.

    Events: `step` where the agent is in another cell, `turn` where it looks elsewhere, `bump` where it went forward and
    is where it was, `pickup` and `drop` where its hands have been filled or emptied, `open` where a door is open that
    was not or a box is gone that was not picked up, `close` where a door is no longer open, and `success`.

    The nearest goal cell is a beacon, number 0. A grid without one has none.

    Args:
      now: after the action.
      before: before it; None at the beginning of an episode, where nothing has happened yet.
      action: MiniGrid's number of it.
      success: whether the episode ended with its goal reached.
    """
    events = {"success": success}
    if before is not None:
        moved, took = now.position != before.position, _took(before, now)
        events |= {
            "step": moved,
            "turn": now.direction != before.direction,
            "bump": action == FORWARD and not moved,
            "pickup": took,
            "drop": _took(now, before),
        }
        if not np.array_equal(before.symbols, now.symbols):
            opened, closed = _doors(before.symbols, now.symbols)
            opened |= not took and _boxes_gone(before.symbols, now.symbols)
            events |= {"open": opened, "close": closed}
    return mix({name: True for name, happened in events.items() if happened}, _goal_levels(now))


def _took(before: GridState, now: GridState) -> bool:
    return before.carried == _NOTHING != now.carried


def _doors(before: np.ndarray, now: np.ndarray) -> tuple[bool, bool]:
    """Whether a door has been opened, and whether one has been closed."""
    door = (before[..., 0] == _DOOR) & (now[..., 0] == _DOOR)
    was, is_now = before[..., 2] == _OPEN, now[..., 2] == _OPEN
    return bool((door & ~was & is_now).any()), bool((door & was & ~is_now).any())


def _boxes_gone(before: np.ndarray, now: np.ndarray) -> bool:
    return np.count_nonzero(before[..., 0] == _BOX) > np.count_nonzero(now[..., 0] == _BOX)


def _goal_levels(now: GridState) -> np.ndarray:
    goals = np.argwhere(now.symbols[..., 0] == _GOAL)
    if not len(goals):
        return SILENCE
    offsets = goals - now.position
    nearest = offsets[np.argmin((offsets**2).sum(axis=-1))]
    return beacon_levels(0, nearest, DIRECTIONS[now.direction])
