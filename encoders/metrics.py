"""Metrics of training as CSV, for TensorBoard, and for W&B; a resumed run leaves no row twice."""

import csv
import importlib
import json
import math
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any, Self


class MetricsLogger:
    """Writes rows of numbers; a context manager, and a callback of the training loop.

        with MetricsLogger("runs/demo") as log:
            train(loss, params, batches, config, directory, callbacks=[log])

    Files in `directory`: `metrics.csv` (a `step` column and one per metric, empty where a row has no such
    metric; new metrics add columns), and `tensorboard/` with TensorBoard's event files.

    `start(step)`, which the training loop calls with the step that it goes on from, drops what was written
    after that step: from the CSV file by rewriting it, from TensorBoard by a purge mark that its reader
      obeys.
    W&B goes on with the same run; it ignores rows of steps that it has already.

    Args:
      directory: made if it is missing.
      tensorboard: whether to write TensorBoard's files.
      wandb: whether to log to W&B; needs the extra `wandb` and an account, or `WANDB_MODE=offline`.
      project: W&B's project.
      name: W&B's name of the run; the directory's own if None.
      settings: facts about the run that W&B shows beside it.

    Raises:
      ImportError: if W&B is asked for and not installed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        tensorboard: bool = True,
        wandb: bool = False,
        project: str = "limbeck",
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        self._directory = pathlib.Path(directory).absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._table = _Table(self._directory / "metrics.csv")
        self._use_tensorboard = tensorboard
        self._writer: Any = None
        self._run: Any = _wandb_run(self._directory, project, name, settings) if wandb else None
        self._started = False

    def start(self, step: int, steps: int | None = None) -> None:
        """Prepares for rows after `step`, dropping any that are there already."""
        self._table.truncate(step)
        if self._use_tensorboard:
            from tensorboardX import SummaryWriter

            if self._writer is not None:
                self._writer.close()
            place = self._directory / "tensorboard"
            purge = step + 1 if place.is_dir() else None
            self._writer = SummaryWriter(logdir=str(place), purge_step=purge)
        self._started = True

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes one row. Steps must ascend; new names may come at any time."""
        if not self._started:
            self.start(step - 1)
        values = {key: float(value) for key, value in metrics.items()}
        self._table.append(step, values)
        if self._writer is not None:
            for key, value in values.items():
                self._writer.add_scalar(key, value, step)
            self._writer.flush()
        if self._run is not None:
            self._run.log(values, step=step)

    def __call__(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """As a callback of `train`."""
        self.log(step, metrics)

    def close(self) -> None:
        """Ends the writers; rows are on disk already."""
        if self._writer is not None:
            self._writer.close()
        if self._run is not None:
            self._run.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    """Columns of a `metrics.csv`, NaN where a row has no such metric."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0]) if rows else []
    return {name: [float(row[name]) if row[name] else math.nan for row in rows] for name in names}


class _Table:
    """A CSV file that is appended to, and rewritten aside and renamed where it must change otherwise."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._names: list[str] = []

    def truncate(self, step: int) -> None:
        """Keeps the whole rows up to `step`; a line that a kill cut short goes too."""
        names, rows = self._read()
        self._names = names or ["step"]
        self._rewrite([row for row in rows if int(row[0]) <= step])

    def append(self, step: int, values: dict[str, float]) -> None:
        if new := [name for name in values if name not in self._names]:
            _, rows = self._read()
            self._names = [*self._names, *new]
            self._rewrite([row + [""] * len(new) for row in rows])
        row = [str(step), *(repr(values[name]) if name in values else "" for name in self._names[1:])]
        with open(self._path, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)

    def _read(self) -> tuple[list[str], list[list[str]]]:
        if not self._path.exists():
            return [], []
        with open(self._path, newline="") as file:
            whole = [line for line in file if line.endswith("\n")]
        names, *rows = list(csv.reader(whole)) or [[]]
        return names, [row for row in rows if len(row) == len(names) and row[0].isdigit()]

    def _rewrite(self, rows: list[list[str]]) -> None:
        aside = self._path.with_suffix(".writing")
        with open(aside, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([self._names, *rows])
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self._path)


def _wandb_run(directory: pathlib.Path, project: str, name: str | None, settings: Mapping[str, Any] | None):
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError(
            "logging to W&B needs the wandb package: pip install 'limbeck[wandb]', or turn it off"
        ) from error
    identity = directory / "wandb.json"
    if not identity.exists():
        identity.write_text(json.dumps({"id": uuid.uuid4().hex[:12]}))
    return wandb.init(
        project=project,
        name=directory.name if name is None else name,
        id=json.loads(identity.read_text())["id"],
        resume="allow",
        dir=str(directory),
        config=dict(settings or {}),
    )
