"""A callable reward model made of an encoder and a head."""

from collections.abc import Sequence

import numpy as np

from ._scoring import Scoring, padded, power_of_two
from .contract import FrameEncoder, Head, RewardError, check_rewards


# Rows that the head sees at once: bounds the memory of its gathered parameters.
_ROWS = 1024


class EncoderReward(Scoring):
    """An encoder under a head, for a set of goals: the callable form.

    The goals and the head's other texts are encoded once, when it is made. Put a `CachedEncoder` under it where
    frames come again: another head, goal set or threshold then costs no encoding.
    """

    def __init__(self, encoder: FrameEncoder, head: Head, goals: Sequence[str], name: str | None = None):
        """Encodes the goals.

        Args:
          encoder: see `FrameEncoder`.
          head: see `Head`; one over sequences goes into `SequenceReward`.
          goals: different texts, all that will be asked for.
          name: another name than that of encoder and head.

        Raises:
          RewardError: no such encoder or head, goals that the head refuses, or embeddings that are no unit vectors.
        """
        if hasattr(head, "range"):
            raise RewardError(f"{type(head).__name__} is a head over sequences: it goes into SequenceReward")
        super().__init__(encoder, head, goals, name)

    def score(self, embeddings: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """Rewards of embedded frames.

        Args:
          embeddings: of `embed`, float32 `[N, D]`.
          goals: N texts, each one of `goals`.

        Returns:
          float32 `[N]` in [0, 1].

        Raises:
          RewardError: another goal, or a head that leaves [0, 1].
        """
        index = self.index(goals, len(embeddings))
        embeddings = np.asarray(embeddings, np.float32)
        scores = [np.zeros(0, np.float32)]
        for start in range(0, len(index), _ROWS):
            rows, places = embeddings[start : start + _ROWS], index[start : start + _ROWS]
            width = power_of_two(len(rows))
            found = self._head(self.parameters, padded(rows, width), padded(places, width))
            scores.append(np.asarray(found)[: len(rows)])
        return check_rewards(np.concatenate(scores), len(index), what=self.name)

    def __call__(self, frames: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """See `RewardModel`."""
        return self.score(self.embed(frames), goals)
