"""CLIP encoders in JAX: an open_clip folder without PyTorch, and a function for jitted programs."""

import dataclasses
import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax

from ..encoders import clip
from ..encoders.images import check_frames
from ._clip_files import LocalDir, bpe_file, read_local_dir
from ._clip_names import ClipSource
from ._clip_tokens import Tokenize, make_tokenizer
from ._fingerprint import fingerprint
from ._torchvision import import_open_clip


class JaxClip:
    """An encoder of frames and goals (Radford et al. 2021, arXiv 2103.00020), equal to `OpenClip` in float32.

    PyTorch is imported for texts only, which open_clip's tokenizer reads; a process that gets the embeddings of its
    goals from elsewhere never needs it.

    Attributes:
      name: `local-dir:PATH`.
      config: an `encoders.clip.ClipConfig`.
      params: float32 arrays on the default device.
      embed_dim: D, features of an embedding.
      logit_scale: what cosines were multiplied by in training.
      logit_bias: what was added to them, or None where the loss had no bias.
      fingerprint: hash of weights, configuration and preprocessing.
    """

    def __init__(self, path: str | os.PathLike[str], batch: int = 64):
        """Loads the model.

        Args:
          path: a folder with open_clip_config.json and a .safetensors file; `local-dir:` before it may be left out.
          batch: frames or texts that are encoded at once. Fewer are padded to a power of two, so that a size of frame
            is compiled at most log2(batch) + 1 times.

        Raises:
          FileNotFoundError: the folder, its configuration or its weights are missing.
          ValueError: the model is of a kind that is not built in JAX, or the weights do not fit.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}.")
        local = read_local_dir(os.fspath(path).removeprefix("local-dir:"))
        self.name = f"local-dir:{local.path}"
        self.config = clip.clip_config(local.config)
        self.params = jax.device_put(clip.convert(_read(local), self.config))
        self.embed_dim = self.config.embed_dim
        learned = self.params["logits"]
        self.logit_scale = float(np.exp(learned["scale"]))
        self.logit_bias = float(learned["bias"]) if "bias" in learned else None
        self._batch, self._local = batch, local
        self._tokenizer: Tokenize | None = None
        self._frames, self._texts = jax.jit(self.frames_fn), jax.jit(self.texts_fn)

    def frames_fn(self, params: clip.Params, frames: jax.Array) -> jax.Array:
        """A pure function for jitted programs: uint8 `[N, H, W, 3]` to float32 `[N, D]`, unit vectors."""
        return clip.image_features(params, self.config, frames)

    def texts_fn(self, params: clip.Params, tokens: jax.Array) -> jax.Array:
        """A pure function for jitted programs: int32 `[G, T]`, of `tokenize`, to float32 `[G, D]`, unit vectors."""
        return clip.text_features(params, self.config, tokens)

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """uint8 `[N, H, W, 3]`, of any size, to float32 `[N, D]`, unit vectors.

        Raises:
          ValueError: for another type or shape.
        """
        check_frames(frames)
        return self._in_batches(self._frames, frames)

    def encode_goals(self, texts: Sequence[str]) -> np.ndarray:
        """G texts to float32 `[G, D]`, unit vectors.

        Raises:
          ValueError: for a text that is empty or longer than the model reads.
        """
        return self._in_batches(self._texts, self.tokenize(texts))

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """G texts to int32 `[G, T]`, by open_clip's tokenizer (the `clip` extra)."""
        if self._tokenizer is None:
            source = ClipSource(self.name, None, self.name, self._local.config["model_cfg"], self._local.path)
            self._tokenizer = make_tokenizer(source, import_open_clip())
        return self._tokenizer(texts)

    @functools.cached_property
    def fingerprint(self) -> str:
        weights = [
            (f"{module}.{leaf}", np.asarray(array))
            for module, leaves in self.params.items()
            for leaf, array in leaves.items()
        ]
        settings = {
            "runtime": "jax",
            "config": self._local.config["model_cfg"],
            "preprocessing": dataclasses.asdict(self.config.preprocessing),
            "precision": "fp32",
        }
        return fingerprint(weights, settings, bpe_file(self._local.config["model_cfg"], self._local.path))

    def _in_batches(self, encode, inputs: np.ndarray) -> np.ndarray:
        parts = [np.zeros((0, self.embed_dim), np.float32)]
        for start in range(0, len(inputs), self._batch):
            part = inputs[start : start + self._batch]
            padded = min(self._batch, 1 << (len(part) - 1).bit_length())
            widths = [(0, padded - len(part))] + [(0, 0)] * (inputs.ndim - 1)
            features = encode(self.params, jnp.pad(jnp.asarray(part), widths))
            parts.append(np.asarray(features)[: len(part)])
        return np.concatenate(parts)


def _read(local: LocalDir) -> dict[str, jax.Array]:
    """The weights by open_clip's names. JAX's reader knows bfloat16, NumPy's does not."""
    if local.weights.suffix != ".safetensors":
        raise ValueError(
            f"{local.weights} is a pickle, which is not read here: write it as open_clip_model.safetensors "
            "(safetensors.torch.save_file of open_clip.load_state_dict), or use OpenClip."
        )
    try:
        return safetensors.flax.load_file(str(local.weights))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{local.weights} is damaged or no safetensors file: {error}") from error
