"""Zorro without labels: what is seen and what is heard at the same time are to find each other (arXiv 2301.09595)."""

import functools
from collections.abc import Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from .films import film
from .heads import Mlp
from .hip import HIP_VARIANTS
from .objectives import nt_xent, pairwise
from .patches import Spectrogram, Symbols, Tokens, Video
from .pretraining import Recipe
from .swin import SwinTrunk
from .training import TrainConfig
from .views import View
from .vit import ViTTrunk
from .zorro import Zorro, ZorroConfig


def init(key: jax.Array, config: ZorroConfig) -> Any:
    """New parameters of the network alone."""
    network = hk.transform(lambda inputs: Zorro(config)(inputs))
    kinds = {Tokens: jnp.int32, Symbols: jnp.int32}
    shown = {
        name: jnp.zeros((1, *modality.shape), kinds.get(type(modality), jnp.float32))
        for name, modality in config.modalities.items()
    }
    return network.init(key, shown)


def recipe(
    name: str,
    config: ZorroConfig,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    views: Mapping[str, View],
    projector: tuple[int, ...],
    training: TrainConfig,
    batch: int,
    temperature: float = 0.1,
) -> Recipe:
    """Each two modalities' readouts are to find each other in the batch, and the fusion readout each modality's.

    The network's outputs are a dictionary by readout of `features`, the readout, and `projection`, what the loss sees.

    Args:
      name: of the recipe.
      config: of the network; its modalities are the views' names.
      inputs, views: see `Recipe`.
      projector: hidden sizes and the output's; each readout has one of its own.
      training: steps, optimiser and rates.
      batch: examples of an update.
      temperature: that cosines are divided by.
    """
    if set(views) != set(config.modalities):
        raise ValueError(f"The views {sorted(views)} must be the modalities {sorted(config.modalities)}.")

    def network(seen: dict[str, jax.Array], is_training: bool) -> dict[str, dict[str, jax.Array]]:
        readouts = Zorro(config)(seen)
        return {
            readout: {
                "features": x,
                "projection": Mlp(projector, name=f"{readout}_projector")(x, is_training),
            }
            for readout, x in readouts.items()
        }

    def objective(outputs: dict[str, dict[str, jax.Array]]) -> jax.Array:
        seen = {name: out["projection"] for name, out in outputs.items() if name != "global"}
        return pairwise(functools.partial(nt_xent, temperature=temperature), seen)

    return Recipe(
        name=name,
        source=(
            "Recasens et al. 2023, arXiv 2301.09595: audio against video, fusion against each. Sizes of inputs after "
            "MBT's published configuration; augmentations, projectors, temperature, batch and rates are ours"
        ),
        inputs=inputs,
        views=views,
        network=network,
        objective=objective,
        training=training,
        batch=batch,
    )


def film_recipe(
    name: str, config: ZorroConfig, projector: tuple[int, ...], training: TrainConfig, batch: int
) -> Recipe:
    """`recipe` for films with sound (`films.film`): the modalities are `video` and `audio`."""
    inputs, views = film(config.modalities)
    return recipe(name, config, inputs, views, projector, training, batch)


def _large(patch: int) -> dict[str, Any]:
    return {
        "video": Video(32, 224, 224, tubelet=(2, patch, patch)),
        "audio": Spectrogram(800, 128, patch),
    }


_SMALL = {"video": Video(8, 32, 32, tubelet=(2, 8, 8)), "audio": Spectrogram(80, 32, 16)}

CONFIGURATIONS = {
    "ViT-B": ZorroConfig(_large(16), ViTTrunk()),
    "Swin-T": ZorroConfig(_large(4), SwinTrunk()),
    **{f"HiP-{name}": ZorroConfig(_large(4), trunk) for name, trunk in HIP_VARIANTS.items()},
    "tiny": ZorroConfig(_SMALL, ViTTrunk(2, 64, 4, 128), fusion_tokens=4, readout_heads=4),
}
"""Zorro on its three trunks at full size, and a small one of the same code."""
