"""Scores beside the truth: one flat table of (frame, goal) pairs that knows the episode of each."""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of a frame and a goal, each with its score and whether the goal is true in the frame.

    Make one with `Pairs.of`, which checks.

    Attributes:
      scores: float64 `[P]`, higher means rather true.
      truth: bool `[P]`.
      goal: int32 `[P]`, index in `goals`.
      episode: int32 `[P]`, index in `episode_ids`.
      step: int64 `[P]`, step in its episode.
      frame: int32 `[P]`, the row of the frame in the arrays that were given.
      goals: names of the goals `[G]`.
      episode_ids: `[E]`, the distinct episode ids as they were given, sorted.
    """

    scores: np.ndarray
    truth: np.ndarray
    goal: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    frame: np.ndarray
    goals: tuple[str, ...]
    episode_ids: np.ndarray

    @classmethod
    def of(
        cls,
        scores: ArrayLike,
        truth: ArrayLike,
        episodes: ArrayLike,
        steps: ArrayLike,
        goals: Sequence[str],
        goal: ArrayLike | None = None,
    ) -> Self:
        """Checks and flattens.

        Args:
          scores: `[N, G]`, a score for each frame and goal; or `[N]`, with `goal`.
          truth: bool, the shape of `scores`.
          episodes: `[N]` ids of the frames' episodes, integers or strings, each id one episode of all the data.
          steps: `[N]` integers, step in the episode.
          goals: names of the goals `[G]`.
          goal: `[N]` integers, the index in `goals` of each row's goal, where scores are `[N]`.

        Raises:
          ValueError: if shapes do not agree, there is no frame, a score is not finite, truth is not boolean, a
            goal comes twice or is not there, or two frames of an episode have the same step (and goal).
        """
        scores, truth = np.asarray(scores, np.float64), np.asarray(truth)
        episodes, steps, names = np.asarray(episodes), np.asarray(steps), tuple(goals)
        if len(set(names)) != len(names):
            raise ValueError(f"the goals must be distinct; they are {list(names)}")
        if truth.shape != scores.shape or truth.dtype != bool:
            raise ValueError(
                f"truth must be boolean with the shape of the scores, {scores.shape}; it is {truth.dtype} {truth.shape}"
            )
        rows = len(scores) if scores.ndim else 0
        if rows == 0 or scores.shape not in ((rows,), (rows, len(names))):
            raise ValueError(
                f"scores must be [N, {len(names)}] (frames, goals) or [N] with goal ids, N at least 1; "
                f"their shape is {scores.shape}"
            )
        if (goal is None) != (scores.ndim == 2):
            raise ValueError("give goal ids with scores [N], and none with scores [N, G]")
        if episodes.shape != (rows,) or steps.shape != (rows,):
            raise ValueError(
                f"{rows} frames need as many episode ids and steps; they have {episodes.shape} and {steps.shape}"
            )
        if not np.issubdtype(steps.dtype, np.integer):
            raise ValueError(f"steps must be integers; they are {steps.dtype}")
        if not np.isfinite(scores).all():
            bad = int((~np.isfinite(scores)).sum())
            raise ValueError(
                f"{bad} scores are not finite; give what an abstention is paid as (0) in place of NaN"
            )
        ids, episode = np.unique(episodes, return_inverse=True)
        if goal is None:
            width, which = len(names), np.tile(np.arange(len(names)), rows)
            keys = (steps, episode)
        else:
            width, which = 1, np.asarray(goal)
            if which.shape != (rows,) or not np.issubdtype(which.dtype, np.integer):
                raise ValueError(f"goal ids must be integers [{rows}]; they are {which.dtype} {which.shape}")
            if which.min() < 0 or which.max() >= len(names):
                raise ValueError(
                    f"goal ids must be from 0 to {len(names) - 1}; one is {which.min()} or {which.max()}"
                )
            keys = (steps, which, episode)
        _check_distinct(keys, ids)
        return cls(
            scores.ravel(),
            truth.ravel(),
            which.astype(np.int32),
            np.repeat(episode.astype(np.int32), width),
            np.repeat(steps.astype(np.int64), width),
            np.repeat(np.arange(rows, dtype=np.int32), width),
            names,
            ids,
        )

    @property
    def num_episodes(self) -> int:
        """Number E of episodes."""
        return len(self.episode_ids)

    def select(self, chosen: np.ndarray) -> Self:
        """The pairs where `chosen` (bool `[P]`) is true, with the episodes that are left; goals keep their index."""
        left, episode = np.unique(self.episode[chosen], return_inverse=True)
        columns = ("scores", "truth", "goal", "step", "frame")
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[chosen] for name in columns},
            episode=episode.astype(np.int32),
            episode_ids=self.episode_ids[left],
        )

    def sums(self, values: ArrayLike, slot: ArrayLike = 0, slots: int = 1) -> np.ndarray:
        """Sums of `values` (`[P]` or one number) over each episode's pairs by slot, `[E, slots]` float64."""
        index = self.episode.astype(np.int64) * slots + np.asarray(slot)
        weights = np.broadcast_to(np.asarray(values, np.float64), index.shape)
        return np.bincount(index, weights, self.num_episodes * slots).reshape(self.num_episodes, slots)


def _check_distinct(keys: tuple[np.ndarray, ...], ids: np.ndarray) -> None:
    order = np.lexsort(keys)
    again = np.logical_and.reduce([np.diff(key[order]) == 0 for key in keys])
    if again.any():
        row = order[np.flatnonzero(again)[0]]
        raise ValueError(
            f"episode {ids[keys[-1][row]].item()!r} has step {keys[0][row]} twice: an episode id must name one episode "
            "of all the data"
        )
