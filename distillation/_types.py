"""What an evaluation leaves behind."""

from typing import NamedTuple

import numpy as np


class Evaluation(NamedTuple):
    """Episode returns of one agent on many tasks.

    Attributes:
      returns: float32 `[task, seed, episode]`.
      task_ids: int `[task]`.
      random: float32 `[task]`, the uniform-random policy's mean return; NaN where unknown.
      optimal: float32 `[task]`, the best policy's mean return; NaN where unknown.
    """

    returns: np.ndarray
    task_ids: np.ndarray
    random: np.ndarray
    optimal: np.ndarray
