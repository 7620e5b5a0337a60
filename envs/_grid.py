"""The transition table that the dark rooms share."""

import numpy as np


# (dx, dy) of each action, in the AD paper's order: left, right, up, down, no-op. y grows downwards.
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)], np.int32)
LEFT, RIGHT, UP, DOWN, STAY = range(5)


def move_table(size: int) -> np.ndarray:
    """`next_cell[cell, action]`, int32 [size**2, 5]; moves into a wall stay."""
    y, x = np.divmod(np.arange(size * size), size)
    nx = np.clip(x[:, None] + MOVES[:, 0], 0, size - 1)
    ny = np.clip(y[:, None] + MOVES[:, 1], 0, size - 1)
    return (ny * size + nx).astype(np.int32)


def distances(size: int) -> np.ndarray:
    """`steps[a, b]`, int32 [size**2, size**2]: least steps from cell a to cell b."""
    y, x = np.divmod(np.arange(size * size), size)
    return np.abs(x[:, None] - x) + np.abs(y[:, None] - y)
