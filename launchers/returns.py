"""Episode returns of streams."""

import numpy as np

from ..envs import LAST


def episode_returns(reward: np.ndarray, step_type: np.ndarray) -> np.ndarray:
    """Returns of the episodes that all of the streams have finished.

    Args:
      reward: `[H, T]`.
      step_type: `[H, T]`, LAST where an episode ends; 0 behind a stream's end.

    Returns:
      float32 `[H, E]`; E is 0 where a stream has no whole episode.
    """
    ends = step_type == LAST
    episode = np.cumsum(ends, axis=1) - ends
    count = int(ends.sum(axis=1).min())
    # What belongs to no finished episode falls into one more bin, which is dropped.
    place = np.minimum(episode, count) + (count + 1) * np.arange(len(reward))[:, None]
    sums = np.bincount(place.ravel(), reward.ravel(), minlength=(count + 1) * len(reward))
    return sums.reshape(len(reward), count + 1)[:, :count].astype(np.float32)
