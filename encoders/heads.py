"""Heads on encoders: projectors, predictors and probes are one multilayer perceptron."""

from collections.abc import Sequence
from typing import Literal

import haiku as hk
import jax

from .layers import Norm


class Mlp(hk.Module):
    """Linear maps with a ReLU between: HARES's projector is `(4096, 4096, 4096, D)`, MMSSL's `(512, 128)`.

    Args:
      sizes: features of each layer, the last being the output's.
      norm: what stands before each ReLU; the means of batch norms are Haiku state.
      final_norm: whether it stands after the last layer too, as after BraVe's projector `(4096, 128)`.
      name: of the module.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        norm: Literal["batch", "layer"] | None = None,
        final_norm: bool = False,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes are the features of one layer or more, each at least 1, not {sizes}.")
        if norm not in ("batch", "layer", None) or (final_norm and norm is None):
            raise ValueError(
                f"norm={norm!r} with final_norm={final_norm}: norm is 'batch', 'layer' or None, and None has no last "
                "norm."
            )
        self._sizes, self._norm, self._final_norm = tuple(sizes), norm, final_norm

    def __call__(self, x: jax.Array, is_training: bool) -> jax.Array:
        """`[B, ...]` to `[B, ..., sizes[-1]]`; `is_training` says whether batch norms use the batch or their means."""
        last = len(self._sizes) - 1
        for i, size in enumerate(self._sizes):
            x = hk.Linear(size, name=f"linear_{i}")(x)
            if self._norm == "batch" and (i < last or self._final_norm):
                # BraVe's settings. A batch that `jit` shares out over devices is one batch: no axis to name.
                x = hk.BatchNorm(True, True, 0.9, 1e-5, name=f"norm_{i}")(x, is_training)
            elif self._norm == "layer" and (i < last or self._final_norm):
                x = Norm("layer", name=f"norm_{i}")(x)
            x = jax.nn.relu(x) if i < last else x
        return x
