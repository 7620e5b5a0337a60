"""Reward models by name."""

import difflib
import importlib.metadata
from collections.abc import Callable
from typing import Any

from ..envs import check_arguments, import_factory
from .contract import RewardError, form_of


GROUP = "limbeck.rewards"


def load(name: str, **arguments: Any) -> Any:
    """Makes a reward model.

    - `"package.module:factory"`: what `factory(**arguments)` returns. The current directory is appended to the search
      path.
    - Any other name: that of an entry point of the group `limbeck.rewards`, which names a factory, in an installed
      package.

    Args:
      name: as above.
      **arguments: of the factory.

    Returns:
      The model, of one of the three forms (`form_of` says which).

    Raises:
      RewardError: a name that leads nowhere (with close matches), arguments that the factory does not take, or a
        product of none of the forms. What the factory itself raises is passed on.
    """
    try:
        factory = import_factory(name) if ":" in name else _entry_point(name)
        check_arguments(name, factory, arguments)
    except ValueError as error:
        raise RewardError(str(error)) from error
    model = factory(**arguments)
    try:
        form_of(model)
    except RewardError as error:
        raise RewardError(f"{name} returned something else than a reward model: {error}") from None
    return model


def _entry_point(name: str) -> Callable[..., Any]:
    found = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=2, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        known = (
            f"installed are {', '.join(sorted(found))}"
            if found
            else f"no package has the entry points {GROUP}"
        )
        raise RewardError(
            f"there is no reward model {name!r}; {known}. {hint}package.module:factory works too"
        )
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        raise RewardError(
            f"the entry point {name} of {GROUP} is {found[name].value}, which cannot be imported: {error}"
        ) from error
