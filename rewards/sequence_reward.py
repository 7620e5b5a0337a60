"""A trajectory scorer made of an encoder and a head over sequences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..agents import Trajectory
from ..envs import LAST
from ._scoring import Scoring, padded, power_of_two
from .contract import FrameEncoder, RewardError, SequenceHead, check_rewards


class SequenceReward(Scoring):
    """An encoder under a head over sequences, for a set of goals: the trajectory scorer form."""

    def __init__(
        self,
        encoder: FrameEncoder,
        head: SequenceHead,
        goals: Sequence[str],
        name: str | None = None,
        image: str = "image",
    ):
        """Encodes the goals.

        Args:
          encoder: see `FrameEncoder`.
          head: see `SequenceHead`; one over single frames goes into `EncoderReward`.
          goals: different texts, all that will be asked for.
          name: another name than that of encoder and head.
          image: the key of the frames where observations are dictionaries.

        Raises:
          RewardError: as of `EncoderReward`.
        """
        if not hasattr(head, "range"):
            raise RewardError(
                f"{type(head).__name__} is a head over single frames: it goes into EncoderReward"
            )
        super().__init__(encoder, head, goals, name)
        self.range = head.range
        self._image = image

    def score(self, trajectory: Trajectory, goal: str) -> np.ndarray:
        """See `TrajectoryScorer`.

        The first row counts as the beginning of an episode: nothing is known from before it. So the first scores of
        a segment cut out of an episode differ from those of the whole episode.

        Raises:
          RewardError: another goal, or observations without frames uint8 `[T, H, W, 3]`.
        """
        before, after = self._frames(trajectory.observation), self._frames(trajectory.next_observation)
        steps = len(after)
        if steps == 0:
            return np.zeros(0, np.float32)
        last = np.asarray(trajectory.step_type) == LAST
        begins = np.concatenate([[True], last[:-1]])
        # An episode's frames are the one that it begins with, then what each action led to.
        order = np.arange(steps) + np.cumsum(begins)
        length = steps + int(begins.sum())
        frames = np.empty((length, *after.shape[1:]), after.dtype)
        frames[order] = after
        frames[order[begins] - 1] = before[begins]
        first = np.zeros(length, bool)
        first[order[begins] - 1] = True
        width = power_of_two(length)
        index = self.index([goal] * length, length)
        rows = [padded(array, width) for array in (self.embed(frames), index, first)]
        scores = np.asarray(self._head(self.parameters, *rows))[order]
        return check_rewards(scores, steps, self.range, what=self.name)

    def _frames(self, observation: Any) -> np.ndarray:
        if isinstance(observation, Mapping):
            if self._image not in observation:
                raise RewardError(
                    f"{self.name} reads frames from {self._image!r}; the observations have {', '.join(observation)}"
                )
            observation = observation[self._image]
        return np.asarray(observation)
