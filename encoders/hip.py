"""Zorro on a Hierarchical Perceiver (Carreira et al. 2022, arXiv 2202.10890).

A block cross-attends from learned latents to what came before, then its latents attend to each other, all inside
groups: many small ones at both ends, one in the middle, with U-Net connections between blocks of equal shape. Tokens
are put into groups by modality, but on the way to the middle groups are merged. So every latent has a type, which
`_hip_plan.py` works out, and attention stays in cells of one group and one type; latents of fusion read all latents of
all groups and types, and are read by no others. A connection joins latents of one type. Purity then holds in every
block, however groups are merged and cut.

Unmasked, cells are groups, as in the paper.
"""

import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from ._hip_plan import Cells, Level, assign_groups, cells, input_level, latent_levels
from .attention import attention
from .layers import FeedForward, Norm
from .masks import FUSION
from .streams import Streams


@dataclasses.dataclass(frozen=True)
class HiPTrunk:
    """A Hierarchical Perceiver's sizes, a number for each block; `HIP_VARIANTS` has the published ones.

    Attributes:
      groups: the blocks' groups; the middle block has 1, and the row reads the same from both ends.
      self_attentions: layers of self-attention of each block.
      latents: of each group; the row reads the same from both ends.
      channels: features of a latent.
      heads: of the self-attentions; the cross-attention has one.
      token_width: features of a token that goes in.
      fusion_groups: groups of the first block that are the fusion tokens'.
      widening: hidden features of the self-attentions' feed-forward networks, as a multiple of the channels.
    """

    groups: tuple[int, ...]
    self_attentions: tuple[int, ...]
    latents: tuple[int, ...]
    channels: tuple[int, ...]
    heads: tuple[int, ...]
    token_width: int
    fusion_groups: int
    widening: int = 4

    def __post_init__(self):
        rows = (self.groups, self.self_attentions, self.latents, self.channels, self.heads)
        middle = len(self.groups) // 2
        if len({len(row) for row in rows}) != 1 or len(self.groups) % 2 == 0:
            raise ValueError(
                f"groups, self_attentions, latents, channels and heads need an odd number of blocks, got {rows}."
            )
        if self.groups[middle] != 1 or self.groups != self.groups[::-1] or self.latents != self.latents[::-1]:
            raise ValueError(
                f"groups={self.groups} and latents={self.latents} must read the same from both ends, with 1 group in "
                "the middle: the connections join blocks of equal shape."
            )
        totals = [g * n for g, n in zip(self.groups, self.latents, strict=True)]
        if any(total % g for total, g in zip(totals, self.groups[1:], strict=False)):
            raise ValueError(
                f"Each block's latents {totals} must fall into the next one's groups {self.groups}."
            )
        if any(c % h for c, h in zip(self.channels, self.heads, strict=True)):
            raise ValueError(f"heads={self.heads} must divide channels={self.channels}.")
        if not 0 < self.fusion_groups < self.groups[0]:
            raise ValueError(
                f"fusion_groups={self.fusion_groups} must be some but not all of {self.groups[0]} groups."
            )

    @property
    def width(self) -> int:
        """Features of a latent that comes out."""
        return self.channels[-1]

    def plan(self, grids: dict[int, tuple[int, ...]]) -> tuple[Level, list[Level]]:
        """Where the tokens of these grids and the latents of every block stand, and their types.

        Raises:
          ValueError: where there are too few groups for the modalities, so that a block would have no latents of one.
        """
        counts = {t: math.prod(grid) for t, grid in grids.items()}
        totals = [g * n for g, n in zip(self.groups, self.latents, strict=True)]
        # Of so many groups in a row the block with the fewest latents has one latent at least.
        minimum = math.ceil(self.groups[0] / min(totals))
        if self.fusion_groups < minimum:
            raise ValueError(
                f"fusion_groups={self.fusion_groups} must be at least {minimum} with {min(totals)} latents."
            )
        modalities = {t: count for t, count in counts.items() if t != FUSION}
        shares = {FUSION: self.fusion_groups}
        shares |= assign_groups(self.groups[0] - self.fusion_groups, modalities, minimum)
        return input_level(counts, shares), latent_levels(self.groups, self.latents, shares)

    def __call__(self, streams: Streams) -> tuple[jax.Array, np.ndarray]:
        """The last block's latents `[B, L, width]` and their types, int32 `[L]`."""
        inputs, levels = self.plan(streams.grids)
        there = set(streams.tokens)
        before, levels = inputs.only(there), [level.only(there) for level in levels]
        x = jnp.concatenate(list(streams.tokens.values()), axis=1)
        made = []
        for i, level in enumerate(levels):
            skip = made[len(levels) - 1 - i] if i > len(levels) // 2 else None
            block = _Block(self, i)
            x = block(x, before, level, streams, skip)
            made.append(x)
            before = level
        return Norm("layer", name="trunk_norm")(x), levels[-1].types


