"""What a phone's screen shows: the app that is open, the page of the home screen and its icons."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._screen_symbols import APP, CELLS, COLUMNS, HOME, MAX_PAGES, ROWS, dialog_row, unpack


# The ten common apps come first. Networks are trained on these numbers: the order is for good, and that of
# screen_icons.txt.
APPS = (
    "Mail",
    "Sheets",
    "Browser",
    "Calculator",
    "Clock",
    "Calendar",
    "Camera",
    "Contacts",
    "Music",
    "Files",
    "Notes",
    "Help",
    "Chat",
    "News",
    "Accessibility",
    "Fonts",
    "Translate",
    "Podcasts",
    "Remote Desktop",
    "Night Mode",
    "Wardrobe",
    "Wallpapers",
    "Friends",
    "System Monitor",
    "Terminal",
    "Crafts",
    "Builder",
    "Cards",
    "Paint",
    "Movies",
    "Settings",
    "Repair",
    "Voice Recorder",
    "Battery",
    "Video Camera",
    "Arcade",
    "Backup",
    "Radio",
    "Printer",
    "Awards",
    "Gallery",
    "App Store",
    "Film Archive",
    "Slides",
    "Step Counter",
    "Documents",
    "Recycling",
    "Cleaner",
    "Coupons",
    "Clipboard",
    "Shredder",
    "Smart Home",
    "Search",
    "Screen Lock",
    "Weather",
    "Storm Alerts",
    "Ideas",
    "Jokes",
    "Zoo",
    "Health",
)
NUM_APPS, NUM_COMMON = len(APPS), 10
# Numbers of no app and of no page.
NO_APP, NO_PAGE = NUM_APPS, MAX_PAGES


class ScreenFacts(NamedTuple):
    """What is true of a screen, NumPy's or JAX's arrays, with any leading axes.

    Attributes:
      opened: int32 `[...]`, the number of the app that fills the screen (its place in `APPS`), NO_APP where none
        does: on the home screen, in the overview of recent apps, and under a dialog.
      page: int32 `[...]`, the page of the home screen, from 0, also under a dialog; NO_PAGE where another thing
        is shown.
      icons: int32 `[..., 12]`, row by row, the apps whose icons are on the page, NO_APP where there is none or
        the dialog lies. Icons inside apps, notifications, dialogs and the overview are not counted.
      covered: bool `[...]`, a dialog lies over it all, and nothing counts as open.
    """

    opened: Any
    page: Any
    icons: Any
    covered: Any


def read_screen_facts(symbols: Any) -> ScreenFacts:
    """The facts of what a screen shows; jittable.

    Args:
      symbols: uint8 `[..., 6, 4, 3]`, as Screens observes them.
    """
    xp: Any = np if isinstance(symbols, np.ndarray) else jnp
    fields = unpack(symbols)
    covered, home = fields.dialog > 0, fields.mode == HOME
    upper = dialog_row(fields.dialog)[..., None]
    row = np.arange(CELLS) // COLUMNS
    seen = home[..., None] & ~(covered[..., None] & ((row == upper) | (row == upper + 1)))
    icons = fields.apps.reshape(*fields.apps.shape[:-2], ROWS * COLUMNS)
    return ScreenFacts(
        xp.where((fields.mode == APP) & ~covered, fields.opened, NO_APP).astype(np.int32),
        xp.where(home, fields.page, NO_PAGE).astype(np.int32),
        xp.where(seen, icons, NO_APP).astype(np.int32),
        covered,
    )
