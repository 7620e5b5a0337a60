"""CLIP's image and text towers (Radford et al. 2021, arXiv 2103.00020), with weights from open_clip's models.

What is here is open_clip's `CLIP` and `CustomTextCLIP` with its own vision Transformer and its own text Transformer.
The parameters are a Haiku tree with the modules `image/…` and `text/…`, beside `logits` with the learned scale (a
logarithm) and, where the model has one, bias.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from ._clip_config import ClipConfig as ClipConfig
from ._clip_config import clip_config as clip_config
from ._clip_config import preprocessing_of as preprocessing_of
from .layers import Norm
from .objectives import unit
from .transformer import Transformer


Params = Any


def init(key: jax.Array, config: ClipConfig) -> Params:
    """New parameters; `jax.eval_shape(init, key, config)` with `config` closed over gives their shapes."""
    image_key, text_key = jax.random.split(key)
    images = jnp.zeros((1, config.preprocessing.height, config.preprocessing.width, 3))
    logits = {"scale": jnp.float32(np.log(1 / 0.07))}
    if config.logit_bias is not None:
        logits["bias"] = jnp.float32(config.logit_bias)
    return {
        **_image_tower(config).init(image_key, images),
        **_text_tower(config).init(text_key, jnp.zeros((1, config.text.max_positions), jnp.int32)),
        "logits": logits,
    }


def image_features(params: Params, config: ClipConfig, frames: jax.Array) -> jax.Array:
    """Embeddings of frames, a pure function.

    Args:
      params: as `init` or `convert` give them.
      config: static under `jit`.
      frames: uint8 `[N, H, W, 3]` of any size; the model's preprocessing is done here.

    Returns:
      float32 `[N, D]`, unit vectors.
    """
    return unit(_image_tower(config).apply(params, config.preprocessing(jnp.asarray(frames))))


def text_features(params: Params, config: ClipConfig, tokens: jax.Array) -> jax.Array:
    """Embeddings of texts, a pure function.

    Args:
      params: as `init` or `convert` give them.
      config: static under `jit`.
      tokens: int32 `[G, T]`, T at most the model's length of a text, from the model's tokenizer. Tokens outside the
        vocabulary are not noticed in a jitted program: check them before.

    Returns:
      float32 `[G, D]`, unit vectors.
    """
    return unit(_text_tower(config).apply(params, jnp.asarray(tokens)))


def logits(params: Params, images: jax.Array, texts: jax.Array) -> jax.Array:
    """What the model was trained on: scaled cosines `[N, G]` of unit vectors `[N, D]` and `[G, D]`, with its bias."""
    learned = params["logits"]
    return jnp.exp(learned["scale"]) * images @ texts.T + learned.get("bias", 0.0)


def convert(arrays: Mapping[str, Any], config: ClipConfig) -> Params:
    """Parameters from open_clip's.

    Args:
      arrays: by open_clip's names (its `state_dict`), in any floating type.
      config: of the same model.

    Returns:
      float32 NumPy arrays, as `init` makes them.

    Raises:
      ValueError: if an array is missing, has another shape, or has no place in this model.
    """
    # A text tower of its own class (`CustomTextCLIP`) has a prefix.
    given = {name.removeprefix("text."): array for name, array in arrays.items()}
    # OpenAI's files hold these beside the weights.
    for name in ("input_resolution", "context_length", "vocab_size", "attn_mask"):
        given.pop(name, None)
    shapes = jax.eval_shape(functools.partial(init, config=config), jax.random.key(0))
    places = _places(config)
    params: dict[str, dict[str, np.ndarray]] = {}
    for module, leaves in shapes.items():
        for leaf, shape in leaves.items():
            name, turn = places[module, leaf]
            if name not in given:
                raise ValueError(
                    f"The weights have no {name}: they are of another model than this configuration."
                )
            array = np.asarray(given.pop(name)).astype(np.float32)
            turned = array.reshape(()) if shape.shape == () and array.size == 1 else turn(array)
            if turned.shape != shape.shape:
                raise ValueError(
                    f"{name} has the shape {array.shape}; this configuration makes it {shape.shape} (after turning to "
                    "inputs before outputs). The weights are of another model than this configuration."
                )
            params.setdefault(module, {})[leaf] = turned
    if given:
        raise ValueError(
            f"The weights hold what this configuration has no place for: {', '.join(sorted(given)[:5])}"
            f"{' …' if len(given) > 5 else ''}. They are of another model."
        )
    return params


class _ImageTower(hk.Module):
    def __init__(self, config: ClipConfig):
        super().__init__(name="image")
        self._config = config

    def __call__(self, images: jax.Array) -> jax.Array:
        """float32 `[N, height, width, 3]` to `[N, D]`."""
        config, width = self._config, self._config.image.d_model
        small = hk.initializers.RandomNormal(width**-0.5)
        patches = hk.Conv2D(
            width, config.patch_size, config.patch_size, padding="VALID", with_bias=False, name="patches"
        )(images)
        patches = patches.reshape(len(images), -1, width)
        class_token = hk.get_parameter("class_token", (width,), init=small)
        x = jnp.concatenate([jnp.broadcast_to(class_token, (len(images), 1, width)), patches], axis=1)
        # Not the Transformer's own positions: the norm stands between.
        x = x + hk.get_parameter("positions", (config.image_tokens, width), init=small)
        if config.image_norm_before:
            x = Norm("layer", name="norm_before")(x)
        x = Transformer(config.image, "transformer", final_norm=False)(x)
        norm = Norm("layer", name="norm_after")
        if not config.image_norm_after_pool:
            x = norm(x)
        x = x[:, 0] if config.image_pool == "tok" else jnp.mean(x[:, 1:], axis=1)
        if config.image_norm_after_pool:
            x = norm(x)
        return hk.Linear(config.embed_dim, with_bias=False, w_init=small, name="projection")(x)


class _TextTower(hk.Module):
    def __init__(self, config: ClipConfig):
        super().__init__(name="text")
        self._config = config

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int32 `[G, T]` to `[G, D]`."""
        config, width = self._config, self._config.text.d_model
        table = hk.get_parameter(
            "tokens", (config.vocab_size, width), init=hk.initializers.RandomNormal(0.02)
        )
        x = Transformer(config.text, "transformer")(table[tokens])
        if config.text_pool == "argmax":
            place = jnp.argmax(tokens, axis=1)
        elif config.text_pool == "eos":
            place = jnp.argmax(tokens == config.eos_id, axis=1)
        else:
            place = jnp.full(len(tokens), 0 if config.text_pool == "first" else tokens.shape[1] - 1)
        x = jnp.take_along_axis(x, place[:, None, None], axis=1)[:, 0]
        if config.text_projection == "none":
            return x
        bias, small = config.text_projection == "bias", hk.initializers.RandomNormal(width**-0.5)
        return hk.Linear(config.embed_dim, with_bias=bias, w_init=small, name="projection")(x)


