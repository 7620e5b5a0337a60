"""Replay checkpoints on disk, without Reverb: where they lie, what makes one whole, which one fits.

    DIRECTORY/
      server.lock            held by the one server that writes here
      server/                of that server, made anew by each
        fingerprint.json     the settings of its tables
        incoming/            where Reverb writes
      2026-01-01T…/          a checkpoint: Reverb's files, its DONE, and fingerprint.json

Reverb 0.14 deletes every other checkpoint of its directory when it has written one, and the new one as
well where another file sorts after it. So each is moved out of its reach, by one rename, as soon as it
is written. Reverb also starts an empty server, without a word, where the checkpoint to restore is
missing or unfinished, and takes the settings of a restored table from the checkpoint and not from the
code: `check_checkpoint` refuses both.
"""

import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Collection, Sequence

from ._manifest import differences, sync_directory
from .tables import ReplayError, Table, fingerprint, tables_to_json


_LOCK, _SERVER, _INCOMING, _FINGERPRINT, _DONE = (
    "server.lock",
    "server",
    "incoming",
    "fingerprint.json",
    "DONE",
)


class CheckpointDirectory:
    """The directory of one server's checkpoints.

    Attributes:
      path: of the directory.
      incoming: where Reverb writes, empty at first.
    """

    def __init__(self, path: str | os.PathLike[str], tables: Sequence[Table]):
        """Makes `incoming` anew.

        Raises:
          ReplayError: the directory cannot be written, or another server writes there.
        """
        self.path = pathlib.Path(path).absolute()
        self.incoming = self.path / _SERVER / _INCOMING
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / _LOCK, "ab")
        except OSError as error:
            raise ReplayError(
                f"Cannot write replay checkpoints to {path}: {error.strerror or error}."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ReplayError(f"Another replay server writes its checkpoints to {self.path}.") from error
        try:
            shutil.rmtree(self.path / _SERVER, ignore_errors=True)
            self.incoming.mkdir(parents=True)
            settings = {"fingerprint": fingerprint(tables), "tables": tables_to_json(tables)}
            (self.path / _SERVER / _FINGERPRINT).write_text(
                json.dumps(settings, indent=1) + "\n", encoding="utf-8"
            )
        except OSError as error:
            self._lock.close()
            raise ReplayError(
                f"Cannot write replay checkpoints to {path}: {error.strerror or error}."
            ) from error

    def close(self) -> None:
        """Lets the directory go, for another server."""
        shutil.rmtree(self.path / _SERVER, ignore_errors=True)
        self._lock.close()


def publish(written: str) -> str:
    """Makes what Reverb wrote into `incoming` a checkpoint, durably and by one rename. Returns its path.

    Raises:
      ReplayError: this machine does not see what the server wrote, or cannot move it.
    """
    source = pathlib.Path(written)
    settings = source.parent.parent / _FINGERPRINT
    if not (source / _DONE).exists() or not settings.exists():
        raise ReplayError(
            f"The replay server wrote its checkpoint to {written}, which this process does not find: it needs "
            "to see the file system of the server, and the server to be one of `ReplayServer`."
        )
    target = source.parent.parent.parent / source.name
    try:
        shutil.copyfile(settings, source / _FINGERPRINT)
        for file in source.iterdir():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(source)
        os.rename(source, target)
        sync_directory(target.parent)
    except OSError as error:
        raise ReplayError(
            f"Cannot keep the replay checkpoint {written}: {error.strerror or error}."
        ) from error
    return str(target)


def check_checkpoint(path: str | os.PathLike[str], tables: Sequence[Table]) -> None:
    """Refuses a checkpoint that a server of these tables must not be restored from.

    Raises:
      ReplayError: there is none, it is unfinished, or it is of other tables, whose differences are named.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ReplayError(f"There is no replay checkpoint at {path}.")
    if not (path / _DONE).exists():
        raise ReplayError(
            f"The replay checkpoint {path} is unfinished: it has no {_DONE}. Restore another one, or start without."
        )
    try:
        found = json.loads((path / _FINGERPRINT).read_text(encoding="utf-8"))
        theirs, mark = found["tables"], found["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ReplayError(
            f"The replay checkpoint {path} does not say what its tables are: its {_FINGERPRINT} cannot be read."
        ) from error
    if mark != fingerprint(tables):
        raise ReplayError(
            f"The replay checkpoint {path} is of other tables, and Reverb would restore those. Differences: "
            f"{differences(theirs, tables_to_json(tables))}. Take the old settings, or start without the "
            "checkpoint."
        )


def prune_checkpoints(
    directory: str | os.PathLike[str], keep: Collection[str | os.PathLike[str]]
) -> list[str]:
    """Deletes every checkpoint of a directory but those to keep. Returns the paths of those deleted.

    Args:
      directory: as given to `ReplayServer`.
      keep: paths that `ReplayClient.checkpoint` returned.

    Raises:
      ReplayError: one cannot be deleted.
    """
    directory = pathlib.Path(directory).absolute()
    kept = {pathlib.Path(path).absolute() for path in keep}
    deleted = []
    for path in sorted(done.parent for done in directory.glob(f"*/{_DONE}")):
        if path not in kept:
            # Out of sight by one rename: what is half deleted must not look like a checkpoint, and the next
            # server clears its folder.
            aside = directory / _SERVER / f"deleted-{path.name}"
            try:
                aside.parent.mkdir(exist_ok=True)
                os.rename(path, aside)
                shutil.rmtree(aside)
            except OSError as error:
                raise ReplayError(f"Cannot delete the replay checkpoint {path}: {error.strerror}.") from error
            deleted.append(str(path))
    return deleted
