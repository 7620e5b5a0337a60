"""How a phone's screen is written down: all that its picture depends on, in 6 x 4 x 3 bytes below 64.

| row | column | channels |
|---|---|---|
| 0 | 0 | mode (HOME, APP, RECENTS), page, number of pages |
| 0 | 1 | wallpaper, the app that is open, layout of its content |
| 0 | 2 | the clock's hour and minute, the battery |
| 0 | 3 | the app of the notification, the app that a dialog is about, the dialog's kind |
| 1 to 3 | the four cells of a row | app whose icon is drawn there, its badge, look of the content |
| 4 | text of | the notification, the dialog, the status bar |
| 5 | text of | the bars in cell rows 1, 2 and 3 |

Text is strokes that nobody can read: a number chooses one of 64 patterns. What does not apply is 0, or NO_APP.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


ROWS, COLUMNS = 3, 4
CELLS = ROWS * COLUMNS
SHAPE = (6, 4, 3)
# Bytes stay below this, so that networks can read them as one-hot vectors.
LEVELS = 64
MAX_PAGES = 6

HOME, APP, RECENTS = range(3)
LIST, GRID, TEXT, PHOTO = range(4)
WALLPAPERS, LAYOUTS, BADGES, BATTERY_LEVELS, HOURS, MINUTES = 8, 4, 4, 16, 24, 60
# A dialog's kind is 0 for none, else 1 + 2 * style + place: its upper half lies over cell row 0 or 1, and the
# buttons over the row below.
DIALOG_STYLES, DIALOG_PLACES = 3, 2


class ScreenSymbols(NamedTuple):
    """The fields of `symbols`, with any leading axes; integers.

    Attributes:
      mode: HOME, APP or RECENTS.
      page: of the home screen, from 0.
      pages: of the home screen, how many.
      wallpaper: below WALLPAPERS.
      opened: the app that is open, NO_APP unless the mode is APP.
      layout: LIST, GRID, TEXT or PHOTO, of the content of the app that is open.
      hour: below 24.
      minute: below 60.
      battery: below BATTERY_LEVELS.
      notified: the app that notifies, NO_APP without a notification.
      asking: the app that a dialog is about, NO_APP without a dialog.
      dialog: its kind, 0 without one.
      apps: `[..., 3, 4]`, the app whose icon is drawn in a cell, NO_APP for none; of RECENTS the card's, four times.
      badges: `[..., 3, 4]`, below BADGES, 0 for none.
      looks: `[..., 3, 4]`, below LEVELS, of the content of the app that is open.
      texts: `[..., 2, 4, 3]`, below LEVELS.
    """

    mode: Any
    page: Any
    pages: Any
    wallpaper: Any
    opened: Any
    layout: Any
    hour: Any
    minute: Any
    battery: Any
    notified: Any
    asking: Any
    dialog: Any
    apps: Any
    badges: Any
    looks: Any
    texts: Any


def pack(fields: ScreenSymbols) -> Any:
    """uint8 `[..., 6, 4, 3]`, NumPy or JAX as the fields are."""
    xp: Any = np if isinstance(fields.apps, np.ndarray) else jnp
    top = xp.stack([xp.asarray(field) for field in fields[:12]], axis=-1)
    top = top.reshape(*top.shape[:-1], 1, COLUMNS, 3)
    cells = xp.stack([fields.apps, fields.badges, fields.looks], axis=-1)
    return xp.concatenate([part.astype(np.uint8) for part in (top, cells, xp.asarray(fields.texts))], axis=-3)


def unpack(symbols: Any) -> ScreenSymbols:
    """The fields, int32, of uint8 `[..., 6, 4, 3]`."""
    if symbols.ndim < 3 or symbols.shape[-3:] != SHAPE:
        raise ValueError(f"symbols of screens are uint8 [..., 6, 4, 3], got the shape {list(symbols.shape)}.")
    symbols = symbols.astype(np.int32)
    top = symbols[..., 0, :, :].reshape(*symbols.shape[:-3], COLUMNS * 3)
    cells = symbols[..., 1:4, :, :]
    parts = [top[..., i] for i in range(COLUMNS * 3)] + [cells[..., i] for i in range(3)]
    return ScreenSymbols(*parts, texts=symbols[..., 4:, :, :])


def dialog_row(dialog: Any) -> Any:
    """The cell row, 0 or 1, of a dialog's upper half; its buttons lie in the row below."""
    return (dialog - 1) % DIALOG_PLACES
