"""CLIP encoders by open_clip, in PyTorch: any model that open_clip has, with weights or not at all."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..encoders.clip import preprocessing_of
from ..encoders.images import check_frames
from ._clip_files import bpe_file
from ._clip_names import ClipSource, resolve
from ._clip_tokens import make_tokenizer
from ._fingerprint import fingerprint
from ._torchvision import import_open_clip


if TYPE_CHECKING:
    import torch


class Drift(NamedTuple):
    """How far scores (cosines of frames and texts) in bfloat16 are from those in float32: greatest and mean."""

    max: float
    mean: float


class OpenClip:
    """An encoder of frames and goals (Radford et al. 2021, arXiv 2103.00020).

    Attributes:
      name: as given.
      precision: as given.
      preprocessing: what is done to frames, an `encoders.images.Preprocessing`.
      embed_dim: D, features of an embedding.
      logit_scale: what cosines were multiplied by in training.
      logit_bias: what was added to them, or None where the loss had no bias.
      fingerprint: hash of weights, configuration, tokenizer, preprocessing and precision.
    """

    def __init__(
        self,
        name: str,
        precision: Literal["fp32", "bf16"] = "fp32",
        device: str | None = None,
        batch: int = 64,
        threads: int | None = None,
    ):
        """Loads the model.

        Args:
          name: `local-dir:PATH`, a folder with open_clip_config.json and weights, which alone says everything about
            the model; `hf-hub:ORG/REPO`, such a folder on the hub or in its cache; `ARCHITECTURE@TAG`, weights that
            open_clip knows by a tag; `ARCHITECTURE@FILE`.
          precision: `bf16` halves the weights and on some processors the time; `drift` says what it does to scores.
            Norms stay in float32.
          device: PyTorch's name of it; None is `cuda` where there is one, else `cpu`.
          batch: frames or texts that are encoded at once.
          threads: of PyTorch on the CPU, for the whole process; None leaves them.

        Raises:
          ImportError: without the `clip` extra.
          ValueError: the name or the weights do not do; the message says what would.
          OSError: weights are missing, or cannot be fetched.
        """
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}.")
        if batch < 1 or (threads is not None and threads < 1):
            raise ValueError(f"batch and threads must be at least 1, got {batch} and {threads}.")
        open_clip = import_open_clip()
        import torch

        source = resolve(name, open_clip)
        self.name, self.precision = name, precision
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._batch, self._source = batch, source
        if threads is not None:
            torch.set_num_threads(threads)
        self._tokenize = make_tokenizer(source, open_clip)
        self._model: Any = _load(name, source, precision, self._device, open_clip)
        prepared = self._model.visual.preprocess_cfg
        self.preprocessing = preprocessing_of(prepared, prepared["size"])
        self.embed_dim = int(source.config["embed_dim"])
        bias = getattr(self._model, "logit_bias", None)
        self.logit_scale = self._model.logit_scale.exp().item()
        self.logit_bias = None if bias is None else bias.item()

    @functools.cached_property
    def fingerprint(self) -> str:
        import torch

        def array(tensor: "torch.Tensor") -> np.ndarray:
            # NumPy has no bfloat16.
            same = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
            return same.cpu().numpy()

        weights = ((key, array(tensor)) for key, tensor in self._model.state_dict().items())
        settings = {
            "runtime": "torch",
            "config": self._source.config,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "precision": self.precision,
        }
        return fingerprint(weights, settings, bpe_file(self._source.config, self._source.directory))

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """uint8 `[N, H, W, 3]`, of any size, to float32 `[N, D]`, unit vectors.

        Raises:
          ValueError: for another type or shape.
        """
        check_frames(frames)
        import torch

        std = torch.tensor(self.preprocessing.std, device=self._device).view(3, 1, 1)
        mean = torch.tensor(self.preprocessing.mean, device=self._device).view(3, 1, 1)

        def encode(part: np.ndarray) -> "torch.Tensor":
            # Bytes go to the device, and are made floats there.
            fitted = self.preprocessing.fit(np.asarray(part))
            fitted = torch.from_numpy(np.require(fitted, requirements="W")).to(self._device)
            pixels = (fitted.permute(0, 3, 1, 2).float() / 255 - mean) / std
            return self._model.encode_image(pixels.to(self._input_type()))

        return self._in_batches(encode, frames)

    def encode_goals(self, texts: Sequence[str]) -> np.ndarray:
        """G texts to float32 `[G, D]`, unit vectors.

        Raises:
          ValueError: for a text that is empty or longer than the model reads.
        """
        import torch

        def encode(part: np.ndarray) -> "torch.Tensor":
            return self._model.encode_text(torch.from_numpy(part).long().to(self._device))

        return self._in_batches(encode, self._tokenize(texts))

    def drift(self, frames: np.ndarray, texts: Sequence[str]) -> Drift:
        """What bfloat16 does to scores: the model is loaded in the other precision beside this one.

        Args:
          frames: uint8 `[N, H, W, 3]`, at least one.
          texts: at least one.

        Returns:
          Greatest and mean absolute difference of the `[N, G]` cosines.
        """
        other = OpenClip(
            self.name, "fp32" if self.precision == "bf16" else "bf16", str(self._device), self._batch
        )
        if not len(frames) or not len(texts):
            raise ValueError(f"Drift is measured on frames and texts; got {len(frames)} and {len(texts)}.")
        here, there = (one.encode_frames(frames) @ one.encode_goals(texts).T for one in (self, other))
        difference = np.abs(here - there)
        return Drift(float(difference.max()), float(difference.mean()))

    def _input_type(self) -> "torch.dtype":
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def _in_batches(self, encode, inputs: np.ndarray) -> np.ndarray:
        import torch

        parts = [np.zeros((0, self.embed_dim), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(inputs), self._batch):
                features = encode(inputs[start : start + self._batch]).float()
                parts.append(torch.nn.functional.normalize(features, dim=-1).cpu().numpy())
        return np.concatenate(parts)


def _load(name: str, source: ClipSource, precision: str, device, open_clip) -> Any:
    try:
        model = open_clip.create_model(
            source.model,
            source.pretrained,
            precision=precision,
            device=device,
            # Else open_clip goes on with random weights and a line in its log.
            require_pretrained=True,
            weights_only=True,
        )
    # open_clip raises RuntimeError whether a host is down or a shape is wrong.
    except Exception as error:
        reason = " ".join(str(error).split())[:600]
        if source.pretrained is not None and "Failed to download" in reason:
            raise OSError(
                f"{name}: its weights are not in the cache and could not be fetched: {reason} Where there is no "
                "network, copy the model's folder here and name it local-dir:PATH."
            ) from error
        raise ValueError(
            f"{name}: the weights cannot be loaded into this model: {reason} They are of another architecture, "
            "damaged, or no checkpoint of open_clip."
        ) from error
    # The model comes in training mode, with whatever dropout it has.
    return model.eval()
