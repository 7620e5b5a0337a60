"""What goes into a trunk: tokens by their types, and who may read whom."""

from typing import NamedTuple

import jax
import numpy as np

from .masks import allow, present_columns, with_columns


class Streams(NamedTuple):
    """What a trunk gets.

    Attributes:
      tokens: by type, `[B, N, token_width]`: fusion tokens, and those of the modalities that are there.
      grids: by type, how the tokens lie, of every type that the configuration has.
      present: bool `[B, M]`, which modalities each example has, or None where it has all that are in `tokens`.
      masked: whether the rule of `masks.allow` holds.
    """

    tokens: dict[int, jax.Array]
    grids: dict[int, tuple[int, ...]]
    present: jax.Array | None
    masked: bool

    @property
    def types(self) -> np.ndarray:
        """int32 `[L]`: of all tokens in the order of `tokens`."""
        return np.concatenate([np.full(x.shape[1], t, np.int32) for t, x in self.tokens.items()])

    def columns(self, types: np.ndarray) -> jax.Array | None:
        """bool `[B, S]`: which keys of these types each example has; None where it has all."""
        return None if self.present is None else present_columns(self.present, types)

    def mask(self, query_types: np.ndarray, key_types: np.ndarray) -> jax.Array | None:
        """bool `[Q, S]` or `[B, Q, S]`, or None where everything is allowed."""
        allowed = allow(query_types, key_types) if self.masked else None
        return with_columns(allowed, self.columns(key_types))
