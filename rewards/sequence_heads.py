"""Heads over the frames of a stream: pooled over the last K, or the difference that the last step made."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ._head import check_number
from .contract import Head, RewardError


@dataclasses.dataclass(frozen=True)
class PooledHead:
    """A head on the last K frames of the episode, pooled to one unit vector.

    Where an episode has had fewer frames, those are pooled. With "max" each coordinate is the highest of the
    frames'. Temporal pooling of frame embeddings is as in MineCLIP (Fan et al. 2022, arXiv 2206.08853).

    Attributes:
      head: a head over one frame.
      frames: K, at least 1.
      pool: "mean" or "max".
    """

    head: Head
    frames: int = 4
    pool: Literal["mean", "max"] = "mean"

    def __post_init__(self):
        if isinstance(self.frames, bool) or not isinstance(self.frames, int) or self.frames < 1:
            raise RewardError(f"frames is a whole number of at least 1, got {self.frames!r}")
        if self.pool not in ("mean", "max"):
            raise RewardError(f"pool is 'mean' or 'max', got {self.pool!r}")

    @property
    def range(self) -> tuple[float, float]:
        """That of the head."""
        return 0.0, 1.0

    def parameters(self, goals: Sequence[str], encode: Callable[[Sequence[str]], Any]) -> Any:
        """See `SequenceHead`."""
        return self.head.parameters(goals, encode)

    def __call__(self, parameters: Any, frames: jax.Array, goal: jax.Array, first: jax.Array) -> jax.Array:
        """See `SequenceHead`."""
        return self.head(parameters, self._pooled(frames, first), goal)

    def _pooled(self, frames: jax.Array, first: jax.Array) -> jax.Array:
        rows = jnp.arange(frames.shape[0])
        begins = jax.lax.cummax(jnp.where(first, rows, 0))
        empty = 0.0 if self.pool == "mean" else -jnp.inf
        pooled = jnp.full_like(frames, empty)
        for back in range(min(self.frames, frames.shape[0])):
            earlier = jnp.where((rows - back >= begins)[:, None], jnp.roll(frames, back, axis=0), empty)
            pooled = pooled + earlier if self.pool == "mean" else jnp.maximum(pooled, earlier)
        # The sum has the direction of the mean.
        return pooled / jnp.maximum(jnp.linalg.norm(pooled, axis=-1, keepdims=True), 1e-6)


@dataclasses.dataclass(frozen=True)
class PotentialDifference:
    """`gamma * head(frame) - head(frame before)`: what the last step has won or lost; 0 where an episode begins.

    Added to a reward it does not change which policy is best if the potential is 0 after a termination (Ng et al.
    1999, "Policy invariance under reward transformations", theorem 1), which is not made so here: alone, as a
    reward, it would cancel all that was won.

    Attributes:
      head: a head over one frame, without a threshold unless steps of whole points are wanted.
      gamma: the agent's discount, above 0 and at most 1.
    """

    head: Head
    gamma: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "gamma", check_number("gamma", self.gamma, 0, 1, above=True))

    @property
    def range(self) -> tuple[float, float]:
        """-1 where all was lost, gamma where all was won."""
        return -1.0, self.gamma

    def parameters(self, goals: Sequence[str], encode: Callable[[Sequence[str]], Any]) -> Any:
        """See `SequenceHead`."""
        return self.head.parameters(goals, encode)

    def __call__(self, parameters: Any, frames: jax.Array, goal: jax.Array, first: jax.Array) -> jax.Array:
        """See `SequenceHead`."""
        potential = self.head(parameters, frames, goal)
        difference = self.gamma * potential - jnp.roll(potential, 1)
        begins = first | (jnp.arange(frames.shape[0]) == 0)
        return jax.lax.select(begins, jnp.zeros_like(difference), difference)
