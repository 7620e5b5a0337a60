"""How many values the symbols of an observation have."""

import numpy as np
from dm_env import specs


# MiniGrid's numbers of objects, colours and states, for specs whose bounds say no more than "a byte".
MINIGRID_SIZES = (11, 6, 3)


def channel_sizes(spec: specs.Array) -> tuple[int, ...]:
    """How many values each channel of `symbols` has, from the bounds or else MiniGrid's constants."""
    if len(spec.shape) != 3 or not np.issubdtype(spec.dtype, np.integer):
        raise ValueError(f"symbols must be integers of shape [height, width, channels], got {spec!r}.")
    if isinstance(spec, specs.BoundedArray):
        high = np.broadcast_to(spec.maximum, spec.shape).reshape(-1, spec.shape[-1]).max(0)
        if high.max() < 64:
            return tuple(int(n) + 1 for n in high)
    if spec.shape[-1] != len(MINIGRID_SIZES):
        raise ValueError(
            f"symbols without bounds below 64 are read as MiniGrid's object, colour and state, which are 3 "
            f"channels; got {spec!r}. Give the spec's maximum per channel."
        )
    return MINIGRID_SIZES
