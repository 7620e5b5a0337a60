"""Zorro as a torso: all that an agent senses in one masked Transformer, any part of which may be missing."""

from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ..encoders.log_mel import LogMel
from ..encoders.objectives import nt_xent, pairwise
from ..encoders.patches import Modality, Picture, Spectrogram, Symbols, Tokens
from ..encoders.vit import ViTTrunk
from ..encoders.zorro import Zorro, ZorroConfig
from ..envs import SAMPLE_RATE
from ._present_flags import present_flags
from ._symbol_sizes import channel_sizes
from .auxiliary import with_auxiliary
from .networks import encoder


SENSES = ("image", "symbols", "audio", "text")

# Sides of patches, those first that make whole cells of MiniGrid's pictures and of Screens', of 8 and of 24 pixels.
_PATCHES, _OTHER_PATCHES = (4, 8, 12, 16), (14, 7, 6, 5)
_MOST_PATCHES = 64
# A step's sound in so many frames, a token each.
_FRAMES, _MELS = 8, 32


def zorro(
    observation_spec: Any,
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    feed_forward: int = 128,
    fusion_tokens: int = 4,
    masked: bool = True,
    contrast: float = 0.0,
    temperature: float = 0.1,
    hidden: tuple[int, ...] = (128,),
) -> Callable[[Any], jax.Array]:
    """Zorro (Recasens et al. 2023, arXiv 2301.09595) over the senses that the observation has.

    | sense | its tokens |
    |---|---|
    | `image` | patches of uint8 or float `[H, W, C]`: of the least of 4, 8, 12 and 16 pixels that makes 64 at most |
    | `symbols` | the rows of integers `[H, W, C]` |
    | `audio` | 8 frames of 32 mels of a waveform `[N]` at 8 kHz |
    | `text` | words `[L]` |

    Features are the fusion readout, with all other keys (as the `mlp` torso reads them) laid beside it, and ReLU layers
    on these. A sense with a flag `<key>_present` that is False is masked. As no sense's tokens read another's, what
    is made of the others is then the same as if there had never been such a sense.

    Args:
      observation_spec: a dictionary with one or more of the senses.
      width: of tokens.
      layers: blocks.
      heads: of every attention.
      feed_forward: hidden features of each block.
      fusion_tokens: learned tokens that read all others.
      masked: False for the ordinary Transformer, in which all tokens read each other.
      contrast: weight of the auxiliary loss, in units of the agent's: the pure readouts of each two senses of a row
        are to find each other among those of all rows (InfoNCE), over the rows that have both.
      temperature: that the cosines of these are divided by.
      hidden: widths of the last layers.

    Returns:
      A function from observations `[..., *shape]` to features `[..., hidden[-1]]`, called inside `hk.transform`.

    Raises:
      ValueError: no sense is there, `labels` or `graph` is, a spec cannot be read, or a setting is out of range.
    """
    spec = dict(observation_spec) if isinstance(observation_spec, Mapping) else {"image": observation_spec}
    bare = not isinstance(observation_spec, Mapping)
    names = [name for name in SENSES if name in spec]
    if not names or {"labels", "graph"} & set(spec):
        raise ValueError(
            f"The zorro torso reads one or more of {', '.join(SENSES)}, and vectors beside them, but no labels and no "
            f"graph; got {', '.join(sorted(spec))}. Choose the keys that the agent reads (--reads)."
        )
    if contrast < 0 or temperature <= 0:
        raise ValueError(
            f"contrast is at least 0 and temperature above it, got {contrast} and {temperature}."
        )
    if contrast and len(names) < 2:
        raise ValueError(f"contrast is between senses and needs two, got {names[0]} alone: leave it at 0.")
    config = ZorroConfig(
        {name: _modality(name, spec[name]) for name in names},
        ViTTrunk(layers, width, heads, feed_forward),
        fusion_tokens,
        masked,
        readout_heads=heads,
    )
    flags = present_flags(spec, names)
    beside = {key: encoder(spec[key]) for key in sorted(set(spec) - set(names) - set(flags.values()))}

    def torso(observation: Any) -> jax.Array:
        given = {"image": observation} if bare else observation
        if set(given) != set(spec):
            raise ValueError(f"This torso was built for the keys {sorted(spec)}, got {sorted(given)}.")
        rank = len(spec[names[0]].shape)
        leading = jnp.shape(given[names[0]])[: jnp.ndim(given[names[0]]) - rank]
        inputs = {name: _input(name, given[name], spec[name]) for name in names}
        present = {name: jnp.asarray(given[flag], bool).reshape(-1) for name, flag in flags.items()}
        readouts = Zorro(config)(inputs, present)
        fusion = readouts["fusion"].reshape(*leading, -1)
        x = jnp.concatenate([fusion, *(read(given[key]) for key, read in beside.items())], axis=-1)
        for i, size in enumerate(hidden):
            layer = hk.Linear(size, w_init=hk.initializers.Orthogonal(2**0.5), name=f"joint_{i}")
            x = jax.nn.relu(layer(x))
        if not contrast:
            return x
        return with_auxiliary(
            x, _contrast({name: readouts[name] for name in names}, present, temperature), contrast
        )

    return torso


