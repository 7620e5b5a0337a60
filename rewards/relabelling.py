"""Stored histories with the rewards of a model: the same steps, paid by other eyes."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..agents import HistoryError, HistoryReader, HistoryWriter, Manifest
from ..envs import LAST, detokenize_mission
from .scoring import DistinctScores, RewardModel, check_model


_EXTRA = "true_reward"


class Relabelled(NamedTuple):
    """What `relabel` did.

    Attributes:
      rows: that were written.
      distinct: pairs of a frame and a goal that the model saw, summed over its calls.
      unseen: rows whose next frame the store does not have, each of them paid 0: where histories end within an
        episode, and before a cut.
    """

    rows: int
    distinct: int
    unseen: int


def relabel(
    store: str | pathlib.Path,
    model: Any,
    out: str | pathlib.Path,
    goal: str | None = None,
    batch: int = 256,
) -> Relabelled:
    """Writes a copy of a history store whose rewards are a model's, a block at a time.

    The reward of a row is the model's of the frame that its action led to: the next row's, at an episode's end the
    final observation. Episodes stay as they were: where the source went on after its goal was reached, every
    frame that shows it is paid. The environment's rewards stay beside as `true_reward`. What was whole in
    the store is copied; the same call again goes on where it stopped.

    Args:
      store: its directory. Observations are images `[H, W, 3]` uint8, or have the key `image`.
      model: a callable, with `name` and `version`, by which the histories' `reward_model` names it.
      out: the directory of the copy.
      goal: what all rows are judged by; by default the mission that the key `text` of observations holds.
      batch: frames of one call of the model at most.

    Returns:
      `Relabelled`.

    Raises:
      HistoryError: the store cannot be read, has no images or no goals, or the copy cannot be written.
      ValueError: the model cannot be called, or does not answer as it must.
    """
    check_model(model)
    reader = HistoryReader(store)
    if pathlib.Path(out).resolve() == pathlib.Path(store).resolve():
        raise HistoryError(f"The copy of {store} needs another directory.")
    key = _image_key(reader)
    if goal is None and "observation.text" not in reader.manifest.fields():
        raise HistoryError(
            f"{store} does not say what its goals are: its observations have no text. Give a goal."
        )
    done = Relabelled(0, 0, 0)
    with HistoryWriter.create_or_open(out, _manifest(reader.manifest, model)) as writer:
        for group, times in _blocks(reader):
            chunk = times.start // reader.manifest.steps_per_chunk
            if writer.durable(group, chunk):
                continue
            rows = reader.manifest.rows(group)
            fields = reader.read_rows(rows, times)
            frames, seen = _frames_ahead(reader, rows, times, fields, key)
            goals = _goals(fields, goal)
            places = np.argwhere(seen)
            rewards = np.zeros(seen.shape, np.float32)
            if len(places):
                found, distinct = _score(model, frames, goals, places, batch)
                rewards[seen] = found
                done = done._replace(distinct=done.distinct + distinct)
            true = fields[_EXTRA] if _EXTRA in reader.manifest.extras else fields["reward"]
            writer.write(group, chunk, {**fields, _EXTRA: true, "reward": rewards})
            done = done._replace(rows=done.rows + seen.size, unseen=done.unseen + int((~seen).sum()))
    return done


def _image_key(reader: HistoryReader) -> str:
    for key in ("observation.image", "observation"):
        spec = reader.manifest.fields().get(key)
        if spec and spec["dtype"] == "uint8" and len(spec["shape"]) == 3 and spec["shape"][-1] == 3:
            return key
    raise HistoryError(
        f"{reader.path} has no images for a reward model: its observations need the key image, [H, W, 3] uint8, and "
        f"are {', '.join(name for name in reader.manifest.fields() if name.startswith('observation'))}."
    )


def _manifest(manifest: Manifest, model: Any) -> Manifest:
    name, version = (getattr(model, field, "") for field in ("name", "version"))
    paid = ":".join(str(part) for part in (name or type(model).__name__, version) if part)
    return dataclasses.replace(
        manifest,
        histories=[dataclasses.replace(info, reward_model=paid) for info in manifest.histories],
        extras={**manifest.extras, _EXTRA: {"shape": [], "dtype": "float32"}},
    )


def _blocks(reader: HistoryReader) -> Iterator[tuple[int, range]]:
    """(group, times) of every block below the watermarks."""
    manifest, marks = reader.manifest, reader.watermarks
    for group in range(manifest.num_groups):
        for chunk in range(manifest.num_chunks):
            if manifest.times(chunk).stop <= marks[manifest.rows(group).start]:
                yield group, manifest.times(chunk)


def _frames_ahead(
    reader: HistoryReader, rows: range, times: range, fields: Mapping[str, np.ndarray], key: str
) -> tuple[np.ndarray, np.ndarray]:
    """What every action led to, `[G, C, H, W, 3]`, and where the store has it, `[G, C]` bool."""
    ended = fields["step_type"] == LAST
    ahead = np.empty_like(fields[key])
    ahead[:, :-1] = fields[key][:, 1:]
    seen = np.ones(ended.shape, bool)
    if times.stop < int(reader.watermarks[rows.start]):
        ahead[:, -1] = reader.read_rows(rows, range(times.stop, times.stop + 1), (key,))[key][:, 0]
    else:
        seen[:, -1] = False
    for history, time in reader.manifest.cuts:
        if history in rows and times.start < time <= times.stop:
            seen[history - rows.start, time - 1 - times.start] = False
    ahead[ended] = fields[f"final_{key}"][ended]
    return ahead, seen | ended


def _goals(fields: Mapping[str, np.ndarray], goal: str | None) -> np.ndarray:
    """The goal of every row, `[G, C]` of texts."""
    shape = fields["step_type"].shape
    if goal is not None:
        return np.full(shape, goal, object)
    tokens = fields["observation.text"]
    texts, where = np.unique(tokens.reshape(-1, tokens.shape[-1]), axis=0, return_inverse=True)
    return np.array([detokenize_mission(text) for text in texts], object)[where.reshape(shape)]


def _score(
    model: RewardModel, frames: np.ndarray, goals: np.ndarray, places: np.ndarray, batch: int
) -> tuple[np.ndarray, int]:
    chosen = [frames[row, time] for row, time in places]
    texts = [str(goals[row, time]) for row, time in places]
    scores = DistinctScores(model, batch)
    return scores.of(chosen, texts), scores.distinct
