"""The run directory: one folder that holds all of a run, refuses other settings, and has one owner at a time.

runs/<name>/
    config.json      format version, settings, versions of the packages that made it
    lock             held by the process at work in it
    stages/          one marker for each stage that is done
    histories/       the source's learning histories
    …                what the stages write
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import re
from collections.abc import Iterator
from typing import Any

import numpy as np


FORMAT_VERSION = 1
DEFAULT_DIRECTORY = pathlib.Path("runs")

_PACKAGES = ("limbeck", "jax", "jaxlib", "numpy", "dm-haiku", "optax", "tensorstore", "orbax-checkpoint")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
      directory: where it is.
      experiment: the name of the experiment that it runs.
      settings: the experiment's configuration as JSON-able values.
    """

    directory: pathlib.Path
    experiment: str
    settings: dict[str, Any]

    @property
    def histories(self) -> pathlib.Path:
        """Where the history store is."""
        return self.directory / "histories"

    def done(self, stage: str) -> dict[str, Any] | None:
        """What `mark` noted when the stage was done, or None where it is not."""
        path = self.directory / "stages" / f"{stage}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def mark(self, stage: str, **facts: Any) -> None:
        """Notes, atomically and durably, that a stage is done."""
        write_json(self.directory / "stages" / f"{stage}.json", facts)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file whole or not at all: aside, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """`write_bytes` of indented JSON."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def write_array_file(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """`write_bytes` of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def run_path(runs_dir: pathlib.Path, name: str) -> pathlib.Path:
    """`runs_dir/name`. ValueError for a name that is not a plain one, so that no run leaves `runs_dir`."""
    if not _NAME.fullmatch(name) or len(name) > 128:
        raise ValueError(
            f"run name {name!r}: expected letters, digits, '.', '_' and '-', beginning with a letter or digit, "
            "at most 128 of them"
        )
    return runs_dir / name


def as_settings(config: Any) -> dict[str, Any]:
    """A dataclass's fields as they come back from JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def settings_hash(settings: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, of settings: what was written under one hash was written under one configuration."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def create_or_open(directory: pathlib.Path, experiment: str, settings: dict[str, Any]) -> Run:
    """Makes the run directory, or opens the one that has the same settings.

    Raises:
      ValueError: the directory belongs to a run with other settings (each is named with both values), to another
        format version, or to no run although it is not empty.
      OSError: it cannot be written.
    """
    path = directory / "config.json"
    if path.exists():
        run = open_run(directory)
        differences = _differences(
            {"experiment": run.experiment, **run.settings}, {"experiment": experiment, **settings}
        )
        if differences:
            raise ValueError(
                f"{directory} was made with other settings: {'; '.join(differences)}. "
                "Give this run another --name, or the settings that it was made with"
            )
        return run
    if directory.exists() and any(entry.name not in ("lock", "stages") for entry in directory.iterdir()):
        raise ValueError(
            f"{directory} is not empty and holds no config.json: it is no run; give another --name"
        )
    directory.mkdir(parents=True, exist_ok=True)
    about = {
        "format_version": FORMAT_VERSION,
        "experiment": experiment,
        "settings": settings,
        "versions": versions(),
    }
    write_json(path, about)
    return Run(directory, experiment, settings)


def open_run(directory: pathlib.Path) -> Run:
    """Opens an existing run directory. ValueError where it is none, or of another format version."""
    path = directory / "config.json"
    if not path.exists():
        raise ValueError(f"{directory} is not a run directory: it has no config.json")
    try:
        about = json.loads(path.read_text())
        version, experiment, settings = about["format_version"], about["experiment"], about["settings"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or not of a run: {error!r}") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{directory} has format version {version}; this Limbeck reads {FORMAT_VERSION}")
    return Run(directory, experiment, settings)


def changed_versions(directory: pathlib.Path) -> list[str]:
    """The packages that are not of the version the run was begun with, as `name old -> new`."""
    then = json.loads((directory / "config.json").read_text()).get("versions", {})
    return [f"{name} {then[name]} -> {new}" for name, new in versions().items() if then.get(name, new) != new]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a run's numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> Iterator[None]:
    """Holds the directory for this process; the kernel lets it go when the process ends, however it ends.

    Raises ValueError, naming the process, where another one holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise ValueError(f"{directory} is in use by process {owner}; wait for it or stop it") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    parts = {}
    for name, part in value.items():
        parts |= _flat(part, f"{prefix}.{name}" if prefix else name)
    return parts


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    there, here = _flat(there), _flat(here)
    absent = "absent"
    return [
        f"{name} is {there.get(name, absent)!r} there and {here.get(name, absent)!r} here"
        for name in sorted({*there, *here})
        if there.get(name, absent) != here.get(name, absent)
    ]
