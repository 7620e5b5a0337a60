"""The picture of a phone's screen, from its symbols, inside compiled functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _screen_tiles as tile
from ._screen_symbols import (
    APP,
    BADGES,
    COLUMNS,
    HOME,
    LAYOUTS,
    LEVELS,
    LIST,
    MAX_PAGES,
    ROWS,
    ScreenSymbols,
    dialog_row,
    unpack,
)
from .screen_facts import NO_APP


# The bands of a screen: the status bar, three rows of cells, the navigation bar.
_HEIGHTS = (tile.BAR, *(tile.TILE,) * ROWS, tile.BAR)
_TOPS = np.cumsum((0, *_HEIGHTS[:-1]))
_BANDS = len(_HEIGHTS)
# The same cut where a notification begins and ends: the first row of pixels of each piece, and its band.
_PIECES = np.array([0, 2, 12, 22, *_TOPS[2:]])
_BAND_OF_PIECE = np.searchsorted(_TOPS, _PIECES, "right") - 1
_IN_BANNER = (_PIECES >= 2) & (_PIECES < 22)
_PIECE_OF_ROW = np.searchsorted(_PIECES, np.arange(tile.SIZE), "right") - 1


class _Layers(NamedTuple):
    """int32 `[..., 5, 4]` each: the numbers of the first rows of tiles, below and above, by band and column."""

    ground: jax.Array
    over: jax.Array


def render_screens(symbols: jax.Array) -> jax.Array:
    """Screens as pictures; jittable, with any leading axes.

    Args:
      symbols: uint8 `[..., 6, 4, 3]`, as Screens observes them. Bytes that no screen has are not checked and drawn
        as something else.

    Returns:
      uint8 `[..., 96, 96, 3]`.

    Raises:
      ValueError: for symbols of another shape.
    """
    fields = unpack(symbols)
    ground, over = _with_notification(fields, _with_dialog(fields))
    ground, over, dark = _rows(ground), _rows(over), _in_shadow(fields)[..., _PIECE_OF_ROW]
    bank = tile.tiles()
    below, above = jnp.asarray(bank.ground)[ground], jnp.asarray(bank.over)[over]
    words = _blend(below, above[..., : tile.WORDS], above[..., tile.WORDS :])
    words = jnp.where(dark[..., None, None], (words >> 1) & np.uint32(0x7F7F7F7F), words)
    pixels = jax.lax.bitcast_convert_type(words, jnp.uint8)
    return pixels.reshape(*symbols.shape[:-3], tile.SIZE, tile.SIZE, 3)


def _home(fields: ScreenSymbols) -> _Layers:
    strip = tile.WALLPAPER + (fields.wallpaper[..., None] * COLUMNS + np.arange(COLUMNS)) * COLUMNS
    ground = strip[..., None, :] * tile.TILE + _TOPS[:, None]
    icons = tile.ICON + fields.apps * BADGES + fields.badges
    return _Layers(ground, _bands(_status(fields), icons, _navigation(fields, fields.pages)) * tile.TILE)


def _app(fields: ScreenSymbols) -> _Layers:
    """The status bar and the app's bar in its colour, its icon in the bar, and two rows of content."""
    every = jnp.zeros_like(fields.apps[..., 0, :])
    opened, layout = fields.opened[..., None], fields.layout[..., None, None]
    content = tile.CONTENT + (layout % LAYOUTS) * LEVELS + fields.looks
    shown = jnp.where(layout == LIST, tile.SMALL_ICON + fields.apps, tile.ICON + fields.apps * BADGES)
    bar, title = tile.APP_BAR + opened + every, (tile.ICON + opened * BADGES + every)
    title = jnp.where(np.arange(COLUMNS) == 0, title, tile.LIGHT_TEXT + fields.texts[..., 1, :, 0])
    return _Layers(
        _bands(tile.APP_STATUS + opened + every, _first(bar, content), tile.NAVIGATION + every) * tile.TILE,
        _bands(_status(fields), _first(title, shown), _navigation(fields, 0)) * tile.TILE,
    )


def _recents(fields: ScreenSymbols) -> _Layers:
    """Over the wallpaper a card for each of three apps, which looks like the app's bar."""
    ground, over = _home(fields)
    icons = tile.ICON + fields.apps * BADGES
    texts = tile.LIGHT_TEXT + fields.texts[..., 1, :, :].swapaxes(-1, -2)
    cards = jnp.where(np.arange(COLUMNS) == 0, icons, texts)
    ground = ground.at[..., 1 : 1 + ROWS, :].set((tile.RECENT_CARD + fields.apps) * tile.TILE)
    over = over.at[..., 1 : 1 + ROWS, :].set(cards * tile.TILE)
    return _Layers(ground, over.at[..., -1, :].set(_navigation(fields, 0) * tile.TILE))


