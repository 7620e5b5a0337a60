"""The tiles that screens are laid of, drawn once: wallpapers, pages of apps, icons, text, buttons.

A tile is 24 x 24 pixels, four to a row; bars take half of one. Those of the ground are opaque; those over it have an
opacity for every byte. A tile's number times 24 is the number of its first row of pixels.
"""

import colorsys
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._screen_symbols import (
    BADGES,
    BATTERY_LEVELS,
    COLUMNS,
    DIALOG_STYLES,
    GRID,
    HOURS,
    LAYOUTS,
    LEVELS,
    LIST,
    MAX_PAGES,
    MINUTES,
    TEXT,
    WALLPAPERS,
)
from .screen_facts import NUM_APPS
from .screen_icons import app_icons


TILE, BAR = 24, 12
SIZE = COLUMNS * TILE
# Words of 4 bytes in a tile's row.
WORDS = TILE * 3 // 4
# The apps and NO_APP.
_APPS = NUM_APPS + 1

# Numbers of tiles of the ground. A wallpaper is four tiles high and wide, column by column, and four solid ones end it.
WALLPAPER = 0
CONTENT = WALLPAPER + WALLPAPERS * COLUMNS * COLUMNS
APP_BAR = CONTENT + LAYOUTS * LEVELS
APP_STATUS = APP_BAR + _APPS
RECENT_CARD = APP_STATUS + _APPS
DIALOG = RECENT_CARD + _APPS
BANNER = DIALOG + DIALOG_STYLES
NAVIGATION = BANNER + 1
_GROUND = NAVIGATION + 1

# Numbers of tiles that lie over it.
NOTHING = 0
ICON = NOTHING + 1
SMALL_ICON = ICON + _APPS * BADGES
DARK_TEXT = SMALL_ICON + _APPS
LIGHT_TEXT = DARK_TEXT + LEVELS
BUTTON = LIGHT_TEXT + LEVELS
HOUR = BUTTON + DIALOG_STYLES * COLUMNS
MINUTE = HOUR + HOURS
GLYPHS = MINUTE + MINUTES
BATTERY = GLYPHS + LEVELS
# (pages, page, column); no pages stand for the three buttons of an app's navigation bar.
DOTS = BATTERY + BATTERY_LEVELS
_OVER = DOTS + (MAX_PAGES + 1) * MAX_PAGES * COLUMNS

_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (120, 124, 130)
# 3 x 5 pixels of each figure, row by row.
_FIGURES = (
    "111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
    "111100111001111", "111100111101111", "111001001001001", "111101111101111", "111101111001111",
)  # fmt: skip


class Tiles(NamedTuple):
    """Rows of pixels as words of 4 bytes, so that one gather lays a picture out.

    Attributes:
      ground: uint32 `[rows, 18]`.
      over: uint32 `[rows, 36]`, the pixels multiplied by their opacity, then bytes of 255 minus the opacity.
    """

    ground: np.ndarray
    over: np.ndarray


