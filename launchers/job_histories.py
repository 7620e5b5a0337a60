"""The learning histories of a job: their store, their table, and which start of a stream a block is of."""

import json
import pathlib
import threading
from typing import Any

from ..agents import (
    Block,
    HistoryInfo,
    HistoryReader,
    HistoryWriter,
    Manifest,
    Table,
    histories_table,
    spec_to_json,
)
from .job_config import JobConfig
from .jobs import make_environment
from .runs import write_json


_STEPS_PER_CHUNK = 500


def history_manifest(config: JobConfig) -> Manifest:
    """The store of a job: a group is an actor, a history one of its environments."""
    environment = make_environment(config)
    try:
        observation, action = environment.observation_spec(), environment.action_spec()
    finally:
        environment.close()
    # Labellers come after the actors, whose histories keep the environment's rewards (`rewards.relabel`).
    paid = "environment" if config.reward is None or config.labelled else config.reward
    infos = [
        HistoryInfo(
            task_id=-1, task=None, split="train", algorithm=config.agent, run=0, stream=stream, seed=config.seed,
            reward_model=paid,
        )
        for stream in range(config.actors * config.environments)
    ]  # fmt: skip
    return Manifest(
        environment=config.env,
        environment_kwargs=config.env_arguments,
        observation=spec_to_json(observation),
        action=spec_to_json(action),
        max_steps=None,
        split={"salt": f"limbeck-{config.seed}", "seed": config.seed, "held_out": []},
        length=config.history_steps,
        histories=infos,
        histories_per_chunk=config.environments,
        steps_per_chunk=min(_STEPS_PER_CHUNK, config.history_steps),
        settings={"actors": config.actors},
    )


def history_tables(config: JobConfig) -> list[Table]:
    """The tables of a replay server that the histories of a job go through."""
    return [histories_table(history_manifest(config))] if config.history_steps else []


def history_store(run_directory: pathlib.Path) -> pathlib.Path:
    """Where a job's histories are."""
    return run_directory / "histories"


def history_watermarks(run_directory: pathlib.Path) -> list[int] | None:
    """How far each history is whole now, or None where none are kept."""
    store = history_store(run_directory)
    return HistoryReader(store).watermarks.tolist() if (store / "watermarks.json").exists() else None


class JobStore:
    """The history store of a job as its sink keeps it. For any thread.

    Every start of an actor is an epoch of its group: blocks of earlier ones, which may still lie in the queue,
    are of steps that were given up, and are thrown away. Epochs are on disk before a caller learns of them.
    """

    def __init__(self, run_directory: pathlib.Path, config: JobConfig):
        """Opens or begins the store. Raises `HistoryError`."""
        self._writer = HistoryWriter.create_or_open(history_store(run_directory), history_manifest(config))
        self._path = run_directory / "history_epochs.json"
        self._epochs: dict[str, int] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._lock = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        return self._writer.manifest

    @property
    def complete(self) -> bool:
        """Whether every history is whole."""
        return self._writer.complete

    def begin(self, group: int, epoch: int) -> int:
        """A start of a group's streams.

        Args:
          group: of the store.
          epoch: the actor's incarnation. Said again it changes nothing, so a call that seemed lost may be
            repeated before the first block is sent.

        Returns:
          The watermark, at which the streams go on.

        Raises:
          ValueError: there was a later start already.
        """
        with self._lock:
            before = self._epochs.get(str(group))
            if before is not None and epoch < before:
                raise ValueError(f"start {epoch} of group {group} is over: start {before} goes on with it")
            if before is not None and epoch > before:
                self._writer.restart(group)  # Nothing is lost where there was no start before.
            if epoch != before:
                self._epochs[str(group)] = epoch
                write_json(self._path, self._epochs)
            return self._watermark(group)

    def watermark(self, group: int) -> int:
        """How far a group's histories are whole."""
        with self._lock:
            return self._watermark(group)

    def write(self, block: Block) -> bool:
        """Writes a block of the group's newest epoch; False for one that is thrown away."""
        with self._lock:
            if self._epochs.get(str(block.group)) != block.epoch:
                return False
            self._writer.write(block.group, block.chunk, block.fields)
            return True

    def facts(self) -> dict[str, Any]:
        """For the status table."""
        marks = self._writer.watermarks
        return {"steps": int(marks.min()), "cuts": len(self._writer.manifest.cuts)}

    def close(self) -> None:
        """Lets another process write."""
        self._writer.close()

    def _watermark(self, group: int) -> int:
        return int(self._writer.watermarks[self.manifest.rows(group).start])
