"""Which keys of an observation have a flag beside them that says whether they are there."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from dm_env import specs

from ..envs import present_key


def present_flags(observation_spec: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The flags' keys by `names` that have one: `<name>_present`, where that is a bool scalar."""
    flags = {name: present_key(name) for name in names}
    return {name: flag for name, flag in flags.items() if _is_flag(observation_spec.get(flag))}


def _is_flag(spec: Any) -> bool:
    return isinstance(spec, specs.Array) and spec.shape == () and spec.dtype == np.bool_
