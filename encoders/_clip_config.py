"""The shape of a CLIP model, read from open_clip's configuration."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from .images import Preprocessing
from .transformer import TransformerConfig


TextPool = Literal["argmax", "eos", "first", "last"]


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """The shape of a CLIP model; `clip_config` reads it from open_clip's.

    Attributes:
      embed_dim: features of an embedding, D.
      patch_size: sides of a patch, pixels.
      image: the image tower's Transformer.
      image_norm_before: whether there is a norm before it.
      image_pool: `tok` takes the class token, `avg` the mean of the others.
      image_norm_after_pool: whether the last norm is of what was pooled rather than of each token.
      text: the text tower's Transformer; its `max_positions` is the length of a text.
      vocab_size: tokens.
      text_pool: the position that stands for a text: of the highest token (`argmax`: the end of text in CLIP's
        vocabulary), of the first token `eos_id` (`eos`), the `first` or the `last`.
      eos_id: see `text_pool`.
      text_projection: `linear`, `bias` (linear with a bias) or `none`.
      logit_bias: the bias that new parameters have; None where the model has none.
      preprocessing: what is done to a frame, and so the size of an image.
    """

    embed_dim: int
    patch_size: tuple[int, int]
    image: TransformerConfig
    text: TransformerConfig
    image_norm_before: bool = True
    image_pool: Literal["tok", "avg"] = "tok"
    image_norm_after_pool: bool = False
    vocab_size: int = 49408
    text_pool: TextPool = "argmax"
    eos_id: int = 2
    text_projection: Literal["linear", "bias", "none"] = "linear"
    logit_bias: float | None = None
    preprocessing: Preprocessing = Preprocessing()

    @property
    def image_tokens(self) -> int:
        """Patches and the class token; what does not fill a patch at the right and the bottom is not seen."""
        rows = self.preprocessing.height // self.patch_size[0]
        return rows * (self.preprocessing.width // self.patch_size[1]) + 1


# What open_clip's configuration may say beside sizes, and the values that these towers have; none is a field that
# changes nothing at evaluation.
_IMAGE_FIXED = {
    "timm_model_name": (None,),
    "attentional_pool": (False,),
    "ls_init_value": (None,),
    "block_type": (None, "default"),
    "norm_kwargs": (None, {}),
    "act_kwargs": (None, {}),
    "pool_type": ("tok", "avg"),
    **dict.fromkeys(
        ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"),
        (False,),
    ),
}
_TEXT_FIXED = {
    **{
        name: values
        for name, values in _IMAGE_FIXED.items()
        if name not in ("timm_model_name", "attentional_pool")
    },
    "hf_model_name": (None,),
    "embed_cls": (False,),
    "pool_type": ("argmax", "eos", "first", "last"),
    "proj_type": ("linear", "none"),
}
_IMAGE_KNOWN = {
    *_IMAGE_FIXED,
    *(
        "layers",
        "width",
        "head_width",
        "mlp_ratio",
        "patch_size",
        "image_size",
        "no_ln_pre",
        "final_ln_after_pool",
    ),
    *("patch_dropout", "pos_embed_type", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"),
    *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
}
_TEXT_KNOWN = {
    *_TEXT_FIXED,
    *(
        "context_length",
        "vocab_size",
        "width",
        "heads",
        "layers",
        "mlp_ratio",
        "pad_id",
        "eos_id",
        "no_causal_mask",
    ),
    *(
        "proj_bias",
        "hf_tokenizer_name",
        "tokenizer_mode",
        "tokenizer_kwargs",
        "output_tokens",
        "final_ln_after_pool",
    ),
    *("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
}
_TOP_KNOWN = {
    *(
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "quick_gelu",
        "init_logit_scale",
        "init_logit_bias",
        "custom_text",
    ),
    "nonscalar_logit_scale",
}


def clip_config(config: Mapping[str, Any]) -> ClipConfig:
    """The `ClipConfig` of open_clip's configuration.

    Args:
      config: the content of an `open_clip_config.json`, with `model_cfg` and `preprocess_cfg`, or a `model_cfg`.

    Raises:
      ValueError: for a tower that is not built here (ResNet, timm, Hugging Face, attention pooling, layer scale, …),
        a key that is not known, or a size that is missing.
    """
    model = config.get("model_cfg", config)
    missing = [name for name in ("embed_dim", "vision_cfg", "text_cfg") if name not in model]
    if missing:
        raise ValueError(f"This is no configuration of an open_clip model: it has no {', '.join(missing)}.")
    vision, text = model["vision_cfg"], model["text_cfg"]
    if isinstance(vision.get("layers"), list | tuple):
        raise _unsupported("A ResNet as image tower")
    if vision.get("timm_model_name"):
        raise _unsupported(f"The timm image tower {vision['timm_model_name']!r}")
    if text.get("hf_model_name"):
        raise _unsupported(f"The Hugging Face text tower {text['hf_model_name']!r}")
    _refuse("model_cfg", model, {}, _TOP_KNOWN)
    _refuse("vision_cfg", vision, _IMAGE_FIXED, _IMAGE_KNOWN)
    _refuse("text_cfg", text, _TEXT_FIXED, _TEXT_KNOWN)

    activation = "quick_gelu" if model.get("quick_gelu") else "exact_gelu"
    image_width, text_width = vision.get("width", 768), text.get("width", 512)
    projection = "none" if text.get("proj_type") == "none" else "bias" if text.get("proj_bias") else "linear"
    return ClipConfig(
        embed_dim=model["embed_dim"],
        patch_size=_pair(vision.get("patch_size", 16)),
        image=TransformerConfig(
            num_layers=vision.get("layers", 12),
            d_model=image_width,
            num_heads=image_width // vision.get("head_width", 64),
            feed_forward=int(image_width * vision.get("mlp_ratio", 4.0)),
            activation=activation,
            positions="none",
            causal=False,
        ),
        text=TransformerConfig(
            num_layers=text.get("layers", 12),
            d_model=text_width,
            num_heads=text.get("heads", 8),
            feed_forward=int(text_width * text.get("mlp_ratio", 4.0)),
            activation=activation,
            positions="learned",
            max_positions=text.get("context_length", 77),
            causal=not text.get("no_causal_mask", False),
        ),
        image_norm_before=not vision.get("no_ln_pre", False),
        image_pool=vision.get("pool_type", "tok"),
        image_norm_after_pool=vision.get("final_ln_after_pool", False),
        vocab_size=text.get("vocab_size", 49408),
        text_pool=text.get("pool_type", "argmax"),
        eos_id=text.get("eos_id", 2),
        text_projection=projection,
        logit_bias=model.get("init_logit_bias"),
        preprocessing=preprocessing_of(config.get("preprocess_cfg") or {}, vision.get("image_size", 224)),
    )


def preprocessing_of(config: Mapping[str, Any], image_size: int | tuple[int, int]) -> Preprocessing:
    """The `Preprocessing` of open_clip's `preprocess_cfg`, OpenAI's where it says nothing.

    Args:
      config: keys `mean`, `std`, `interpolation`, `resize_mode`, `fill_color`; `size` is not looked at.
      image_size: what the image tower takes, pixels: a side, or (height, width).
    """
    height, width = _pair(image_size)
    changes: dict[str, Any] = {}
    for name in ("mean", "std"):
        if (value := config.get(name)) is not None:
            changes[name] = (
                tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),) * 3
            )
    for theirs, ours in (
        ("interpolation", "interpolation"),
        ("resize_mode", "resize_mode"),
        ("fill_color", "fill"),
    ):
        if config.get(theirs) is not None:
            changes[ours] = config[theirs]
    if changes.get("interpolation") == "random":
        # Drawn in training only.
        changes["interpolation"] = "bicubic"
    return Preprocessing(height, width, **changes)


def _pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))


def _unsupported(what: str) -> ValueError:
    return ValueError(
        f"{what} is not built in JAX; open_clip's vision and text Transformers are. "
        "rewards.OpenClip runs this model in PyTorch."
    )


def _refuse(
    section: str, given: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]], known: set[str]
) -> None:
    for name, value in given.items():
        if name not in known or (name in fixed and value not in fixed[name]):
            raise _unsupported(f"{section}'s {name}={value!r}")
