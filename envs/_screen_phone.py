"""A phone's home screen, apps, dialogs and notifications, as pure functions of arrays.

What happens by chance is drawn from the phone's seed and the time, by a hash: the phone's state knows its future, so
that a path that was worked out beforehand leads where it should.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._screen_symbols import (
    APP,
    BADGES,
    BATTERY_LEVELS,
    CELLS,
    COLUMNS,
    DIALOG_PLACES,
    DIALOG_STYLES,
    GRID,
    HOME,
    HOURS,
    LAYOUTS,
    LEVELS,
    LIST,
    MINUTES,
    PHOTO,
    RECENTS,
    ROWS,
    TEXT,
    WALLPAPERS,
    ScreenSymbols,
    dialog_row,
    pack,
)
from .screen_facts import NO_APP, NUM_APPS


# The actions after the taps, which are the numbers of the cells. A finger that swipes left brings the next page.
SWIPE_LEFT, SWIPE_RIGHT, BACK, TO_HOME = range(CELLS, CELLS + 4)
NUM_ACTIONS = CELLS + 4

# An episode begins on the home screen, inside an app or in the overview, of 20.
_STARTS = np.repeat([HOME, APP, RECENTS], [12, 5, 3]).astype(np.int32)
# One in so many: dialogs at a step, notifications at a step and their ends, apps of both that are the goal's.
_DIALOG, _NOTIFICATION, _NOTIFICATION_END, _GOALS_OWN = 16, 6, 2, 4
# How many of 100 cells of an app's content show the icon of another app, by layout.
_SHOWN = np.zeros(LAYOUTS, np.int32)
_SHOWN[[LIST, GRID, TEXT, PHOTO]] = 30, 35, 10, 15
# Of ten icons three have a badge.
_BADGE_OF = np.array([*range(BADGES), *[0] * 6], np.int32)

# What chance is drawn for.
_START, _EVENT, _CONTENT, _LOOK, _BADGE, _TEXT = range(6)


class Phone(NamedTuple):
    """Where everything is; apps are numbers, NO_APP for none.

    Attributes:
      seed: uint32, of all that happens by chance.
      goal: int32, the app that is wanted, which chance prefers.
      icons: int32 `[pages, 12]`, the home screen.
      cards: int32 `[3]`, the apps of the overview.
      mode: int32, HOME, APP or RECENTS.
      page: int32, of the home screen, also while something else is shown.
      opened: int32, the app that is open.
      layout: int32, of its content.
      drawn: int32, the time at which its content was drawn.
      notified: int32, the app that notifies.
      asking: int32, the app that the dialog is about.
      dialog: int32, the dialog's kind, 0 for none.
      time: int32, actions taken.
    """

    seed: jax.Array
    goal: jax.Array
    icons: jax.Array
    cards: jax.Array
    mode: jax.Array
    page: jax.Array
    opened: jax.Array
    layout: jax.Array
    drawn: jax.Array
    notified: jax.Array
    asking: jax.Array
    dialog: jax.Array
    time: jax.Array


def start(key: jax.Array, goal: jax.Array, pages: int, installed: int) -> Phone:
    """A phone with the goal's app and others installed, in random places, on which the goal's is not open."""
    cells = pages * CELLS
    # One draw for all: to split the key would cost more than the rest.
    bits = jax.random.bits(key, (NUM_APPS + cells + 1,))
    seed, rank = bits[-1], (bits[:-1] >> 8).astype(jnp.float32)
    # The goal's app comes first, the others in random order.
    chosen = jax.lax.top_k(rank[:NUM_APPS].at[goal].set(2.0**25), installed)[1]
    places = jax.lax.top_k(rank[NUM_APPS:], installed)[1]
    icons = jnp.full(cells, NO_APP, jnp.int32).at[places].set(chosen).reshape(pages, CELLS)

    chance = _draw(seed, _START, 0, 8)
    mode = jnp.asarray(_STARTS)[_below(chance[0], len(_STARTS))]
    opened = chosen[1 + _below(chance[1], installed - 1)]
    # Cards are neighbours in the order of `chosen`; in every fourth overview the goal's is among them.
    own = (chance[2] % _GOALS_OWN) == 0
    first = jnp.where(own, installed - _below(chance[3], ROWS), _below(chance[3], installed))
    nobody, zero = jnp.int32(NO_APP), jnp.int32(0)
    phone = Phone(
        seed=seed,
        goal=jnp.asarray(goal, jnp.int32),
        icons=icons,
        cards=chosen[(first + np.arange(ROWS)) % installed],
        mode=mode,
        page=_below(chance[4], pages),
        opened=jnp.where(mode == APP, opened, NO_APP),
        layout=_below(chance[5], LAYOUTS),
        drawn=zero,
        notified=nobody,
        asking=nobody,
        dialog=zero,
        time=zero,
    )
    return _happens(phone, zero)


def move(phone: Phone, action: jax.Array) -> Phone:
    """One action, and what happens by chance then.

    A dialog lets nothing through but a tap on its row of buttons, which ends it.
    """
    tap, swipe = action < CELLS, (action == SWIPE_LEFT) | (action == SWIPE_RIGHT)
    cell = jnp.minimum(action, CELLS - 1)
    covered, home, inside = phone.dialog > 0, phone.mode == HOME, phone.mode == APP
    dismissed = covered & tap & (cell // COLUMNS == dialog_row(phone.dialog) + 1)

    target = shown(phone)[cell]
    opens = ~covered & tap & (target != NO_APP)
    leaves = ~covered & ((action == BACK) | (action == TO_HOME))
    scrolls = ~covered & inside & tap & ~opens & (cell >= COLUMNS)
    turns = ~covered & inside & swipe
    step = (action == SWIPE_LEFT).astype(jnp.int32) - (action == SWIPE_RIGHT)
    page = jnp.clip(phone.page + step * (home & ~covered), 0, phone.icons.shape[0] - 1)

    time = phone.time + 1
    layout = _below(_draw(phone.seed, _CONTENT, time, CELLS + 1)[CELLS], LAYOUTS)
    phone = phone._replace(
        mode=jnp.where(opens, APP, jnp.where(leaves, HOME, phone.mode)),
        page=jnp.where(~covered & (action == TO_HOME), 0, page),
        opened=jnp.where(opens, target, jnp.where(leaves, NO_APP, phone.opened)),
        layout=jnp.where(opens | turns, layout, phone.layout),
        drawn=jnp.where(opens | turns | scrolls, time, phone.drawn),
        asking=jnp.where(dismissed, NO_APP, phone.asking),
        dialog=jnp.where(dismissed, 0, phone.dialog),
        time=time,
    )
    # No dialog follows at the step that ends one, so that to wait never helps.
    return _happens(phone, covered)


def shown(phone: Phone) -> jax.Array:
    """int32 `[12]`: the app that a tap on each cell opens while there is no dialog.

    Inside an app they are some of those on the page of the home screen from which it was opened: a wanted app that lies
    on another page never appears, so that nothing hidden is a shortcut.
    """
    icons = phone.icons[phone.page]
    chance = _draw(phone.seed, _CONTENT, phone.drawn, CELLS)
    other = icons[_below(chance, CELLS)]
    content = np.arange(CELLS) >= COLUMNS
    there = content & (_below(chance >> 8, 100) < jnp.asarray(_SHOWN)[phone.layout]) & (other != phone.opened)
    inside = jnp.where(there, other, NO_APP)
    overview = jnp.repeat(phone.cards, COLUMNS)
    return jnp.where(phone.mode == HOME, icons, jnp.where(phone.mode == APP, inside, overview))


def symbols_of(phone: Phone) -> jax.Array:
    """uint8 `[6, 4, 3]`, see `_screen_symbols`."""
    home, inside = phone.mode == HOME, phone.mode == APP
    chance = _draw(phone.seed, _START, 1, 4)
    minutes = _below(chance[0], HOURS * MINUTES) + phone.time
    apps = shown(phone)
    badges = jnp.asarray(_BADGE_OF)[_below(_draw(phone.seed, _BADGE, phone.page, CELLS), len(_BADGE_OF))]
    looks = _below(_draw(phone.seed, _LOOK, phone.drawn, CELLS), LEVELS)
    bars = jnp.where(home, NO_APP, jnp.where(inside, jnp.array([phone.opened, NO_APP, NO_APP]), phone.cards))
    named = jnp.concatenate([jnp.stack([phone.notified, phone.asking]), bars])
    texts = jax.vmap(lambda app: _below(_draw(phone.seed, _TEXT, app, COLUMNS), LEVELS))(named)
    texts = jnp.where((named != NO_APP)[:, None], texts, 0)
    signs = jnp.full((1, COLUMNS), _below(chance[1], LEVELS))
    texts = jnp.concatenate([texts[:2], signs, texts[2:]])
    return pack(
        ScreenSymbols(
            mode=phone.mode,
            page=jnp.where(home, phone.page, 0),
            pages=jnp.where(home, phone.icons.shape[0], 0),
            wallpaper=jnp.where(inside, 0, _below(chance[2], WALLPAPERS)),
            opened=phone.opened,
            layout=jnp.where(inside, phone.layout, 0),
            hour=minutes // MINUTES % HOURS,
            minute=minutes % MINUTES,
            battery=_below(chance[3], BATTERY_LEVELS),
            notified=phone.notified,
            asking=phone.asking,
            dialog=phone.dialog,
            apps=apps.reshape(ROWS, COLUMNS),
            badges=jnp.where(home & (apps != NO_APP), badges, 0).reshape(ROWS, COLUMNS),
            looks=jnp.where(inside & (np.arange(CELLS) >= COLUMNS), looks, 0).reshape(ROWS, COLUMNS),
            texts=texts.reshape(2, 3, COLUMNS).swapaxes(1, 2),
        )
    )


def _happens(phone: Phone, covered: jax.Array) -> Phone:
    """The dialogs and notifications of this time; no dialog where there was one before."""
    chance = _draw(phone.seed, _EVENT, phone.time, 7)
    asks = (covered == 0) & (chance[0] % _DIALOG == 0)
    kind = 1 + _below(chance[1], DIALOG_STYLES * DIALOG_PLACES)
    begins = (phone.notified == NO_APP) & (chance[2] % _NOTIFICATION == 0)
    ends = chance[3] % _NOTIFICATION_END == 0
    kept = jnp.where(ends, NO_APP, phone.notified)
    return phone._replace(
        asking=jnp.where(asks, _someone(phone, chance[4]), phone.asking),
        dialog=jnp.where(asks, kind, phone.dialog),
        notified=jnp.where(begins, _someone(phone, chance[5]), kept),
    )


def _someone(phone: Phone, chance: jax.Array) -> jax.Array:
    """An app that is installed, rather often the goal's."""
    other = phone.icons.reshape(-1)[_below(chance >> 8, phone.icons.size)]
    return jnp.where((chance % _GOALS_OWN == 0) | (other == NO_APP), phone.goal, other)


def _draw(seed: jax.Array, purpose: int, number: jax.Array | int, count: int) -> jax.Array:
    """uint32 `[count]`, uniform: a counter through an integer hash, a fraction of what a random key costs."""
    place = jnp.asarray(number).astype(jnp.uint32) * np.uint32(6) + np.uint32(purpose)
    spread = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)
    return _mix(_mix(seed + place * np.uint32(0x85EBCA6B)) + spread)


def _mix(x: jax.Array) -> jax.Array:
    """C. Wellons' lowbias32, a bijection of 32-bit words."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _below(chance: jax.Array, count: int) -> jax.Array:
    """int32 from 0 to `count` - 1."""
    return (chance % np.uint32(count)).astype(jnp.int32)
