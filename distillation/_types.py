"""What in-context evaluation measures."""

from typing import NamedTuple

import numpy as np


class Evaluation(NamedTuple):
    """Returns of one trained model over consecutive episodes, its weights frozen and its context going on.

    Attributes:
      returns: undiscounted return of each episode, float32 `[task, seed, episode]`. A seed is one run of
        evaluation, from an empty context.
      task_ids: which tasks these are, int `[task]`.
      random: mean return of uniformly random actions on each task, float32 `[task]`; exact or measured, NaN
        where unknown.
      optimal: largest mean return on each task, float32 `[task]`; NaN where the environment has no bounds.
    """

    returns: np.ndarray
    task_ids: np.ndarray
    random: np.ndarray
    optimal: np.ndarray
