"""Experiments: Python files that return a configuration, by name.

A file here has a one-line docstring and either a function `config(preset, algorithm)` that returns an
`ExperimentConfig`, or, where it is one of `JOBS`, a function `job(env, agent)` that returns a `JobConfig`. Its name
is the experiment's name on the command line.
"""

import difflib
import importlib
from typing import Any


JOBS = ("gymnasium", "minigrid")
NAMES = ("adversarial_bandit", "dark_key_to_door", "dark_room", "dark_room_hard", *JOBS)


def load(name: str) -> Any:
    """The module of an experiment. ValueError, with close matches, for an unknown name."""
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"There is no experiment {name!r}; {hint}Known: {', '.join(NAMES)}.")
    return importlib.import_module(f"{__name__}.{name}")
