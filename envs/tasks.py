"""Tasks by id, and checks that a task belongs to its environment."""

import jax
import jax.numpy as jnp
import numpy as np

from ._types import Environment, Task


def check_task_ids(environment: Environment, ids) -> np.ndarray:
    """`ids` as an int32 array, of any shape.

    Raises:
      ValueError: where the environment's tasks have no ids, or an id is not one of them.
    """
    if environment.num_tasks is None:
        raise ValueError(f"The tasks of {environment.name} have no ids: draw them with sample_task(key).")
    array = np.asarray(ids)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"Task ids of {environment.name} are integers, got {array.dtype}.")
    outside = array[(array < 0) | (array >= environment.num_tasks)]
    if outside.size:
        raise ValueError(
            f"Task {outside.flat[0]} is outside {environment.name}, whose task ids are 0 to "
            f"{environment.num_tasks - 1}."
        )
    return array.astype(np.int32)


def task_at(environment: Environment, ids) -> Task:
    """The tasks with the given ids, stacked as `ids` is. Raises ValueError as `check_task_ids` does."""
    ids = check_task_ids(environment, ids)
    return jax.tree.map(lambda x: x[ids], environment.tasks())


def check_task(environment: Environment, task: Task) -> Task:
    """One unbatched task, as arrays of the dtypes that the environment's `task_spec` names.

    Raises:
      ValueError: where the task does not fit the spec: goal 81 in a room of 81 cells, a payout of 1.2.
    """

    def check(spec, value):
        try:
            array = np.asarray(value)
            if array.size and not np.can_cast(array.dtype, spec.dtype, "same_kind"):
                raise ValueError(f"expected {spec.dtype}, got {array.dtype}")
            if np.isnan(array).any():
                raise ValueError("it holds NaN")
            return jnp.asarray(spec.validate(array.astype(spec.dtype)))
        except ValueError as error:
            reason = str(error).splitlines()[0]
            message = f"Task {value!r} is outside {environment.name} ({spec.name}): {reason}"
            raise ValueError(message) from None

    return jax.tree.map(check, environment.task_spec(), task)
