"""Environments by name."""

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from dm_env import specs

from ._types import Environment
from .bandit import AdversarialBandit
from .beeping_box import BeepingBox
from .dark_room import DarkRoom
from .key_to_door import KeyToDoor
from .rooms import Rooms
from .screens import Screens
from .xland import XLand


class _Entry(NamedTuple):
    build: Callable[..., Environment]
    defaults: Mapping[str, Any]
    description: str
    needs: str | None = None  # the module of an extra


_ENTRIES: dict[str, _Entry] = {
    "adversarial_bandit": _Entry(
        AdversarialBandit,
        {},
        "10 Bernoulli arms, 100 trials; odd arms favoured in training, even ones at test.",
    ),
    "beeping_box": _Entry(
        BeepingBox,
        {},
        "8x8 room of 4 boxes that look alike, one beeps, 64 steps, 1 for opening it, 0 for another.",
    ),
    "dark_room": _Entry(
        DarkRoom, {}, "9x9 room, 20 steps from the centre, 1 on every step on an unseen goal."
    ),
    "dark_room_hard": _Entry(
        DarkRoom,
        {"size": 17, "once": True},
        "17x17 room, 20 steps from the centre, 1 once at an unseen goal.",
    ),
    "dark_key_to_door": _Entry(
        KeyToDoor, {}, "9x9 room, 50 steps from a random cell, 1 at an unseen key, then 1 at an unseen door."
    ),
    "rooms": _Entry(
        Rooms,
        {},
        "6x6 room of keys, balls and boxes, MiniGrid's dynamics, 64 steps, 1 at a goal told in words.",
    ),
    "screens": _Entry(
        Screens,
        {},
        "a phone of 3 pages of apps, dialogs and notifications, 16 steps, 1 when the app told in words is open.",
    ),
    "xland": _Entry(
        XLand,
        {},
        "XLand-MiniGrid, 9x9 room: hidden rules over objects, 1 at most at a hidden goal.",
        needs="xminigrid",
    ),
}


def environment_names() -> list[str]:
    """The names of the environments that can be built here, sorted; those of absent extras are left out."""
    return sorted(
        n for n, entry in _ENTRIES.items() if not entry.needs or importlib.util.find_spec(entry.needs)
    )


def make(name: str, **kwargs: Any) -> Environment:
    """Builds an environment by its name.

    Args:
      name: one of `environment_names()`.
      **kwargs: constructor arguments (`arguments` in `describe(name)`) that replace the named defaults.

    Raises:
      ValueError: for an unknown name or argument, with close matches, or a value that the environment
        refuses.
      ImportError: for an environment of an extra that is not installed.
    """
    entry = _entry(name)
    known = _arguments(entry)
    for argument in kwargs:
        if argument not in known:
            raise ValueError(f"{name} has no argument {argument!r}; {_suggest(argument, sorted(known))}")
    return entry.build(**{"name": name, **entry.defaults, **kwargs})


def describe(name: str) -> dict[str, Any]:
    """What there is to know of an environment, as JSON-able values.

    Returns:
      name, description, arguments (with defaults), max_steps, num_tasks (None: uncountable) and specs:
      task, observation, markov_observation, action, reward, discount.

    Raises:
      ValueError: for an unknown name.
      ImportError: for an environment of an extra that is not installed.
    """
    entry, environment = _entry(name), make(name)
    return {
        "name": name,
        "description": entry.description,
        "arguments": _arguments(entry),
        "max_steps": environment.max_steps,
        "num_tasks": environment.num_tasks,
        "specs": {
            "task": spec_as_json(environment.task_spec()),
            "observation": spec_as_json(environment.observation_spec()),
            "markov_observation": spec_as_json(environment.markov_spec()),
            "action": spec_as_json(environment.action_spec()),
            "reward": spec_as_json(environment.reward_spec()),
            "discount": spec_as_json(environment.discount_spec()),
        },
    }


def spec_as_json(spec: Any) -> Any:
    """A dm_env spec, or a nest of them, as JSON-able values: name, shape, dtype and bounds."""
    if isinstance(spec, Mapping):
        return {key: spec_as_json(value) for key, value in spec.items()}
    if isinstance(spec, (tuple, list)):
        return [spec_as_json(value) for value in spec]
    fields: dict[str, Any] = {
        "name": spec.name,
        "shape": list(spec.shape),
        "dtype": np.dtype(spec.dtype).name,
    }
    if isinstance(spec, specs.DiscreteArray):
        fields["num_values"] = int(spec.num_values)
    elif isinstance(spec, specs.BoundedArray):
        fields["minimum"], fields["maximum"] = (
            np.asarray(spec.minimum).tolist(),
            np.asarray(spec.maximum).tolist(),
        )
    return fields


def _entry(name: str) -> _Entry:
    if name not in _ENTRIES:
        raise ValueError(f"There is no environment {name!r}; {_suggest(name, environment_names())}")
    return _ENTRIES[name]


def _arguments(entry: _Entry) -> dict[str, Any]:
    parameters = inspect.signature(entry.build).parameters.values()
    return {p.name: entry.defaults.get(p.name, p.default) for p in parameters if p.name != "name"}


def _suggest(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(given), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}Known: {', '.join(known)}."