def _contrast(
    readouts: Mapping[str, jax.Array], present: Mapping[str, jax.Array], temperature: float
) -> jax.Array:
    """The mean over pairs of senses; a readout `[B, D]` goes through a linear map of its sense first."""
    yes = jnp.ones(len(next(iter(readouts.values()))), bool)
    views = {
        name: (hk.Linear(x.shape[-1], name=f"{name}_contrast")(x), present.get(name, yes))
        for name, x in readouts.items()
    }
    return pairwise(lambda a, b: nt_xent(a[0], b[0], temperature, there=a[1] & b[1]), views)


def _modality(name: str, spec: Any) -> Modality:
    if not isinstance(spec, specs.Array):
        raise ValueError(f"The zorro torso reads arrays, got {spec!r} under {name!r}.")
    rank = {"image": 3, "symbols": 3, "audio": 1, "text": 1}[name]
    if len(spec.shape) != rank:
        raise ValueError(f"{name} must have {rank} axes, got {spec!r}.")
    if name == "image":
        height, width, channels = spec.shape
        fitting = [p for p in (*_PATCHES, *_OTHER_PATCHES) if height % p == width % p == 0]
        if not fitting:
            raise ValueError(f"A picture must be cut into patches of 4 to 16 pixels, got {spec!r}.")
        few = [p for p in fitting if (height // p) * (width // p) <= _MOST_PATCHES]
        return Picture(height, width, channels, few[0] if few else max(fitting))
    if name == "symbols":
        height, width, _ = spec.shape
        return Symbols(height, width, channel_sizes(spec), (1, width))
    if name == "audio":
        return Spectrogram(_FRAMES, _MELS, (1, _MELS))
    if not isinstance(spec, specs.BoundedArray):
        raise ValueError(f"text must be bounded integers, the maximum the last token, got {spec!r}.")
    return Tokens(spec.shape[0], int(np.max(spec.maximum)) + 1)


def _input(name: str, value: Any, spec: specs.Array) -> jax.Array:
    """Observations `[..., *shape]` to what the modality reads, `[B, …]`."""
    value = jnp.asarray(value).reshape(-1, *spec.shape)
    if name == "audio":
        # The fewest samples that are so many hops; frames overlap by half.
        hop = -(-spec.shape[0] // _FRAMES)
        mel = LogMel(SAMPLE_RATE, frame=2 * hop, hop=hop, mels=_MELS, low=60.0, high=SAMPLE_RATE / 2)
        return mel(jnp.pad(value, [(0, 0), (0, _FRAMES * hop - spec.shape[0])])) / 10.0
    return value if name == "image" else value.astype(jnp.int32)
