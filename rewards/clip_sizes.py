"""The ladder of small CLIP models, as open_clip's model configurations."""

import dataclasses
import math
from typing import Any


HEAD_WIDTH = 32
MERGES_FILE = "bpe_merges.txt.gz"


@dataclasses.dataclass(frozen=True)
class ClipSize:
    """One rung: a ViT and a causal text Transformer.

    Attributes:
      width: of the image tower.
      layers: of the image tower.
      text_width: of the text tower.
      text_layers: of the text tower.
      embed: width of the common embedding.
    """

    width: int
    layers: int
    text_width: int
    text_layers: int
    embed: int


# About 55 thousand, 0.2, 0.5, 1.1 and 3.5 million parameters; 15 to 75 thousand more of screens than of rooms.
SIZES = {
    "xxs": ClipSize(32, 1, 32, 1, 32),
    "xs": ClipSize(64, 2, 64, 1, 64),
    "s": ClipSize(96, 3, 64, 2, 96),
    "m": ClipSize(128, 4, 96, 2, 128),
    "l": ClipSize(192, 6, 128, 3, 192),
}


def model_config(
    size: str, vocabulary: int, context: int = 32, image: int = 56, patch: int = 8, siglip_batch: int = 0
) -> dict[str, Any]:
    """open_clip's `model_cfg` of a rung.

    Args:
      size: one of `SIZES`.
      vocabulary: entries of the tokenizer.
      context: tokens of a text, start and end included.
      image: height and width in pixels.
      patch: of the ViT; 8 pixels are a cell of MiniGrid's view, 12 an eighth of a screen.
      siglip_batch: texts of an update of SigLIP's loss, whose logits have a bias; 0 for none. The bias begins at the
        log-odds of one true text among them, which is what Zhai et al.'s -10 is at their batch of 32 thousand.

    Raises:
      ValueError: there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"there is no size {size!r}; known: {', '.join(SIZES)}")
    rung = SIZES[size]
    config: dict[str, Any] = {
        "embed_dim": rung.embed,
        "vision_cfg": {
            "image_size": image,
            "layers": rung.layers,
            "width": rung.width,
            "head_width": HEAD_WIDTH,
            "patch_size": patch,
        },
        "text_cfg": {
            "context_length": context,
            "vocab_size": vocabulary,
            "width": rung.text_width,
            "heads": rung.text_width // HEAD_WIDTH,
            "layers": rung.text_layers,
            # Relative to the model's directory.
            "tokenizer_kwargs": {"bpe_path": MERGES_FILE},
        },
    }
    if siglip_batch:
        config |= {"init_logit_bias": -math.log(siglip_batch), "init_logit_scale": math.log(10)}
    return config
