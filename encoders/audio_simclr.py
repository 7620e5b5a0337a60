"""SimCLR of sound with a Transformer over log-mel patches: the ViT-B row of HARES's comparison of networks."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp

from .heads import Mlp
from .log_mel import HARES_16K
from .objectives import nt_xent
from .patches import Spectrogram
from .pretraining import Recipe
from .training import TrainConfig
from .transformer import Transformer
from .views import compose, fixed, window
from .vit import ViTTrunk


@dataclasses.dataclass(frozen=True)
class SpectrogramTransformerConfig:
    """A Vision Transformer over a spectrogram; the defaults are 18 x 5 patches and ViT-B.

    Attributes:
      spectrogram: size and patches of the input.
      trunk: sizes of the Transformer.
    """

    spectrogram: Spectrogram = Spectrogram(288, 80)
    trunk: ViTTrunk = ViTTrunk()


class SpectrogramTransformer(hk.Module):
    """float `[B, frames, mels]` to features `[B, d_model]`, the mean over patches."""

    def __init__(self, config: SpectrogramTransformerConfig, name: str | None = None):
        super().__init__(name=name)
        self._config = config

    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        trunk = self._config.trunk
        tokens = self._config.spectrogram(spectrogram, trunk.d_model, "spectrogram")
        return jnp.mean(Transformer(trunk.transformer, name="transformer")(tokens), axis=1)


def init(key: jax.Array, config: SpectrogramTransformerConfig):
    """New parameters of the network alone."""
    network = hk.transform(lambda x: SpectrogramTransformer(config)(x))
    return network.init(key, jnp.zeros((1, *config.spectrogram.shape)))


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
    crop = compose(window("waveform", config.spectrogram.frames * HARES_16K.hop), fixed(HARES_16K))

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
            "Wang et al. 2021, HARES, arXiv 2111.12124, section 3 (two crops, mixing, SimCLR); crops of whole patches "
            "(2.88 s of the paper's 3), the output of the projector, 128, and what LogMel says are ours"
        ),
        inputs={"waveform": jax.ShapeDtypeStruct((samples,), jnp.float32)},
        views={"first": crop, "second": crop},
        network=network,
        objective=objective,
        training=training,
        batch=batch,
        mixed=("first", "second"),
    )
