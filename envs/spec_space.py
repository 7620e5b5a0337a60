"""dm_env specs to gymnasium spaces and back."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from dm_env import specs


def space_from_spec(spec: Any) -> gymnasium.Space:
    """The gymnasium space of a dm_env spec, or of a nest of dictionaries, tuples and lists of specs.

    DiscreteArray becomes Discrete, BoundedArray and Array become Box (unbounded floats: infinite bounds;
    unbounded integers: the dtype's range). dtypes stay.

    Raises:
      ValueError: for a spec that no space describes (strings, objects).
    """
    if isinstance(spec, Mapping):
        return gymnasium.spaces.Dict({key: space_from_spec(value) for key, value in spec.items()})
    if isinstance(spec, (tuple, list)):
        return gymnasium.spaces.Tuple([space_from_spec(value) for value in spec])
    if isinstance(spec, specs.DiscreteArray):
        return gymnasium.spaces.Discrete(int(spec.num_values), dtype=spec.dtype.type)
    if isinstance(spec, specs.Array) and spec.dtype == np.bool_:
        if not spec.shape:
            return gymnasium.spaces.Discrete(2)
        return gymnasium.spaces.MultiBinary(spec.shape)
    if isinstance(spec, specs.Array) and np.issubdtype(spec.dtype, np.number):
        low, high = _full_range(spec.dtype)
        if isinstance(spec, specs.BoundedArray):
            low, high = spec.minimum, spec.maximum
        shape = tuple(spec.shape)
        low = np.broadcast_to(np.asarray(low, spec.dtype), shape).copy()
        high = np.broadcast_to(np.asarray(high, spec.dtype), shape).copy()
        return gymnasium.spaces.Box(low, high, shape, spec.dtype.type)
    raise ValueError(f"No gymnasium space describes the spec {spec!r}.")


def spec_from_space(space: gymnasium.Space, name: str | None = None) -> Any:
    """The dm_env spec of a gymnasium space, or a nest of them for Dict (a dict) and Tuple (a tuple).

    Discrete from 0 becomes DiscreteArray, from elsewhere a scalar BoundedArray; MultiDiscrete and
    MultiBinary become BoundedArrays; Box becomes BoundedArray, or Array where every bound is infinite;
    spaces of strings become StringArray.

    Raises:
      ValueError: for a space that no spec describes (graphs, sequences, one-of).
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        return {key: spec_from_space(value, key) for key, value in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(spec_from_space(value, f"{name or 'item'}_{i}") for i, value in enumerate(space))
    if isinstance(space, spaces.Discrete):
        if space.start == 0:
            # dm_env's argument has no type and the default's is taken for it.
            return specs.DiscreteArray(int(space.n), space.dtype, name)  # pyright: ignore[reportArgumentType]
        return specs.BoundedArray((), space.dtype, space.start, space.start + space.n - 1, name)
    if isinstance(space, spaces.MultiDiscrete):
        return specs.BoundedArray(space.shape, space.dtype, space.start, space.start + space.nvec - 1, name)
    if isinstance(space, spaces.MultiBinary):
        return specs.BoundedArray(space.shape, space.dtype, 0, 1, name)
    if isinstance(space, spaces.Box):
        if np.all(np.isneginf(space.low)) and np.all(np.isposinf(space.high)):
            return specs.Array(space.shape, space.dtype, name)
        return specs.BoundedArray(space.shape, space.dtype, space.low, space.high, name)
    if isinstance(space, spaces.Text) or space.dtype == np.dtype(str):
        return specs.StringArray((), name=name)
    raise ValueError(f"No dm_env spec describes the space {space!r}.")


def as_sample(value: Any, spec: Any) -> Any:
    """`value`'s arrays in the nest and dtypes of `spec`, as gymnasium's spaces expect them.

    Scalars of DiscreteArray specs become NumPy integers; sequences become tuples.
    """
    if isinstance(spec, Mapping):
        return {key: as_sample(value[key], inner) for key, inner in spec.items()}
    if isinstance(spec, (tuple, list)):
        return tuple(as_sample(part, inner) for part, inner in zip(value, spec, strict=True))
    if isinstance(spec, specs.DiscreteArray):
        return spec.dtype.type(value)
    return np.array(value, sample_dtype(spec))


def sample_dtype(spec: specs.Array) -> Any:
    """The dtype in which gymnasium's space has values of an array's spec: its own, but for a bool scalar."""
    flag = spec.dtype == np.bool_ and not spec.shape
    return np.int64 if flag else spec.dtype


def _full_range(dtype: np.dtype) -> tuple[Any, Any]:
    if np.issubdtype(dtype, np.floating):
        return -np.inf, np.inf
    info = np.iinfo(dtype)
    return info.min, info.max
