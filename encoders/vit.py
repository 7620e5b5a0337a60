"""The plain trunk: all tokens in one Transformer under one mask."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from .layers import Activation
from .streams import Streams
from .transformer import Transformer, TransformerConfig


@dataclasses.dataclass(frozen=True)
class ViTTrunk:
    """Zorro on a Vision Transformer; the defaults are ViT-B's (Dosovitskiy et al. 2021, table 1).

    Attributes:
      num_layers: blocks.
      d_model: width of tokens and of what comes out.
      num_heads: of every attention.
      feed_forward: hidden features of the feed-forward networks.
      activation: theirs.
    """

    num_layers: int = 12
    d_model: int = 768
    num_heads: int = 12
    feed_forward: int = 3072
    activation: Activation = "gelu"

    def __post_init__(self):
        self.transformer  # noqa: B018  # its configuration checks itself

    @property
    def transformer(self) -> TransformerConfig:
        """The Transformer that this is."""
        return TransformerConfig(
            num_layers=self.num_layers,
            d_model=self.d_model,
            num_heads=self.num_heads,
            feed_forward=self.feed_forward,
            activation=self.activation,
            positions="none",
            causal=False,
        )

    @property
    def token_width(self) -> int:
        """Features of a token that goes in."""
        return self.d_model

    @property
    def width(self) -> int:
        """Features of a token that comes out."""
        return self.d_model

    def __call__(self, streams: Streams) -> tuple[jax.Array, np.ndarray]:
        """Tokens `[B, L, width]` and their types, int32 `[L]`."""
        types = streams.types
        tokens = jnp.concatenate(list(streams.tokens.values()), axis=1)
        return Transformer(self.transformer, "trunk")(tokens, mask=streams.mask(types, types)), types
