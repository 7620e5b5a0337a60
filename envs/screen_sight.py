"""Which apps a phone's screen shows something of, whether they are open or not."""

import numpy as np

from ._screen_symbols import unpack
from .screen_facts import NO_APP, NUM_APPS


def apps_in_sight(symbols: np.ndarray) -> np.ndarray:
    """The apps that a screen could be taken for: those that are open, also under a dialog, or whose icon is drawn.

    An icon is drawn on a page of the home screen, within another app, on the card of a recent app, by a notification or
    in a dialog; what a dialog hides of these is counted too.

    Args:
      symbols: uint8 `[N, 6, 4, 3]`.

    Returns:
      bool `[N, NUM_APPS]`.
    """
    fields = unpack(symbols)
    single = np.stack([fields.opened, fields.notified, fields.asking], axis=-1)
    drawn = np.concatenate([single, fields.apps.reshape(len(symbols), -1)], axis=1)
    found = np.zeros((len(symbols), NO_APP + 1), bool)
    np.put_along_axis(found, drawn, True, axis=1)
    return found[:, :NUM_APPS]
