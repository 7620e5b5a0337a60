"""Factories by name, `package.module:factory`, for whatever users bring of their own."""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


def import_factory(name: str) -> Callable[..., Any]:
    """Imports a factory.

    The current directory is appended to the search path, so that it never hides an installed module.

    Args:
      name: `package.module:factory`.

    Raises:
      ValueError: another kind of name, no such module, nothing of that name in it (with close matches), or it cannot
        be called.
        What the module's own code raises when it is imported is passed on.
    """
    module_name, _, attribute = name.partition(":")
    if not all([*module_name.split("."), attribute]):
        raise ValueError(f"A factory is named package.module:factory, got {name!r}.")
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: {error}; package.module is looked for on the search path and in {here}."
        ) from error
    if not hasattr(module, attribute):
        known = [public for public in vars(module) if not public.startswith("_")]
        close = difflib.get_close_matches(attribute, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise ValueError(f"{name}: {module_name} has no {attribute!r}{hint}")
    found = getattr(module, attribute)
    if not callable(found):
        raise ValueError(f"{name} is a {type(found).__name__}, which cannot be called.")
    return found


def check_arguments(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuses keyword arguments that a factory does not take.

    Raises:
      ValueError: with the factory's signature.
    """
    signature = inspect.signature(factory)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{name}{signature} does not take the arguments {dict(arguments)}: {error}."
        ) from error
