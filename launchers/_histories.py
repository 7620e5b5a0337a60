"""`limbeck histories`: show, export and import learning histories."""

import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import tyro

from ..agents import HistoryReader, load_streams
from ._usage import UsageError, parse
from .returns import episode_returns


StorePath = Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]


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
          verify: read everything, so that a gap or a bad checksum is found now.
        """
        return path, json, verify

    path, as_json, verify = parse(options, "histories show", arguments)
    reader = HistoryReader(store_path(path))
    if verify:
        reader.verify()
    about = describe(reader)
    if as_json:
        print(json.dumps(about, indent=2))
        return
    print(f"{about['path']}: {about['histories']} histories of {about['environment']}")
    print(f"  {about['tasks']} tasks, splits {about['splits']}, algorithms {about['algorithms']}")
    print(
        f"  whole: {about['whole']} of {about['histories']}, at least {about['shortest']} of {about['length']} steps"
    )
    print(
        f"  split {about['split']['salt']}, {len(about['split']['held_out'])} tasks held out, {about['cuts']} cuts"
    )
    returns = about["returns"]
    if returns is not None:
        print(
            f"  {returns['episodes']} episodes each: return {returns['first_10']:.3f} over the first ten, "
            f"{returns['last_10']:.3f} over the last ten"
        )


def describe(reader: HistoryReader) -> dict[str, Any]:
    """What `limbeck histories show --json` prints. `returns` is None where no episode is whole."""
    manifest, marks = reader.manifest, reader.watermarks
    infos = manifest.histories
    returns = None
    if marks.min() > 0:
        streams = load_streams(reader, split=None)
        by_episode = episode_returns(streams.reward, streams.step_type)
        if by_episode.shape[1]:
            mean = by_episode.mean(axis=0)
            returns = {
                "episodes": len(mean),
                "first_10": float(mean[:10].mean()),
                "last_10": float(mean[-10:].mean()),
            }
    return {
        "path": str(reader.path),
        "format_version": manifest.format_version,
        "environment": manifest.environment,
        "environment_kwargs": dict(manifest.environment_kwargs),
        "histories": len(infos),
        "tasks": len({json.dumps(info.task) for info in infos}),
        "splits": dict(Counter(info.split for info in infos)),
        "algorithms": dict(Counter(info.algorithm for info in infos)),
        "length": manifest.length,
        "whole": int(np.sum(marks == manifest.length)),
        "shortest": int(marks.min()),
        "split": dict(manifest.split),
        "settings": dict(manifest.settings),
        "cuts": len(manifest.cuts),
        "returns": returns,
    }


def store_path(path: pathlib.Path) -> pathlib.Path:
    """The store at a path, which may be that of a run directory."""
    return path / "histories" if (path / "config.json").exists() else path


_HELP = """usage: limbeck histories show|export|import …

  show PATH            what a store holds, how far it is whole, what its source learned
  export PATH OUT      to an npz file, or to a Minari data set (--to minari)
  import IN PATH       from one of these, with the checks of a store

limbeck histories ACTION --help shows an action's options."""

_ACTIONS = {"show": _show}
