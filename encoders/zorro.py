"""Zorro: one Transformer for several senses, none of which hears of another but through fusion (arXiv 2301.09595).

Tokens of every modality and some learned fusion tokens go through one trunk under the mask of `masks.py`; learned
queries then read out one vector for each modality, one of the fusion tokens and one of all. A modality's vector
depends on that modality alone. So a contrastive loss between two of them cannot be cheated, and where a sensor is
missing the others' vectors are what they would have been.
"""

import dataclasses
from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from .attention import attention
from .hip import HiPTrunk
from .masks import FUSION, GLOBAL, readout_allow, with_columns
from .patches import Modality
from .streams import Streams
from .swin import SwinTrunk
from .vit import ViTTrunk


@dataclasses.dataclass(frozen=True)
class ZorroConfig:
    """A Zorro.

    Attributes:
      modalities: by name, in the order of their types 1, 2, …; `fusion` and `global` are taken.
      trunk: which network and its size.
      fusion_tokens: learned tokens that read all others.
      masked: False for the ordinary network, in which all tokens read each other.
      readout_width: features of a readout; None for the trunk's width.
      readout_heads: heads of the attention that reads out; divides readout_width.
    """

    modalities: Mapping[str, Modality]
    trunk: ViTTrunk | SwinTrunk | HiPTrunk
    fusion_tokens: int = 8
    masked: bool = True
    readout_width: int | None = None
    readout_heads: int = 8

    def __post_init__(self):
        taken = {"fusion", "global"} & set(self.modalities)
        if taken or not self.modalities:
            raise ValueError(
                f"modalities must have names other than 'fusion' and 'global', got {[*self.modalities]}."
            )
        if self.fusion_tokens < 1:
            raise ValueError(f"fusion_tokens must be at least 1, got {self.fusion_tokens}.")
        if self.width % self.readout_heads:
            raise ValueError(
                f"readout_heads={self.readout_heads} must divide the readouts' width of {self.width}."
            )

    @property
    def width(self) -> int:
        """Features of a readout."""
        return self.readout_width or self.trunk.width

    @property
    def types(self) -> dict[str, int]:
        """The type of each modality's tokens."""
        return {name: i for i, name in enumerate(self.modalities, start=FUSION + 1)}


class Zorro(hk.Module):
    """The network. Initialise it with inputs that have every modality; afterwards any may be missing.

    Two ways to be without a modality give the same readouts of the others: leave it out of `inputs`, for a whole
    batch, at no cost; or say for each example in `present`.
    """

    def __init__(self, config: ZorroConfig, name: str = "zorro"):
        super().__init__(name=name)
        self._config = config

    def __call__(
        self, inputs: Mapping[str, jax.Array], present: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """Reads out.

        Args:
          inputs: by modality, `[B, *shape]`, as each modality's configuration says.
          present: by modality, bool `[B]`; those without an entry are there. Where it is False the array is not read.

        Returns:
          float32 `[B, D]` for each modality of `inputs`, and for `fusion` and `global`. Where an example lacks the
          modality its readout is the same learned vector for all.

        Raises:
          ValueError: for names or shapes that the configuration does not have.
        """
        config, present = self._config, dict(present or {})
        _check(config, inputs, present)
        there = {name: config.types[name] for name in config.modalities if name in inputs}
        batch = len(next(iter(inputs.values())))
        shape = (config.fusion_tokens, config.trunk.token_width)
        fusion = hk.get_parameter("fusion", shape, init=hk.initializers.TruncatedNormal(0.02))
        tokens = {FUSION: jnp.broadcast_to(fusion, (batch, *shape))}
        for name, number in there.items():
            x = config.modalities[name](jnp.asarray(inputs[name]), shape[1], name).astype(fusion.dtype)
            # Selected, not only masked: a weight of zero does not undo a NaN.
            tokens[number] = jnp.where(present[name][:, None, None], x, 0) if name in present else x
        grids = {FUSION: (config.fusion_tokens,)} | {
            number: config.modalities[name].grid for name, number in config.types.items()
        }
        flags = None
        if present:
            yes = jnp.ones(batch, bool)
            flags = jnp.stack([jnp.asarray(present.get(name, yes)) for name in config.modalities], axis=1)
        streams = Streams(tokens, grids, flags, config.masked)
        out, types = config.trunk(streams)
        return self._read_out(out, types, streams.columns(types), there)

    @hk.transparent
    def _read_out(self, tokens, types, columns, there: dict[str, int]) -> dict[str, jax.Array]:
        """Masked cross-attention of learned queries to what the trunk made of the tokens."""
        width, heads = self._config.width, self._config.readout_heads
        queries = {**there, "fusion": FUSION, "global": GLOBAL}
        # Rows are types, the last row (GLOBAL) is of all, so that a missing modality does not move the others'.
        table = hk.get_parameter(
            "queries", (len(self._config.modalities) + 2, width), init=hk.initializers.TruncatedNormal(0.02)
        )
        numbers = np.asarray(list(queries.values()))
        query = jnp.broadcast_to(table[numbers], (len(tokens), len(numbers), width)).astype(tokens.dtype)
        both = hk.Linear(2 * width, name="readout_key_value")(tokens)
        key, value = jnp.split(both.reshape(*both.shape[:-1], heads, -1), 2, axis=-1)
        out = attention(
            query.reshape(*query.shape[:-1], heads, -1),
            key,
            value,
            mask=with_columns(readout_allow(numbers, types), columns),
        )
        out = hk.Linear(width, name="readout_out")(out.reshape(*out.shape[:-2], -1)).astype(jnp.float32)
        return {name: out[:, i] for i, name in enumerate(queries)}


class Classifier(hk.Module):
    """A linear head on each readout; their logits are averaged over those that an example has."""

    def __init__(self, classes: int, name: str = "classifier"):
        super().__init__(name=name)
        self._classes = classes

    def __call__(
        self, readouts: Mapping[str, jax.Array], present: Mapping[str, jax.Array] | None = None
    ) -> jax.Array:
        """Readouts `[B, D]` by name, and bool `[B]` by modality as `Zorro` takes it, to logits `[B, classes]`."""
        heads = [hk.Linear(self._classes, name=f"{name}_head")(x) for name, x in readouts.items()]
        yes = jnp.ones(len(heads[0]), bool)
        weights = jnp.stack([jnp.asarray((present or {}).get(name, yes)) for name in readouts])[..., None]
        # An example without any of them has logits of 0, and no NaN.
        return jnp.sum(jnp.stack(heads) * weights, axis=0) / jnp.maximum(jnp.sum(weights, axis=0), 1)


def _check(config: ZorroConfig, inputs: Mapping, present: Mapping) -> None:
    unknown = set(inputs) - set(config.modalities)
    if unknown or not inputs:
        raise ValueError(f"inputs must have some of the modalities {[*config.modalities]}, got {[*inputs]}.")
    if set(present) - set(inputs):
        raise ValueError(
            f"present has {sorted(set(present) - set(inputs))}, which are not in inputs {[*inputs]}."
        )
    batches = {name: x.shape[:1] for name, x in inputs.items()}
    if len(set(batches.values())) != 1:
        raise ValueError(f"inputs must have one batch size, got {batches}.")
    for name, flags in present.items():
        if flags.shape != batches[name] or flags.dtype != bool:
            raise ValueError(
                f"present[{name!r}] must be bool {batches[name]}, got {flags.dtype} {flags.shape}."
            )
