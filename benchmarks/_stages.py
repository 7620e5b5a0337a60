"""Stages of a benchmark that are kept in files, so that a run that was stopped goes on."""

import json
import pathlib
from collections.abc import Callable
from typing import Any


def kept(path: pathlib.Path, make: Callable[[], Any]) -> Any:
    """What a stage gives, JSON values: read from its file, which is made where it is not there, whole or not at all."""
    if not path.exists():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(found))
        unfinished.rename(path)
    return json.loads(path.read_text())
