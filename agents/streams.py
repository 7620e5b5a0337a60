"""Learning histories as rectangular arrays in memory, for distillation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..envs import LAST
from ._blocks import episode_ends
from ._manifest import SPLITS, HistoryError, unflatten_block
from .histories import HistoryReader


class Streams(NamedTuple):
    """H chronological streams of rows, T' the longest; a shorter stream is followed by zeros.

    Row t holds o_t, a_t, r_{t+1}, discount_{t+1} and step_type_{t+1}. A row after one with step_type
    LAST holds the next episode's first observation: what an episode ended on is not in the stream.
    The previous action and reward of row t are those of row t - 1, an episode's first row included.

    Attributes:
      observation: `[H, T', …]`, or a dictionary of them.
      action: `[H, T']`.
      reward: `[H, T']` float32.
      discount: `[H, T']` float32.
      step_type: `[H, T']` int32, MID or LAST; 0 in the padding.
      task_id: `[H]` int32.
      length: `[H]` int32, rows of each stream.
      history: `[H]` int32, where in the store each stream lies.
    """

    observation: Any
    action: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    step_type: np.ndarray
    task_id: np.ndarray
    length: np.ndarray
    history: np.ndarray


def load_streams(
    reader: HistoryReader,
    keep_every: int = 1,
    split: str | None = "train",
    histories: Sequence[int] | None = None,
) -> Streams:
    """Loads histories up to their watermarks, whole episodes left out by `keep_every`.

    Args:
      reader: of the store.
      keep_every: k keeps episodes k - 1, 2k - 1, … of every history, so that learning looks k times as
        fast and the last episode stays; 1 keeps every row, an unfinished last episode included.
      split: "train", "held_out", or None for both.
      histories: indices into the store; all of the split by default.

    Returns:
      `Streams`. Where a cut begins a new episode the row before it is LAST with discount 1: the episode
      was truncated there.

    Raises:
      HistoryError: nothing to load, a history of the other split, or a store that cannot be trusted.
    """
    manifest = reader.manifest
    if keep_every < 1:
        raise HistoryError(f"keep_every is at least 1; got {keep_every}.")
    chosen = _choose(reader, split, histories)
    groups: dict[int, list[int]] = {}
    for place, history in enumerate(chosen):
        groups.setdefault(history // manifest.histories_per_chunk, []).append(place)

    marks = reader.watermarks
    names = tuple(n for n in manifest.fields() if not n.startswith("final_") and n not in manifest.extras)
    step_types = _read_ahead(reader, list(groups), ("step_type",))
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    length = np.zeros(len(chosen), np.int32)
    for group, fields in zip(groups, step_types, strict=True):
        rows = manifest.rows(group)
        ends = episode_ends(manifest, fields["step_type"], list(rows))
        episode = np.cumsum(ends, axis=1) - ends
        keep = episode % keep_every == keep_every - 1
        kept[group] = ends, keep
        for place in groups[group]:
            length[place] = keep[chosen[place] - rows.start].sum()
    for place, history in enumerate(chosen):
        if length[place] == 0 and marks[history] > 0:
            raise HistoryError(
                f"keep_every={keep_every} leaves nothing of history {history}, which has fewer episodes."
            )
    if not length.any():
        raise HistoryError(f"{reader.path} has no whole rows yet: no block has reached it.")

    specs = manifest.fields()
    shape = (len(chosen), int(length.max()))
    out = {name: np.zeros((*shape, *specs[name]["shape"]), specs[name]["dtype"]) for name in names}
    for group, fields in zip(groups, _read_ahead(reader, list(groups), names), strict=True):
        ends, keep = kept[group]
        cut = ends & (fields["step_type"] != LAST)
        fields["step_type"][cut] = LAST
        fields["discount"][cut] = 1
        first = manifest.rows(group).start
        places = np.asarray(groups[group])
        rows = np.asarray([chosen[place] - first for place in places])
        alike = (keep[rows] == keep[rows[0]]).all()
        for name in names:
            if alike:
                steps = np.flatnonzero(keep[rows[0]])
                out[name][places, : len(steps)] = fields[name][np.ix_(rows, steps)]
            else:
                for place, row in zip(places, rows, strict=True):
                    out[name][place, : length[place]] = fields[name][row, keep[row]]
    result = unflatten_block(out)
    return Streams(
        observation=result["observation"],
        action=result["action"],
        reward=result["reward"],
        discount=result["discount"],
        step_type=result["step_type"],
        task_id=np.asarray([manifest.histories[h].task_id for h in chosen], np.int32),
        length=length,
        history=np.asarray(chosen, np.int32),
    )


def _choose(reader: HistoryReader, split: str | None, histories: Sequence[int] | None) -> list[int]:
    infos = reader.manifest.histories
    if split is not None and split not in SPLITS:
        raise HistoryError(f"A split is one of {', '.join(SPLITS)}; got {split!r}.")
    if histories is None:
        chosen = [h for h, info in enumerate(infos) if split in (None, info.split)]
        if not chosen:
            raise HistoryError(f"{reader.path} has no {split} histories.")
        return chosen
    chosen = [int(history) for history in histories]
    if not chosen:
        raise HistoryError("An empty list of histories was asked for.")
    for history in chosen:
        if not 0 <= history < len(infos):
            raise HistoryError(f"There is no history {history}: {reader.path} has {len(infos)}.")
        if split not in (None, infos[history].split):
            raise HistoryError(f"History {history} is {infos[history].split}, not {split}.")
    return chosen


def _read_ahead(reader: HistoryReader, groups: list[int], names: tuple[str, ...]):
    """The fields of one group after the other, the next one being read meanwhile."""
    marks = reader.watermarks

    def start(group: int):
        rows = reader.manifest.rows(group)
        return reader.start_read(rows, range(int(marks[rows.start])), names)

    following = start(groups[0])
    for position in range(len(groups)):
        end = following
        if position + 1 < len(groups):
            following = start(groups[position + 1])
        yield end()
