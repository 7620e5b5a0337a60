"""Batches of examples that lie in memory, as pure functions of the update's number."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def shuffled(
    examples: Mapping[str, Any], batch: int, seed: int = 0
) -> Callable[[int], dict[str, np.ndarray]]:
    """`batches(i)` for `train`: each pass over the examples is a permutation of its own.

    Args:
      examples: arrays `[N, ...]` by name, of one N.
      batch: examples of a batch, at most N; what is left of a pass below that is not seen in it.
      seed: of the permutations.
    """
    arrays = {name: np.asarray(array) for name, array in examples.items()}
    sizes = {name: array.shape[:1] for name, array in arrays.items()}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise ValueError(f"The examples are arrays [N, ...] of one N; their first axes are {sizes}.")
    (count,) = next(iter(sizes.values()))
    if not 1 <= batch <= count:
        raise ValueError(f"A batch of {batch} cannot be drawn from {count} example(s).")
    calls = count // batch

    @functools.lru_cache(maxsize=2)
    def order(passed: int) -> np.ndarray:
        return np.random.default_rng([seed, passed]).permutation(count)

    def batches(index: int) -> dict[str, np.ndarray]:
        first = index % calls * batch
        chosen = order(index // calls)[first : first + batch]
        return {name: array[chosen] for name, array in arrays.items()}

    return batches
