"""`limbeck histories`: show, export and import learning histories."""

import json
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from ..agents import HistoryReader, export_minari, export_npz, import_minari, import_npz, show_histories
from ._usage import UsageError, parse


StorePath = Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
Exchanged = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE-OR-DATASET")]
Form = Literal["npz", "minari"]


def histories(arguments: Sequence[str]) -> None:
    """`limbeck histories show|export|import …`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return
    name, *rest = arguments
    if name not in _ACTIONS:
        raise UsageError(f"there is no action {name!r} on histories; known: {', '.join(_ACTIONS)}")
    _ACTIONS[name](rest)


def _show(arguments: Sequence[str]) -> None:
    def options(path: StorePath, json: bool = False, verify: bool = False) -> tuple[pathlib.Path, bool, bool]:
        """Says what a history store holds, how far it is whole, and what its source learned.

        Args:
          path: the store, or the directory of a run.
          json: print JSON.
          verify: read every field of every block, so that a gap or a bad checksum is found now.
        """
        return path, json, verify

    path, as_json, verify = parse(options, "histories show", arguments)
    if verify:
        HistoryReader(_store(path)).verify()
    about = show_histories(_store(path))
    if as_json:
        print(json.dumps(about, indent=2))
        return
    split, marks = about["split"], about["watermarks"]
    sides = ", ".join(f"{count} of {side} tasks" for side, count in split["histories"].items())
    print(
        f"{about['path']}: {about['histories']} histories of {about['environment']}, {about['tasks']} tasks ({sides})"
    )
    whole = "all whole" if about["complete"] else f"whole up to steps {marks['min']} to {marks['max']}"
    print(f"  {about['length']:,} steps each, {whole}; {about['steps']:,} steps, {len(about['cuts'])} cuts")
    print(f"  split {split['salt']}, {len(split['held_out'])} tasks held out")
    print(f"  {about['size_on_disk'] / 1e6:.1f} MB on disk, {about['compression_ratio']:g} times compressed")
    for name, algorithm in about["algorithms"].items():
        if algorithm["last_10"] is not None:
            print(
                f"  {name}: return {algorithm['first_10']:.3f} over the first ten episodes, "
                f"{algorithm['last_10']:.3f} over the last ten"
            )


def _export(arguments: Sequence[str]) -> None:
    def options(path: StorePath, to: Exchanged, form: Form = "npz") -> tuple[pathlib.Path, str, Form]:
        """Writes a history store to an npz file or a local Minari data set.

        Args:
          path: the store, or the directory of a run.
          to: a file, or for Minari a data set's id such as `darkroom/q-learning-v0`.
          form: which of them.
        """
        return path, to, form

    path, to, form = parse(options, "histories export", arguments)
    (export_npz if form == "npz" else export_minari)(_store(path), to)
    print(to)


def _import(arguments: Sequence[str]) -> None:
    def options(source: Exchanged, path: StorePath, form: Form = "npz") -> tuple[str, pathlib.Path, Form]:
        """Makes a history store of what `export` wrote, with the checks that every block gets.

        Args:
          source: a file, or for Minari a data set's id.
          path: the store to make.
          form: which of them.
        """
        return source, path, form

    source, path, form = parse(options, "histories import", arguments)
    (import_npz if form == "npz" else import_minari)(source, path)
    print(path)


def _store(path: pathlib.Path) -> pathlib.Path:
    """The store at a path, which may be that of a run directory."""
    return path / "histories" if (path / "config.json").exists() else path


_HELP = """usage: limbeck histories show|export|import …

  show PATH            what a store holds, how far it is whole, what its source learned
  export PATH FILE     to an npz file; with --form minari to a local Minari data set
  import FILE PATH     from one of these, with the checks of a store

limbeck histories ACTION --help shows an action's options."""

_ACTIONS = {"show": _show, "export": _export, "import": _import}
