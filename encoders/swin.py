"""Zorro on a Swin Transformer: each modality in shifted windows of its own grid, fusion tokens over all of them.

Windows never reach out of their modality, so only the fusion tokens need the mask: in every block they attend to
themselves and to all streams. One set of weights serves all streams, as in the plain trunk, except that each modality
has a table of relative position biases of its own. A grid has three axes (time, height, width): those of a picture or
spectrogram are the last two, of a text the last one, and the window is cut to the grid, so a spectrogram's windows are
two-dimensional. Between stages the streams' patches are merged two by two along the last two axes, which doubles their
width; the fusion tokens keep their number and go through a norm and a linear map to the same width.

Unmasked, the windows of every stream read the fusion tokens too, with the same parameters.
"""

import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from ._windows import fit, relative_index, window_attention
from .attention import attention
from .layers import FeedForward, Norm
from .masks import FUSION
from .streams import Streams


Grid = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class SwinTrunk:
    """Swin's sizes; the defaults are those of Swin-T and of its video form (Liu et al. 2021, 2022).

    Attributes:
      token_width: features of a token that goes in, and of the first stage; each later stage has twice as many.
      depths: blocks of each stage; every second block's windows are shifted.
      num_heads: of each stage.
      window: (time, height, width) in tokens.
      widening: hidden features of the feed-forward networks, as a multiple of a stage's width.
    """

    token_width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window: tuple[int, int, int] = (8, 7, 7)
    widening: int = 4

    def __post_init__(self):
        if len(self.depths) != len(self.num_heads) or not self.depths:
            raise ValueError(
                f"depths={self.depths} and num_heads={self.num_heads} must have a number for each stage."
            )
        if len(self.window) != 3 or min(*self.window, *self.depths) < 1:
            raise ValueError(
                f"window={self.window} must be (time, height, width); it and depths must be positive."
            )
        widths = [self.token_width * 2**i for i in range(len(self.depths))]
        if any(width % heads for width, heads in zip(widths, self.num_heads, strict=True)):
            raise ValueError(f"num_heads={self.num_heads} must divide the stages' widths {widths}.")

    @property
    def width(self) -> int:
        """Features of a token that comes out."""
        return self.token_width * 2 ** (len(self.depths) - 1)

    def __call__(self, streams: Streams) -> tuple[jax.Array, np.ndarray]:
        """Tokens of the last stage `[B, L, width]` and their types, int32 `[L]`."""
        tokens = streams.tokens
        grids: dict[int, Grid] = {t: _three_axes(streams.grids[t]) for t in tokens if t != FUSION}
        for stage, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
            if stage:
                tokens, grids = _Merge(name=f"merge_{stage}")(tokens, grids)
            for i in range(depth):
                block = SwinBlock(
                    heads, self.window, bool(i % 2), self.widening, name=f"stage_{stage}_block_{i}"
                )
                tokens = block(streams._replace(tokens=tokens), grids)
        x = jnp.concatenate(list(tokens.values()), axis=1)
        return Norm("layer", name="trunk_norm")(x), streams._replace(tokens=tokens).types


class SwinBlock(hk.Module):
    """Attention in windows and of the fusion tokens, then a feed-forward network; both pre-norm residual branches."""

    def __init__(self, heads: int, window: Grid, shifted: bool, widening: int, name: str):
        super().__init__(name=name)
        self._heads, self._window, self._shifted, self._widening = heads, window, shifted, widening

    def __call__(self, streams: Streams, grids: dict[int, Grid]) -> dict[int, jax.Array]:
        """Tokens by type, `[B, N, C]`, to the same; without fusion tokens it is Swin's block."""
        sizes = [x.shape[1] for x in streams.tokens.values()]
        x = jnp.concatenate(list(streams.tokens.values()), axis=1)
        width = x.shape[-1]
        y = Norm("layer", name="attention_norm")(x)
        y = self._attend(y, sizes, streams, grids)
        x = x + hk.Linear(width, name="attention_out")(y)
        y = Norm("layer", name="feed_forward_norm")(x)
        x = x + FeedForward(self._widening * width, width, "exact_gelu", name="feed_forward")(y)
        parts = jnp.split(x, np.cumsum(sizes)[:-1], axis=1)
        return dict(zip(streams.tokens, parts, strict=True))

    @hk.transparent
    def _attend(self, y, sizes, streams: Streams, grids):
        width = y.shape[-1]
        project = hk.Linear(3 * width, name="query_key_value")

        def heads(z):
            return z.reshape(*z.shape[:-1], 3, self._heads, width // self._heads)

        qkv = heads(project(y))
        padding = heads(project(jnp.zeros(width, y.dtype)))
        parts = dict(zip(streams.tokens, jnp.split(qkv, np.cumsum(sizes)[:-1], axis=1), strict=True))
        fusion, more = parts.get(FUSION), None
        if fusion is not None and not streams.masked:
            more = fusion[:, :, 1], fusion[:, :, 2]
        out = []
        for number, part in parts.items():
            if number == FUSION:
                types = streams.types
                mask = streams.mask(np.full(part.shape[1], FUSION), types)
                mixed = attention(part[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], mask=mask)
            else:
                grid = grids[number]
                window, shift = fit(grid, self._window, self._shifted)
                table = hk.get_parameter(
                    f"relative_bias_{number}",
                    (math.prod(2 * w - 1 for w in window), self._heads),
                    init=hk.initializers.TruncatedNormal(0.02),
                )
                bias = jnp.moveaxis(table[relative_index(window)], -1, 0)
                part = part.reshape(len(part), *grid, *part.shape[2:])
                mixed = window_attention(part, padding, bias, window, shift, more)
            out.append(mixed.reshape(len(mixed), -1, width))
        return jnp.concatenate(out, axis=1)


class _Merge(hk.Module):
    """Swin's patch merging: 2 x 2 neighbours laid end to end, a norm, a linear map to twice the width."""

    def __call__(self, tokens: dict[int, jax.Array], grids: dict[int, Grid]):
        width = next(iter(tokens.values())).shape[-1]
        norm = Norm("layer", name="norm")
        reduce = hk.Linear(2 * width, with_bias=False, name="reduction")
        merged, smaller = {}, {}
        for number, x in tokens.items():
            if number == FUSION:
                x = Norm("layer", name="fusion_norm")(x)
                merged[number] = hk.Linear(2 * width, with_bias=False, name="fusion_widening")(x)
                continue
            time, height, across = grids[number]
            x = x.reshape(len(x), time, height, across, width)
            x = jnp.pad(x, [(0, 0), (0, 0), (0, height % 2), (0, across % 2), (0, 0)])
            x = jnp.concatenate([x[:, :, i::2, j::2] for j in range(2) for i in range(2)], axis=-1)
            smaller[number] = x.shape[1:4]
            merged[number] = reduce(norm(x.reshape(len(x), -1, 4 * width)))
        return merged, smaller


def _three_axes(grid: tuple[int, ...]) -> Grid:
    time, height, width = (1, 1, 1, *grid)[-3:]
    return time, height, width
