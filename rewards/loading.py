"""Reward models by name."""

import importlib
import os
import sys
from typing import Any


def load(name: str, **arguments: Any) -> Any:
    """Makes the reward model `package.module:factory`, called with these arguments.

    The current directory is appended to the search path, so that it never hides an installed module.

    Raises:
      ValueError: there is no such module or factory, or the factory refuses the arguments.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not attribute.isidentifier():
        raise ValueError(f"A reward is package.module:factory, got {name!r}.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(f"reward {name}: {error}") from error
    except AttributeError as error:
        raise ValueError(f"reward {name}: {module} has no {attribute!r}") from error
    try:
        return factory(**arguments)
    except TypeError as error:
        raise ValueError(f"reward {name} does not take the arguments {arguments}: {error}") from error
