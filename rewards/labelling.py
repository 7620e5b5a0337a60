"""Labels for what actors have done: rewards by a model, and episodes that end where the goal is reached.

The policy never sees a reward, so an episode may be ended after the fact: the row whose label is a hit becomes
LAST with discount 0, and what the actor did afterwards in that episode is no experience. The distribution of
what is left is the one of a loop that scores every frame before it acts on (`InlineReward`); the price is the
steps that are thrown away (K. Baumli et al., "Vision-language models as a source of rewards", arXiv
2312.09187, end an episode at the first reward).

The rows that stay are spliced: the row after a hit is the first one of the stream's next episode. So an
ordinary merged stream results, and `StreamSplicer` cuts it into items of T rows again. Learners, on-policy or
not, need no masks: no row is learned from twice or with another weight, returns never cross the hit, which is
LAST with nothing behind it, and a recurrent state is begun anew at the next episode's first row. An item may
begin at any row, so segments carry the memory before each.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..envs import LAST
from .scoring import DistinctScores, check_model
from .segments import FRAME, TRUE_REWARD, Segment


# Frames that are scored before hits are looked at again, while there are hits.
_WAVE = 256


class Labelled(NamedTuple):
    """What is left of a segment.

    Attributes:
      rows: name -> `[n, …]`, 0 <= n <= T: `reward`, `discount` and `step_type` by the label, TRUE_REWARD beside.
      broken: they do not follow the stream's rows before: it began anew, or segments are missing.
    """

    rows: dict[str, np.ndarray]
    broken: bool


class LabelledEpisode(NamedTuple):
    """An episode of the environment that has ended, seen whole.

    Attributes:
      actor, stream: whose it was.
      hit: whether a label ended it.
      labelled_return: sum of the labels up to the hit or the end.
      true_return: sum of the environment's rewards to its real end.
      true_success: what the environment says of it.
    """

    actor: int
    stream: int
    hit: bool
    labelled_return: float
    true_return: float
    true_success: bool


@dataclasses.dataclass
class _Stream:
    """Where a stream stands. All numbers, so that a row of an array holds it."""

    incarnation: int = -1
    number: int = -1
    dropping: bool = False
    whole: bool = True
    hit: bool = False
    labelled_return: float = 0.0
    true_return: float = 0.0

    def begin_episode(self) -> None:
        self.dropping, self.whole, self.hit = False, True, False
        self.labelled_return = self.true_return = 0.0


class EpisodeLabeller:
    """Labels segments of many streams, the segments of each in order.

    Two steps, so that scores can be kept beside what was made of them: `score_many` asks the model and changes
    nothing, `apply` uses the scores and moves the stream on. `label_many` does both.

    Attributes:
      model: the callable.
      threshold: the reward from which a row is a hit.
      scored: frames that the model was asked about.
      distinct: of them, those that it saw: each once a call.
    """

    def __init__(self, model: Any, threshold: float = 1.0, batch: int = 1024):
        """
        Args:
          model: `model(frames [N, H, W, 3] uint8, N goals) -> [N]` in [0, 1].
          threshold: in (0, 1]; 1 for models that say 0 or 1. Rewards are paid as the model says them.
          batch: frames of one call of the model at most.

        Raises:
          ValueError: the model cannot be called, or a number is out of range.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {threshold}.")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}.")
        self.model, self.threshold, self._batch = check_model(model), threshold, batch
        self.scored = self.distinct = 0
        self._wave = min(_WAVE, batch)
        self._streams: dict[tuple[int, int], _Stream] = {}
        self._episodes: list[LabelledEpisode] = []

    def score_many(self, segments: Sequence[Segment]) -> list[np.ndarray]:
        """Rewards of what every row's action led to, each distinct frame and goal of all segments once.

        `next_observation` is scored: at an episode's end that is its final frame, and not the next episode's first
        one, which stands in the row after.

        Args:
          segments: of any streams; of one stream in order.

        Returns:
          `[T]` float32 for each; NaN where no label is needed, because the episode was hit before.
        """
        rewards = [np.full(len(segment.goals), np.nan, np.float32) for segment in segments]
        first, seen = [], set()
        for segment in segments:
            stream = (segment.actor, segment.stream)
            first.append(0 if stream in seen else self._first_needed(segment))
            seen.add(stream)
        scores = DistinctScores(self.model, self._batch)
        # In waves, so that a hit spares the model the rest of its episode. Where there are none larger batches are
        # better ones.
        while waiting := [i for i, segment in enumerate(segments) if first[i] < len(segment.goals)]:
            length = max(1, self._wave // len(waiting))
            parts = [slice(first[i], first[i] + length) for i in waiting]
            frames = [frame for i, part in zip(waiting, parts) for frame in segments[i].rows[FRAME][part]]
            goals = [goal for i, part in zip(waiting, parts) for goal in segments[i].goals[part]]
            found, taken = scores.of(frames, goals), 0
            for i, part in zip(waiting, parts):
                labels = rewards[i][part]  # a view
                labels[:] = found[taken : taken + len(labels)]
                taken += len(labels)
                first[i] = _next_needed(segments[i].rows["step_type"], part.start, labels >= self.threshold)
            self.scored += len(frames)
            hit = bool((found >= self.threshold).any())
            self._wave = min(_WAVE if hit else 2 * self._wave, self._batch)
        self.distinct += scores.distinct
        return rewards

    def apply(self, segment: Segment, rewards: np.ndarray) -> Labelled:
        """What is left of a segment, given the rewards of its rows `[T]`.

        A segment that is not newer than the stream's last one, a repeat, leaves nothing.
        """
        stream = self._streams.setdefault((segment.actor, segment.stream), _Stream())
        kept = np.zeros(len(segment.goals), bool)
        step_type, discount = segment.rows["step_type"].copy(), segment.rows["discount"].copy()
        broken = False
        if _is_new(stream, segment):
            broken = not _follows(stream, segment)
            if broken:
                stream.begin_episode()
                # Within an episode it goes on at the next one's begin, unless the stream itself begins.
                stream.dropping, stream.whole = segment.number > 0, segment.number == 0
            stream.incarnation, stream.number = segment.incarnation, segment.number
            for first, last in _episodes(step_type):
                hit = self._take(stream, segment, rewards, kept, first, last)
                if hit is not None:
                    step_type[hit], discount[hit] = LAST, 0.0
        rows = {name: array[kept] for name, array in segment.rows.items()}
        rows[TRUE_REWARD] = rows["reward"]
        rows |= {"reward": rewards[kept], "step_type": step_type[kept], "discount": discount[kept]}
        return Labelled(rows, broken)

    def label_many(self, segments: Sequence[Segment]) -> list[Labelled]:
        """Scores segments together and applies the scores in turn."""
        return [self.apply(segment, rewards) for segment, rewards in zip(segments, self.score_many(segments))]

    def take_episodes(self) -> list[LabelledEpisode]:
        """The whole episodes that have really ended since the last call, with the label and the truth of each."""
        taken, self._episodes = self._episodes, []
        return taken

    def state(self, actor: int, streams: int) -> np.ndarray:
        """Where the streams of an actor stand, float64 `[streams, 7]`."""
        return np.array(
            [dataclasses.astuple(self._streams.get((actor, i), _Stream())) for i in range(streams)],
            np.float64,
        )

    def restore(self, actor: int, state: np.ndarray) -> None:
        """Goes on from a `state` of that actor."""
        for i, row in enumerate(state):
            numbers = [type(default)(value) for default, value in zip(dataclasses.astuple(_Stream()), row)]
            self._streams[actor, i] = _Stream(*numbers)

    def _take(
        self, stream: _Stream, segment: Segment, rewards: np.ndarray, kept: np.ndarray, first: int, last: int
    ) -> int | None:
        """Takes in the rows of one episode, marks those that stay, and returns the one that is a hit.

        Args:
          stream: where it stands.
          segment: the rows.
          rewards: `[T]`.
          kept: bool `[T]`, written into.
          first, last: of the rows; the last is the segment's or ends the episode.
        """
        rows, found = segment.rows, None
        stream.true_return += float(rows["reward"][first : last + 1].sum(dtype=np.float64))
        if not stream.dropping:
            hits = np.flatnonzero(rewards[first : last + 1] >= self.threshold)
            found = first + int(hits[0]) if len(hits) else None
            end = last if found is None else found
            kept[first : end + 1] = True
            stream.labelled_return += float(rewards[first : end + 1].sum(dtype=np.float64))
            stream.hit = stream.dropping = found is not None
        if rows["step_type"][last] == LAST:
            if stream.whole:
                success = bool(rows["extras/true_success"][last])
                self._episodes.append(
                    LabelledEpisode(
                        segment.actor, segment.stream, stream.hit, stream.labelled_return, stream.true_return,
                        success,
                    )
                )  # fmt: skip
            stream.begin_episode()
        return found

    def _first_needed(self, segment: Segment) -> int:
        """The first row whose label decides anything."""
        length = len(segment.goals)
        stream = self._streams.get((segment.actor, segment.stream), _Stream())
        if not _is_new(stream, segment):
            return length
        dropping = stream.dropping if _follows(stream, segment) else segment.number > 0
        if not dropping:
            return 0
        return _after_episode(segment.rows["step_type"], 0)


def _after_episode(step_type: np.ndarray, row: int) -> int:
    """The row after the episode that a row belongs to; the segment's length where it goes on beyond."""
    ends = np.flatnonzero(step_type[row:] == LAST)
    return row + int(ends[0]) + 1 if len(ends) else len(step_type)


def _next_needed(step_type: np.ndarray, start: int, hits: np.ndarray) -> int:
    """The first row beyond some, [start, start + len(hits)), whose label decides anything."""
    needed = start
    for hit in (start + np.flatnonzero(hits)).tolist():
        # Another one of the same episode says nothing new.
        if hit >= needed:
            needed = _after_episode(step_type, hit)
    return max(needed, start + len(hits))


def _episodes(step_type: np.ndarray) -> list[tuple[int, int]]:
    """The first and the last row of every episode in a segment, the one that goes on after it included."""
    ends = np.flatnonzero(step_type == LAST).tolist()
    if not ends or ends[-1] < len(step_type) - 1:
        ends.append(len(step_type) - 1)
    return list(zip([0, *(end + 1 for end in ends[:-1])], ends))


def _is_new(stream: _Stream, segment: Segment) -> bool:
    return (segment.incarnation, segment.number) > (stream.incarnation, stream.number)


def _follows(stream: _Stream, segment: Segment) -> bool:
    return (segment.incarnation, segment.number) == (stream.incarnation, stream.number + 1)