def _image_tower(config: ClipConfig) -> hk.Transformed:
    return hk.without_apply_rng(hk.transform(lambda images: _ImageTower(config)(images)))


def _text_tower(config: ClipConfig) -> hk.Transformed:
    return hk.without_apply_rng(hk.transform(lambda tokens: _TextTower(config)(tokens)))


def _places(config: ClipConfig) -> dict[tuple[str, str], tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """(module, parameter) -> open_clip's name and what makes its array ours."""

    def same(x):
        return x

    def linear(module, name):
        return {(module, "w"): (f"{name}.weight", np.transpose), (module, "b"): (f"{name}.bias", same)}

    def norm(module, name):
        return {(module, "scale"): (f"{name}.weight", same), (module, "offset"): (f"{name}.bias", same)}

    def blocks(tower, prefix, layers):
        places = {}
        for i in range(layers):
            ours, theirs = f"{tower}/transformer/~/block_{i}/~", f"{prefix}transformer.resblocks.{i}"
            # Queries, keys and values are one map in both, in this order.
            attention = f"{ours}/query_key_value"
            places[attention, "w"] = (f"{theirs}.attn.in_proj_weight", np.transpose)
            places[attention, "b"] = (f"{theirs}.attn.in_proj_bias", same)
            places |= linear(f"{ours}/attention_out", f"{theirs}.attn.out_proj")
            places |= linear(f"{ours}/feed_forward/up", f"{theirs}.mlp.c_fc")
            places |= linear(f"{ours}/feed_forward/down", f"{theirs}.mlp.c_proj")
            places |= norm(f"{ours}/attention_norm", f"{theirs}.ln_1")
            places |= norm(f"{ours}/feed_forward_norm", f"{theirs}.ln_2")
        return places

    projection = {("text/projection", "w"): ("text_projection", same)}
    if config.text_projection == "bias":
        projection = linear("text/projection", "text_projection")
    return {
        ("image/patches", "w"): ("visual.conv1.weight", lambda x: np.transpose(x, (2, 3, 1, 0))),
        ("image", "class_token"): ("visual.class_embedding", same),
        ("image", "positions"): ("visual.positional_embedding", same),
        **norm("image/norm_before", "visual.ln_pre"),
        **blocks("image", "visual.", config.image.num_layers),
        **norm("image/norm_after", "visual.ln_post"),
        ("image/projection", "w"): ("visual.proj", same),
        ("text", "tokens"): ("token_embedding.weight", same),
        ("text/transformer", "positions"): ("positional_embedding", same),
        **blocks("text", "", config.text.num_layers),
        **norm("text/transformer/~/final_norm", "ln_final"),
        **projection,
        ("logits", "scale"): ("logit_scale", same),
        ("logits", "bias"): ("logit_bias", same),
    }
