"""Segments: T rows of one actor stream with all that a labeller needs, before anybody has paid for them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from ..agents import Rows, Trajectory, leaf_names
from ..agents.items import POLICY_VERSION, Signature
from .goal_text import GOAL_BYTES, decode_goals, encode_goals


FRAME = "next_observation/image"
TRUE_REWARD = "extras/true_reward"
TRUE_SUCCESS = "extras/true_success"
# Of a copy: (actor, incarnation, stream, number of the segment of its last row).
SOURCE = "source"

_GOAL, _INCARNATION, _NUMBER, _MADE = "goal", "incarnation", "number", "made"


class Segment(NamedTuple):
    """T consecutive rows of one stream.

    Attributes:
      actor, incarnation, stream: whose rows they are.
      number: 0, 1, … in the stream of this incarnation.
      rows: name -> `[T, …]`, named as items are (`leaf_names`), with the true reward as `reward`, the memory
        before every row under `memory`, and TRUE_SUCCESS, POLICY_VERSION and FRAME beside them.
      goals: T texts, the goal of each row's episode.
    """

    actor: int
    incarnation: int
    stream: int
    number: int
    rows: Mapping[str, np.ndarray]
    goals: Sequence[str]


class Bundle(NamedTuple):
    """What an actor writes at once: the segments of all its streams.

    Attributes:
      incarnation, number: of each segment.
      made: `time.time()` when it was written.
      segments: one a stream, in their order.
    """

    incarnation: int
    number: int
    made: float
    segments: list[Segment]


def is_memory(name: str) -> bool:
    """Whether an array of an item or a segment is part of the agent's memory."""
    return name == "memory" or name.startswith("memory/")


def bundle_signature(spec: Trajectory, streams: int, frame: Sequence[int]) -> Signature:
    """name -> (shape, dtype) of a bundle of E streams, all `[E, T, …]` but its numbers.

    Args:
      spec: `trajectory_spec` of the items that will be made of it.
      streams: E.
      frame: the shape [H, W, 3] of what is judged.
    """
    length = spec.reward.shape[0]
    shapes: Signature = {}
    for name, leaf in zip(leaf_names(spec), jax.tree.leaves(spec)):
        shape = leaf.shape if is_memory(name) else leaf.shape[1:]
        shapes[name] = ((streams, length, *shape), np.dtype(leaf.dtype).name)
    return {
        **shapes,
        FRAME: ((streams, length, *frame), "uint8"),
        POLICY_VERSION: ((streams, length), "int64"),
        TRUE_SUCCESS: ((streams, length), "float32"),
        _GOAL: ((streams, length, GOAL_BYTES), "uint8"),
        _INCARNATION: ((), "int64"),
        _NUMBER: ((), "int64"),
        _MADE: ((), "float64"),
    }


def copy_signature(unroll: int) -> Signature:
    """What a labelled item of T rows has beside those of `signature`."""
    rows = dict.fromkeys((TRUE_REWARD, TRUE_SUCCESS), ((unroll,), "float32"))
    return {**rows, SOURCE: ((4,), "int64")}


class BundleCutter:
    """Rows of E streams as bundles of T rows, one after the other."""

    def __init__(self, unroll: int, incarnation: int, reads: Sequence[str] | None = None):
        """
        Args:
          unroll: T.
          incarnation: of the actor.
          reads: keys of the observations that the learner sees; all by default. FRAME goes along in any case.
        """
        self._unroll, self._incarnation, self._number, self._filled = unroll, incarnation, 0, 0
        self._reads = reads
        self._names: list[str] = []
        self._frame_beside = False
        self._buffers: list[np.ndarray] = []

    def add(
        self,
        rows: Rows,
        memory: Any,
        policy_version: int,
        goals: Sequence[str],
        successes: np.ndarray,
        now: float,
    ) -> dict[str, np.ndarray] | None:
        """Adds one row a stream.

        Args:
          rows: `[E, …]`.
          memory: `[E, …]`, before the row.
          policy_version: of the variables that acted.
          goals: E texts, of the episodes that the rows belong to.
          successes: `[E]`, 1 where the row ended an episode that truly succeeded.
          now: `time.time()`.

        Returns:
          None until a bundle is whole; then its item, arrays of its own.
        """
        frame, rows = rows.next_observation["image"], rows.reading(self._reads)
        row = Trajectory(
            rows.timestep.observation, cast(jax.Array, rows.action), rows.led_to.reward, rows.led_to.discount,
            rows.led_to.step_type, rows.next_observation, rows.extras, memory,
        )  # fmt: skip
        count = len(rows.action)
        values = [np.asarray(leaf) for leaf in jax.tree.leaves(row)]
        values += [
            np.full(count, policy_version, np.int64),
            successes.astype(np.float32),
            encode_goals(goals),
        ]
        if not self._names:
            self._names = [*leaf_names(row), POLICY_VERSION, TRUE_SUCCESS, _GOAL]
            self._frame_beside = FRAME not in self._names
            self._names += [FRAME] * self._frame_beside
        values += [frame] * self._frame_beside
        if not self._filled:
            self._buffers = [np.empty((count, self._unroll, *v.shape[1:]), v.dtype) for v in values]
        for buffer, value in zip(self._buffers, values):
            buffer[:, self._filled] = value
        self._filled += 1
        if self._filled < self._unroll:
            return None
        item = dict(zip(self._names, self._buffers))
        item |= {
            _INCARNATION: np.asarray(self._incarnation, np.int64),
            _NUMBER: np.asarray(self._number, np.int64),
            _MADE: np.asarray(now, np.float64),
        }
        self._number, self._filled = self._number + 1, 0
        return item


def read_bundle(actor: int, item: Mapping[str, np.ndarray]) -> Bundle:
    """The segments of an item of `BundleCutter`."""
    incarnation, number = int(item[_INCARNATION]), int(item[_NUMBER])
    about = (_GOAL, _INCARNATION, _NUMBER, _MADE)
    rows = {name: array for name, array in item.items() if name not in about}
    segments = [
        Segment(
            actor, incarnation, stream, number, {name: array[stream] for name, array in rows.items()},
            decode_goals(item[_GOAL][stream]),
        )
        for stream in range(len(item["action"]))
    ]  # fmt: skip
    return Bundle(incarnation, number, float(item[_MADE]), segments)
