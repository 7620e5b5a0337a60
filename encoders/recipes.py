"""The tables of networks and recipes. A new paper adds rows."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from . import audio_simclr, clip, zorro_contrastive, zorro_supervised
from .audio_simclr import SpectrogramTransformerConfig
from .patches import Spectrogram
from .pretraining import Recipe
from .training import TrainConfig
from .transformer import Transformer, TransformerConfig
from .vit import ViTTrunk


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its named sizes.

    Attributes:
      source: the paper.
      configurations: by name, what `init` takes.
      init: `(key, configuration) -> params`, pure.
    """

    source: str
    configurations: Mapping[str, Any]
    init: Callable[[jax.Array, Any], Any]

    def count(self, configuration: str) -> int:
        """How many parameters a configuration has, exactly; nothing is computed."""
        settings = self.configurations[configuration]
        params = jax.eval_shape(lambda key: self.init(key, settings), jax.random.key(0))
        return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def _transformer(key: jax.Array, config: TransformerConfig) -> Any:
    network = hk.transform(lambda x: Transformer(config)(x))
    return network.init(key, jnp.zeros((1, 1, config.d_model)))


def _clip(patch: int, width: int, layers: int, text_width: int, text_heads: int, embed_dim: int):
    vision = {"image_size": 224, "patch_size": patch, "width": width, "layers": layers}
    text = {"width": text_width, "heads": text_heads, "layers": 12, "context_length": 77, "vocab_size": 49408}
    return clip.clip_config({"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text})


_TINY = SpectrogramTransformerConfig(Spectrogram(100, 80, 20), ViTTrunk(2, 64, 4, 256))

NETWORKS: dict[str, Network] = {
    "clip": Network(
        "Radford et al. 2021, arXiv 2103.00020",
        {
            "ViT-B-32": _clip(32, 768, 12, 512, 8, 512),
            "ViT-B-16": _clip(16, 768, 12, 512, 8, 512),
            "ViT-L-14": _clip(14, 1024, 24, 768, 12, 768),
        },
        clip.init,
    ),
    "spectrogram_transformer": Network(
        "ViT-B of Dosovitskiy et al. 2021, arXiv 2010.11929, over patches of a log-mel spectrogram",
        {"base": SpectrogramTransformerConfig(), "tiny": _TINY},
        audio_simclr.init,
    ),
    "zorro": Network(
        "Recasens et al. 2023, arXiv 2301.09595",
        zorro_contrastive.CONFIGURATIONS,
        zorro_contrastive.init,
    ),
    "transformer": Network(
        "Vaswani et al. 2017, arXiv 1706.03762",
        {"small": TransformerConfig(), "base": TransformerConfig(12, 768, 12, feed_forward=3072)},
        _transformer,
    ),
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        audio_simclr.recipe(
            "audio_simclr",
            SpectrogramTransformerConfig(),
            samples=160_000,
            projector=(4096, 4096, 4096, 128),
            training=TrainConfig(
                steps=200_000, learning_rate=2e-4, warmup_steps=5000, b2=0.999, clip_norm=None
            ),
            batch=4096,
        ),
        audio_simclr.recipe(
            "audio_simclr_tiny",
            _TINY,
            samples=32_000,
            projector=(128, 32),
            training=TrainConfig(steps=60, learning_rate=1e-3, warmup_steps=5),
            batch=32,
        ),
        zorro_contrastive.film_recipe(
            "zorro",
            zorro_contrastive.CONFIGURATIONS["ViT-B"],
            projector=(768, 256),
            training=TrainConfig(steps=200_000, learning_rate=2e-4, warmup_steps=5000, weight_decay=0.05),
            batch=512,
        ),
        zorro_contrastive.film_recipe(
            "zorro_tiny",
            zorro_contrastive.CONFIGURATIONS["tiny"],
            projector=(64, 32),
            training=TrainConfig(steps=100, learning_rate=1e-3, warmup_steps=10),
            batch=32,
        ),
        zorro_supervised.film_recipe(
            "zorro_audioset",
            zorro_contrastive.CONFIGURATIONS["ViT-B"],
            classes=527,
            training=TrainConfig(steps=50_000, learning_rate=1e-4, warmup_steps=2500, weight_decay=0.05),
            batch=256,
            task="tags",
        ),
        zorro_supervised.film_recipe(
            "zorro_classes_tiny",
            zorro_contrastive.CONFIGURATIONS["tiny"],
            classes=8,
            training=TrainConfig(steps=60, learning_rate=1e-3, warmup_steps=10),
            batch=32,
            missing=0.25,
        ),
    )
}