@functools.cache
def tiles() -> Tiles:
    """All tiles, the same on every machine."""
    ground = np.zeros((_GROUND, TILE, TILE, 3), np.uint8)
    over = np.zeros((_OVER, TILE, TILE, 4), np.uint8)
    _draw_ground(ground)
    _draw_icons(over)
    _draw_text(over)
    _draw_bars(over)
    alpha = over[..., 3:].astype(np.uint32)
    shown = ((over[..., :3] * alpha + 127) // 255).astype(np.uint8)
    through = np.broadcast_to(255 - over[..., 3:], shown.shape)
    return Tiles(_rows(ground), np.concatenate([_rows(shown), _rows(through)], axis=1))


def _rows(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels).reshape(-1, TILE * 3).view(np.uint32)


def _random(seed: int) -> np.random.RandomState:
    # Generator's streams may change with NumPy's version, RandomState's never do.
    return np.random.RandomState(seed)


def _draw_ground(ground: np.ndarray) -> None:
    for number in range(WALLPAPERS):
        paper = _wallpaper(number).reshape(COLUMNS, TILE, COLUMNS, TILE, 3).transpose(2, 0, 1, 3, 4)
        first = WALLPAPER + number * COLUMNS * COLUMNS
        ground[first : first + COLUMNS * COLUMNS] = paper.reshape(-1, TILE, TILE, 3)
    for layout in range(LAYOUTS):
        for look in range(LEVELS):
            ground[CONTENT + layout * LEVELS + look] = _content(layout, _random(layout * LEVELS + look))
    for app in range(_APPS):
        color = np.array(_app_color(app))
        ground[APP_BAR + app] = color
        ground[APP_STATUS + app] = color * 2 // 3
        ground[RECENT_CARD + app] = color
        ground[RECENT_CARD + app, [0, -1]] = 24
    ground[DIALOG : DIALOG + DIALOG_STYLES] = np.array([(250, 250, 250), (226, 234, 240), (250, 236, 214)])[
        :, None, None
    ]
    ground[BANNER] = 240, 240, 244
    ground[NAVIGATION] = 16, 16, 18


def _wallpaper(number: int) -> np.ndarray:
    """uint8 `[96, 96, 3]`: two colours, mixed by one of eight patterns, and a little grain."""
    random = _random(1000 + number)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    patterns: list[Callable[[], np.ndarray]] = [
        lambda: y,
        lambda: (np.sin(12 * (x + y)) > 0) * 0.5 + y / 2,
        lambda: np.hypot(x - 0.7, y - 0.3),
        lambda: (np.sin(20 * x) * np.sin(20 * y) > 0.4) * 0.4 + x / 2,
        lambda: 0.5 + 0.5 * np.sin(9 * x + 3 * np.sin(7 * y)),
        lambda: np.floor(6 * (y + 0.1 * np.sin(8 * x))) / 6,
        lambda: np.abs(x - 0.5) + np.abs(y - 0.5),
        lambda: _hills(x, y, random),
    ]
    mix = patterns[number]().clip(0, 1)[..., None]
    start = random.rand()
    one, other = (
        np.array(colorsys.hsv_to_rgb((start + shift) % 1, s, v))
        for shift, s, v in ((0, 0.6, 0.35), (0.15, 0.45, 0.8))
    )
    grain = random.uniform(-0.03, 0.03, (SIZE, SIZE, 1))
    return ((one * (1 - mix) + other * mix + grain).clip(0, 1) * 255).astype(np.uint8)


def _hills(x: np.ndarray, y: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    mix = 0.3 * y
    for level in (0.45, 0.65, 0.85):
        a, b = random.uniform(4, 12, 2)
        mix = np.where(y > level + 0.06 * np.sin(a * x + b), level, mix)
    return mix


def _app_color(app: int) -> tuple[int, ...]:
    """The colour of an app's bar: its icon's mean, stronger and darker."""
    if app == NUM_APPS:
        return _GREY
    icon = app_icons(22)[app].reshape(-1, 4).astype(float)
    mean = (icon[:, :3] * icon[:, 3:]).sum(0) / icon[:, 3].sum() / 255
    hue, saturation, value = colorsys.rgb_to_hsv(*mean)
    color = colorsys.hsv_to_rgb(hue, min(1.0, 1.6 * saturation), min(0.7, 0.85 * value))
    return tuple(int(255 * part) for part in color)


def _color(random: np.random.RandomState) -> np.ndarray:
    return (
        np.array(colorsys.hsv_to_rgb(random.rand(), random.uniform(0.3, 0.9), random.uniform(0.5, 1))) * 255
    ).astype(np.uint8)


def _content(layout: int, random: np.random.RandomState) -> np.ndarray:
    """uint8 `[24, 24, 3]`: a piece of what an app shows below its bar."""
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    y, x = np.mgrid[:TILE, :TILE]
    if layout == LIST:
        left = 2
        if random.rand() < 0.5:
            tile[np.hypot(y - 11, x - 9) < random.randint(5, 8)] = _color(random)
            left = 18
        for line in (6, 11, 16):
            tile[line : line + 2, left : random.randint(left + 2, TILE + 1)] = random.randint(90, 190)
        tile[-1] = 215
    elif layout == GRID:
        tile[:] = 236
        cut = (1, 23) if random.rand() < 0.4 else (1, 11, 13, 23)
        for top, bottom in zip(cut[::2], cut[1::2], strict=True):
            for left, right in zip(cut[::2], cut[1::2], strict=True):
                tile[top:bottom, left:right] = _color(random)
    elif layout == TEXT:
        for line in range(2, TILE, 4):
            for left in range(1, TILE, 8):
                if random.rand() < 0.75:
                    tile[line : line + 2, left : left + random.randint(3, 8)] = random.randint(40, 110)
    else:
        top, bottom = _color(random), _color(random)
        mix = ((y * random.uniform(-1, 1) + x * random.uniform(-1, 1)) / TILE + 0.5).clip(0, 1)[..., None]
        tile[:] = (top * (1 - mix) + bottom * mix).astype(np.uint8)
        for _ in range(random.randint(1, 4)):
            cy, cx = random.randint(0, TILE, 2)
            tile[np.hypot(y - cy, x - cx) < random.randint(3, 8)] = _color(random)
    return tile


def _draw_icons(over: np.ndarray) -> None:
    large, small = app_icons(22), app_icons(16)
    icons = over[ICON:SMALL_ICON].reshape(_APPS, BADGES, TILE, TILE, 4)
    icons[:NUM_APPS, :, 1:23, 1:23] = large[:, None]
    for badge in range(1, BADGES):
        icons[:NUM_APPS, badge, 1:9, 15:23] = (*((220, 40, 40), (30, 140, 60), (40, 90, 220))[badge - 1], 255)
        _write(icons[:NUM_APPS, badge], str(badge), 3, 18, _WHITE)
    over[SMALL_ICON : SMALL_ICON + NUM_APPS, 4:20, 4:20] = small


def _draw_text(over: np.ndarray) -> None:
    for look in range(LEVELS):
        random = _random(2000 + look)
        for line in (7, 13):
            for left in range(0, TILE, 6):
                if random.rand() < 0.7:
                    width = random.randint(2, 6)
                    over[DARK_TEXT + look, line : line + 3, left : left + width] = 40, 44, 52, 255
                    over[LIGHT_TEXT + look, line : line + 3, left : left + width] = 255, 255, 255, 230
        for left in range(1, TILE, 5):
            if random.rand() < 0.5:
                top, bottom = sorted(random.randint(3, 10, 2))
                over[GLYPHS + look, top : bottom + 1, left : left + 3] = *_WHITE, 200
    for style in range(DIALOG_STYLES):
        # Two buttons, the second the one that stands out.
        color = ((26, 115, 232), (0, 121, 107), (183, 90, 0))[style]
        left, right = (over[BUTTON + style * COLUMNS + i : BUTTON + style * COLUMNS + i + 2] for i in (0, 2))
        left[:, 5:19] = 200, 204, 210, 255
        right[:, 5:19] = *color, 255
        for half, ink in ((left, color), (right, _WHITE)):
            half[0, :, :4] = half[1, :, -4:] = 0
            half[:, 10:14, 8:17:3] = half[:, 10:14, 9:18:3] = *ink, 255


def _draw_bars(over: np.ndarray) -> None:
    for hour in range(HOURS):
        _write(over[HOUR + hour], f"{hour:02d}", 4, 12, _WHITE)
        over[HOUR + hour, [5, 7], 21] = *_WHITE, 255
    for minute in range(MINUTES):
        _write(over[MINUTE + minute], f"{minute:02d}", 4, 0, _WHITE)
    for level in range(BATTERY_LEVELS):
        tile = over[BATTERY + level]
        tile[3:9, 4:22] = tile[5:7, 22] = *_WHITE, 255
        tile[4:8, 5:21] = 60, 60, 60, 255
        tile[4:8, 5 : 5 + level + 1] = *((90, 200, 90) if level > BATTERY_LEVELS // 5 else (230, 60, 40)), 255
    dots = over[DOTS:].reshape(MAX_PAGES + 1, MAX_PAGES, COLUMNS, TILE, TILE, 4)
    for pages in range(MAX_PAGES + 1):
        for page in range(MAX_PAGES):
            bar = np.zeros((BAR, SIZE, 4), np.uint8)
            for i in range(pages):
                left = SIZE // 2 - 3 * pages + 6 * i + 1
                bar[1:4, left : left + 3] = *(_WHITE if i == page else _BLACK), 255 if i == page else 110
            _buttons(bar)
            dots[pages, page, :, :BAR] = bar.reshape(BAR, COLUMNS, TILE, 4).swapaxes(0, 1)


def _buttons(bar: np.ndarray) -> None:
    """Back, home and overview."""
    ink = (*_WHITE, 220)
    for i in range(4):
        bar[8 - i : 9 + i, 22 + i] = ink
    for left in (46, 70):
        bar[6:11, left : left + 5] = ink
    bar[7:10, 71:74] = 0


def _write(tiles: np.ndarray, figures: str, top: int, left: int, color: tuple[int, ...]) -> None:
    """Figures of 3 x 5 pixels on tiles `[..., 24, 24, 4]`."""
    for figure in figures:
        ink = np.array([int(bit) for bit in _FIGURES[int(figure)]], bool).reshape(5, 3)
        tiles[..., top : top + 5, left : left + 3, :][..., ink, :] = *color, 255
        left += 4