def _with_dialog(fields: ScreenSymbols) -> _Layers:
    """What the mode shows, and the dialog on two rows of it."""
    home, app, recents = _home(fields), _app(fields), _recents(fields)
    mode, kind = fields.mode[..., None, None], fields.dialog[..., None, None]
    style, upper = (kind - 1) // 2, dialog_row(kind) + 1
    column, band = np.arange(COLUMNS), np.arange(_BANDS)[:, None]
    asks = jnp.where(
        column == 0,
        tile.ICON + fields.asking[..., None] * BADGES,
        tile.DARK_TEXT + fields.texts[..., 0, :, 1],
    )
    buttons = tile.BUTTON + style * COLUMNS + column
    shown = []
    for i, dialog in enumerate((tile.DIALOG + style, jnp.where(band == upper, asks[..., None, :], buttons))):
        below = jnp.where(mode == HOME, home[i], jnp.where(mode == APP, app[i], recents[i]))
        shown.append(
            jnp.where((kind > 0) & ((band == upper) | (band == upper + 1)), dialog * tile.TILE, below)
        )
    return _Layers(*shown)


def _with_notification(fields: ScreenSymbols, bands: _Layers) -> _Layers:
    """`[..., 7, 4]` by piece: what the bands show, and over it the app that notifies and its text."""
    notified = (fields.notified != NO_APP)[..., None, None] & _IN_BANNER[:, None]
    icon = tile.SMALL_ICON + fields.notified[..., None]
    parts = jnp.where(np.arange(COLUMNS) == 0, icon, tile.DARK_TEXT + fields.texts[..., 0, :, 0])
    banner = _Layers(jnp.full_like(parts, tile.BANNER), parts)
    skipped = (_PIECES - _TOPS[_BAND_OF_PIECE])[:, None]
    pieces = []
    for below, above in zip(bands, banner, strict=True):
        rows = above[..., None, :] * tile.TILE + _PIECES[:, None]
        pieces.append(jnp.where(notified, rows, below[..., _BAND_OF_PIECE, :] + skipped))
    return _Layers(*pieces)


def _in_shadow(fields: ScreenSymbols) -> jax.Array:
    """bool `[..., 7]`: whether a piece is darkened, as everything is that a dialog leaves free."""
    upper = dialog_row(fields.dialog)[..., None] + 1
    band, notified = _BAND_OF_PIECE, (fields.notified != NO_APP)[..., None] & _IN_BANNER
    return (fields.dialog > 0)[..., None] & ~notified & (band != upper) & (band != upper + 1)


def _status(fields: ScreenSymbols) -> jax.Array:
    """int32 `[..., 4]`, tiles: the clock, signs that nobody can read, the battery."""
    parts = (
        tile.HOUR + fields.hour,
        tile.MINUTE + fields.minute,
        tile.GLYPHS + fields.texts[..., 0, 2, 2],
        tile.BATTERY + fields.battery,
    )
    return jnp.stack(parts, axis=-1)


def _navigation(fields: ScreenSymbols, pages: jax.Array | int) -> jax.Array:
    """int32 `[..., 4]`, tiles: the buttons, and on the home screen a dot for every page."""
    one = pages * MAX_PAGES + fields.page
    return tile.DOTS + one[..., None] * COLUMNS + np.arange(COLUMNS)


def _bands(status: jax.Array, cells: jax.Array, navigation: jax.Array) -> jax.Array:
    """`[..., 5, 4]` of `[..., 4]`, `[..., 3, 4]` and `[..., 4]`."""
    return jnp.concatenate([status[..., None, :], cells, navigation[..., None, :]], axis=-2)


def _first(bar: jax.Array, cells: jax.Array) -> jax.Array:
    """`cells` `[..., 3, 4]` with a bar `[..., 4]` as the first row."""
    return jnp.concatenate([bar[..., None, :], cells[..., 1:, :]], axis=-2)


def _rows(pieces: jax.Array) -> jax.Array:
    """int32 `[..., 96, 4]`: the number of every row of pixels, of the numbers of each piece's first.

    Laid end to end rather than gathered: XLA keeps what is laid end to end on a CPU, and would compute what is
    gathered again for every word, which takes five times as long as all the rest.
    """
    ends = np.append(_PIECES[1:], tile.SIZE)
    parts = [
        pieces[..., i : i + 1, :] + np.arange(end - start)[:, None]
        for i, (start, end) in enumerate(zip(_PIECES, ends, strict=True))
    ]
    return jnp.concatenate(parts, axis=-2)


def _blend(below: jax.Array, above: jax.Array, through: jax.Array) -> jax.Array:
    """`above + below * through / 255`, rounded, for each byte of words: a CPU is slower with bytes.

    Two bytes with a byte of room above each are multiplied at a time.
    """
    every_other = np.uint32(0x00FF00FF)

    def half(shift: int) -> jax.Array:
        low, high = (
            ((below >> (shift + at)) & np.uint32(0xFF)) * ((through >> (shift + at)) & np.uint32(0xFF))
            for at in (0, 16)
        )
        product = (low | (high << 16)) + np.uint32(0x00800080)
        return ((product + ((product >> 8) & every_other)) >> 8) & every_other

    return above + (half(0) | (half(8) << 8))
