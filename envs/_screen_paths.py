"""Ways to apps on a phone, worked out on the host: demonstrations and near-misses."""

import jax
import numpy as np

from ._screen_phone import BACK, SWIPE_LEFT, SWIPE_RIGHT, TO_HOME, Phone, move, shown
from ._screen_symbols import APP, CELLS, COLUMNS, HOME, ROWS, dialog_row
from .screen_facts import NO_APP
from .screen_goals import AppGoal


# A dialog follows the answer to another at the earliest a step later, so that a path has at most twice the length of
# one without.
_LIMIT = 50


def path_to(phone: Phone, goal: AppGoal) -> np.ndarray:
    """See `Screens.demonstrate`."""
    page, _ = _place(phone, goal.app)
    actions = []
    now = jax.device_get(phone)
    while len(actions) < _LIMIT:
        actions.append(_best(now, goal.app, page))
        now = jax.device_get(_move(now, np.int32(actions[-1])))
        if _is_open(now, goal.app):
            break
    return np.array(actions, np.int32)


def paths_beside(phone: Phone, goal: AppGoal) -> list[tuple[AppGoal, np.ndarray]]:
    """See `Screens.near_misses`."""
    icons = np.asarray(phone.icons)
    if goal.app not in icons:
        return []
    page, cell = _place(phone, goal.app)
    row, column = divmod(cell, COLUMNS)
    found = []
    for y, x in ((row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)):
        if not (0 <= y < ROWS and 0 <= x < COLUMNS) or (app := int(icons[page, y * COLUMNS + x])) == NO_APP:
            continue
        actions = path_to(phone, AppGoal(app))
        if not _opens(phone, actions, goal.app):
            found.append((AppGoal(app), actions))
    return found


def _place(phone: Phone, app: int) -> tuple[int, int]:
    """The page and the cell of an app's icon."""
    places = np.flatnonzero(np.asarray(phone.icons).reshape(-1) == app)
    if not len(places):
        raise ValueError(
            f"'{AppGoal(app).text()}' cannot be reached: the app is not installed in this episode."
        )
    return divmod(int(places[0]), CELLS)


def _best(phone: Phone, app: int, page: int) -> int:
    """The first action of a shortest path.

    Chance does not depend on what is done but for a dialog's end, and no icon of an app on another page appears but
    on a card of the overview: nothing is gained by opening other apps.
    """
    if phone.dialog:
        return int(dialog_row(phone.dialog) + 1) * COLUMNS
    if phone.opened == app:
        return 0  # The app's own bar, where a tap does nothing.
    touched = np.flatnonzero(np.asarray(_shown(phone)) == app)
    if len(touched):
        return int(touched[0])
    away = page - int(phone.page)
    if phone.mode != HOME:
        return BACK if abs(away) <= page else TO_HOME
    if page + 1 < abs(away):
        return TO_HOME
    return SWIPE_LEFT if away > 0 else SWIPE_RIGHT


def _opens(phone: Phone, actions: np.ndarray, app: int) -> bool:
    """Whether an app is open after any of the actions."""
    for action in actions:
        phone = jax.device_get(_move(phone, action))
        if _is_open(phone, app):
            return True
    return False


def _is_open(phone: Phone, app: int) -> bool:
    return bool(phone.mode == APP and phone.opened == app and not phone.dialog)


_move = jax.jit(move)
_shown = jax.jit(shown)
