"""Trajectories as items of a replay table: flat dictionaries of arrays with names such as `observation/symbols`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dm_env import TimeStep, specs

from ._types import EXPLORE, Agent, Trajectory


# Written beside the trajectory: the version of the variables that acted at its last row.
POLICY_VERSION = "policy_version"

Signature = dict[str, tuple[tuple[int, ...], str]]


def trajectory_spec(agent: Agent, observation_spec: Any, unroll: int) -> Trajectory:
    """The shapes and dtypes of one stream's trajectory, as a `Trajectory` of `jax.ShapeDtypeStruct`.

    Args:
      agent: says by `act` what extras it returns, and by `initial_memory` what it remembers.
      observation_spec: of the environment, an array's or a nest of them.
      unroll: T, the rows.

    Returns:
      `[T, …]` leaves; `memory` is the one before the first row and has no time axis.
    """
    if unroll < 1:
        raise ValueError(f"A trajectory has at least one row, got unroll={unroll}.")
    observation = jax.tree.map(
        lambda spec: jax.ShapeDtypeStruct(spec.shape, spec.dtype),
        observation_spec,
        is_leaf=lambda node: isinstance(node, specs.Array),
    )
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    kind: Any = jax.ShapeDtypeStruct((), jnp.int32)
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(lambda k: agent.init(k).params, key)
    memory = jax.eval_shape(agent.initial_memory)
    timestep = TimeStep(kind, scalar, scalar, observation)
    action, extras, _ = jax.eval_shape(
        lambda *inputs: agent.act(*inputs, EXPLORE), params, memory, key, timestep
    )
    row = Trajectory(observation, action, scalar, scalar, kind, observation, extras)
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((unroll, *leaf.shape), leaf.dtype), row)
    return rows._replace(memory=memory)


def leaf_names(tree: Any) -> list[str]:
    """A name for every leaf, in the order of `jax.tree.leaves`: the path to it, joined by `/`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return ["/".join(_part(key) for key in path) for path, _ in paths]


def signature(spec: Trajectory) -> Signature:
    """name -> (shape, dtype) of the items of such trajectories, `POLICY_VERSION` among them."""
    named = zip(leaf_names(spec), jax.tree.leaves(spec))
    items = {name: (tuple(leaf.shape), np.dtype(leaf.dtype).name) for name, leaf in named}
    return {**items, POLICY_VERSION: ((), "int64")}


def to_item(trajectory: Trajectory, policy_version: int) -> dict[str, np.ndarray]:
    """One stream's trajectory as an item."""
    item = dict(zip(leaf_names(trajectory), map(np.asarray, jax.tree.leaves(trajectory))))
    return {**item, POLICY_VERSION: np.asarray(policy_version, np.int64)}


def from_items(spec: Trajectory, data: Mapping[str, np.ndarray]) -> tuple[Trajectory, np.ndarray]:
    """A batch of B items as a learner takes it.

    Args:
      spec: of one trajectory.
      data: name -> `[B, …]`.

    Returns:
      A time-major `Trajectory` `[T, B, …]` with `memory` `[B, …]`, and the policy versions `[B]`.

    Raises:
      ValueError: where a field is missing or has another shape.
    """
    leaves = []
    for name, leaf in zip(leaf_names(spec), jax.tree.leaves(spec)):
        if name not in data:
            raise ValueError(f"The items have no {name}; they have {', '.join(sorted(data))}.")
        array = data[name]
        if array.shape[1:] != leaf.shape:
            raise ValueError(f"{name} has shape {array.shape[1:]} in the items; expected {leaf.shape}.")
        leaves.append(array)
    batch = jax.tree.unflatten(jax.tree.structure(spec), leaves)
    memory = batch.memory
    rows = jax.tree.map(lambda x: np.swapaxes(x, 0, 1), batch._replace(memory=()))
    return rows._replace(memory=memory), np.asarray(data[POLICY_VERSION])


def _part(key: Any) -> str:
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
