"""SimCLR of sound with a Transformer over log-mel patches: the ViT-B row of HARES's comparison of networks."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp

from .heads import Mlp
from .log_mel import HARES_16K
from .objectives import nt_xent
from .pretraining import Recipe
from .training import TrainConfig
from .transformer import Transformer, TransformerConfig
from .views import compose, fixed, window


@dataclasses.dataclass(frozen=True)
class SpectrogramTransformerConfig:
    """A Transformer over square patches of a spectrogram.

    Attributes:
      frames: of a spectrogram; what does not fill a patch at the end is not seen.
      mels: of a spectrogram, the same.
      patch: frames and mels of a patch.
      transformer: its learned positions are as many as the patches.
    """

    frames: int = 300
    mels: int = 80
    patch: int = 16
    transformer: TransformerConfig = TransformerConfig(
        12, 768, 12, feed_forward=3072, positions="learned", max_positions=90, causal=False
    )

    def __post_init__(self):
        tokens = (self.frames // self.patch) * (self.mels // self.patch)
        if self.transformer.max_positions != tokens:
            raise ValueError(
                f"{self.frames} frames and {self.mels} mels are {tokens} patches of {self.patch}, not "
                f"max_positions={self.transformer.max_positions}."
            )


class SpectrogramTransformer(hk.Module):
    """float `[B, frames, mels]` to features `[B, d_model]`, the mean over patches."""

    def __init__(self, config: SpectrogramTransformerConfig, name: str | None = None):
        super().__init__(name=name)
        self._config = config

    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        config = self._config
        width = config.transformer.d_model
        x = hk.Conv2D(width, config.patch, config.patch, padding="VALID", name="patches")(
            spectrogram[..., None]
        )
        x = Transformer(config.transformer, name="transformer")(x.reshape(len(x), -1, width))
        return jnp.mean(x, axis=1)


def init(key: jax.Array, config: SpectrogramTransformerConfig):
    """New parameters of the network alone."""
    network = hk.transform(lambda x: SpectrogramTransformer(config)(x))
    return network.init(key, jnp.zeros((1, config.frames, config.mels)))


def recipe(
    name: str,
    config: SpectrogramTransformerConfig,
    samples: int,
    projector: tuple[int, ...],
    training: TrainConfig,
    batch: int,
) -> Recipe:
    """Two random crops of one sound are to find each other among all other crops of the batch.

    Args:
      name: of the recipe.
      config: of the network, and by its frames the length of a crop.
      samples: of an example, 16 kHz.
      projector: hidden sizes and the output's.
      training: steps, optimiser and rates.
      batch: examples of an update.
    """
    crop = compose(window("waveform", config.frames * HARES_16K.hop), fixed(HARES_16K))

    def network(views, is_training):
        # One pass for both crops: the network shares its weights.
        features = SpectrogramTransformer(config, name="encoder")(jnp.concatenate(list(views.values())))
        projections = Mlp(projector, name="projector")(features, is_training)
        parts = (jnp.split(x, len(views)) for x in (features, projections))
        return {name: {"features": x, "projection": y} for name, x, y in zip(views, *parts, strict=True)}

    def objective(outputs):
        a, b = (outputs[view]["projection"] for view in ("first", "second"))
        return nt_xent(a, b, 0.1, negatives="all")

    return Recipe(
        name=name,
        source=(
            "Wang et al. 2021, HARES, arXiv 2111.12124, section 3 (two 3-s crops, mixing, SimCLR); the output of the "
            "projector, 128, and what LogMel says are ours"
        ),
        inputs={"waveform": jax.ShapeDtypeStruct((samples,), jnp.float32)},
        views={"first": crop, "second": crop},
        network=network,
        objective=objective,
        training=training,
        batch=batch,
        mixed=("first", "second"),
    )
