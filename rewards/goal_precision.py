"""How well cosines tell on which frames a goal is true, for each style of its text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._world import Encoder, TextGoal
from .frames import Frames
from .metrics import average_precision
from .pairs import Pairs


def goal_precision(
    encoder: Encoder,
    images: np.ndarray,
    frames: Frames,
    goals: Sequence[TextGoal],
    truth: np.ndarray,
    styles: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Style -> average precision over goals and frames, with its interval over episodes.

    Args:
      encoder: of the texts.
      images: `[N, D]`, unit vectors of the frames.
      frames: N of them.
      goals: G.
      truth: bool `[N, G]`.
      styles: of the texts.
    """
    found = {}
    for style in styles:
        texts = [goal.text(style) for goal in goals]
        scores = images @ encoder.encode_goals(texts).T
        found[style] = average_precision(
            Pairs.of(scores, truth, frames.episode, frames.time, texts)
        ).rounded()
    return found