HIP_VARIANTS = {
    "16": HiPTrunk(
        groups=(16, 4, 1, 1, 1, 4, 16),
        self_attentions=(2, 2, 18, 2, 1, 1, 1),
        latents=(128, 256, 256, 64, 256, 256, 128),
        channels=(128, 256, 512, 1024, 512, 256, 128),
        heads=(4, 8, 16, 32, 16, 8, 4),
        token_width=32,
        fusion_groups=4,
    ),
    "256": HiPTrunk(
        groups=(256, 64, 16, 4, 1, 1, 1, 4, 16, 64, 256),
        self_attentions=(1, 1, 2, 2, 18, 2, 1, 1, 1, 1, 1),
        latents=(32, 64, 128, 256, 256, 64, 256, 256, 128, 64, 32),
        channels=(64, 96, 128, 256, 512, 1024, 256, 128, 64, 32, 16),
        heads=(1, 2, 4, 8, 16, 32, 16, 8, 4, 2, 1),
        token_width=16,
        fusion_groups=64,
    ),
    "Mini": HiPTrunk(
        groups=(16, 1, 16),
        self_attentions=(2, 1, 1),
        latents=(128, 64, 128),
        channels=(128, 1024, 128),
        heads=(4, 32, 4),
        token_width=32,
        fusion_groups=4,
    ),
}  # the published sizes; `fusion_groups` is ours, a quarter of the groups


class _Block(hk.Module):
    """Cross-attention to what came before, then self-attentions, all pre-norm with residuals."""

    def __init__(self, trunk: HiPTrunk, number: int):
        super().__init__(name=f"block_{number}")
        self._trunk, self._number = trunk, number

    def __call__(self, x, before: Level, level: Level, streams: Streams, skip: jax.Array | None) -> jax.Array:
        """`[B, S, C]` and the connection `[B, L, C']` to `[B, L, C'']`."""
        trunk, i = self._trunk, self._number
        channels, groups = trunk.channels[i], trunk.groups[i]
        table = hk.get_parameter(
            "latents", (level.length, channels), init=hk.initializers.VarianceScaling(1.0)
        )
        queries = jnp.broadcast_to(table[level.place], (len(x), len(level.place), channels)).astype(x.dtype)
        if skip is not None:
            queries += skip if skip.shape[-1] == channels else hk.Linear(channels, name="skip")(skip)

        inner = x.shape[-1]
        query = hk.Linear(inner, name="cross_query")(Norm("layer", name="cross_query_norm")(queries))
        both = hk.Linear(2 * inner, name="cross_key_value")(Norm("layer", name="cross_input_norm")(x))
        key, value = jnp.split(both[:, :, None], 2, axis=-1)
        inside, apart = cells(level, before, groups, streams.masked)
        mixed = _attend(query[:, :, None], key, value, inside, apart, streams.columns(before.types))
        z = queries + hk.Linear(channels, name="cross_out")(mixed)
        y = Norm("layer", name="cross_feed_forward_norm")(z)
        z += FeedForward(channels, channels, "squared_relu", name="cross_feed_forward")(y)

        inside, apart = cells(level, level, groups, streams.masked)
        columns = streams.columns(level.types)
        for layer in range(trunk.self_attentions[i]):
            y = Norm("layer", name=f"attention_norm_{layer}")(z)
            qkv = hk.Linear(3 * channels, name=f"query_key_value_{layer}")(y)
            qkv = qkv.reshape(*z.shape[:-1], 3, trunk.heads[i], -1)
            query, key, value = jnp.moveaxis(qkv, 2, 0)
            mixed = _attend(query, key, value, inside, apart, columns)
            z += hk.Linear(channels, name=f"attention_out_{layer}")(mixed)
            y = Norm("layer", name=f"feed_forward_norm_{layer}")(z)
            hidden = trunk.widening * channels
            z += FeedForward(hidden, channels, "squared_relu", name=f"feed_forward_{layer}")(y)
        return z


def _attend(query, key, value, inside: Cells, apart: np.ndarray, columns: jax.Array | None) -> jax.Array:
    """Attention in cells, and of the queries `apart` to all keys.

    Args:
      query: `[B, L, H, D]`.
      key: `[B, S, H, D]`.
      value: `[B, S, H, D]`.
      inside: the cells.
      apart: int `[F]`.
      columns: bool `[B, S]`, which keys an example has, or None for all.

    Returns:
      `[B, L, H D]`; zeros where a query may read nothing.
    """
    mask = None if inside.key_is.all() else jnp.asarray(inside.key_is)[:, None, :]
    if columns is not None:
        exists = columns[:, inside.key] & inside.key_is
        mask = exists[:, :, None, :]
    out = attention(_take(query, inside.query), _take(key, inside.key), _take(value, inside.key), mask=mask)
    out = _take(out.reshape(len(out), -1, *out.shape[3:]), inside.place)
    if len(apart):
        wide = attention(query[:, apart], key, value, mask=None if columns is None else columns[:, None, :])
        out = out.at[:, apart].set(wide)
    return out.reshape(*out.shape[:2], -1)


def _take(x: jax.Array, index: np.ndarray) -> jax.Array:
    """`x[:, index]`, and a reshape where that is all it is."""
    if np.array_equal(index.ravel(), np.arange(x.shape[1])):
        return x.reshape(len(x), *index.shape, *x.shape[2:])
    return x[:, index]
