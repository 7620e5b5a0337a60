"""Trains a small CLIP of open_clip's from scratch and saves it as a directory that open_clip loads."""

import concurrent.futures
import dataclasses
import json
import math
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..encoders import MetricsLogger, Progress
from ._torchvision import import_open_clip
from .bpe import Merge, save_merges, vocabulary_size
from .clip_sizes import MERGES_FILE, model_config
from .contrastive import clip_loss, siglip_loss


CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
_STATE = "training"


@dataclasses.dataclass(frozen=True)
class ClipTrainConfig:
    """How a small CLIP is trained.

    Attributes:
      size: one of `clip_sizes.SIZES`.
      loss: `clip`, a softmax over the batch, or `siglip`, a sigmoid for each pair.
      steps: updates.
      batch: images of an update.
      learning_rate: at its highest.
      warmup: share of the updates over which it rises; then it falls to 0 as a cosine.
      weight_decay: of AdamW, on matrices only.
      clip_norm: most of the gradient's norm.
      context: tokens of a text.
      seed: of the weights.
      checkpoint_every: updates between two saved states.
      threads: of PyTorch. The batches are made on one more; together more than there are cores wait for each other.
    """

    size: str = "s"
    loss: Literal["clip", "siglip"] = "clip"
    steps: int = 1500
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    context: int = 32
    seed: int = 0
    checkpoint_every: int = 250
    threads: int = 1

    def __post_init__(self):
        for name in (
            "steps",
            "batch",
            "learning_rate",
            "clip_norm",
            "context",
            "checkpoint_every",
            "threads",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the updates, in 0 to below 1; got {self.warmup}")
        if self.loss not in ("clip", "siglip"):
            raise ValueError(f"loss is 'clip' or 'siglip', got {self.loss!r}")


class CaptionedBatch(NamedTuple):
    """Images with texts.

    Attributes:
      frames: `[B, H, W, 3]` uint8.
      texts: B + S; text i is image i's own, the last S are negatives only.
      truth: `[B + S, B]` bool, whether a text is true of an image.
    """

    frames: np.ndarray
    texts: Sequence[str]
    truth: np.ndarray


def train_clip(
    directory: pathlib.Path,
    config: ClipTrainConfig,
    merges: list[Merge],
    batch: Callable[[int], CaptionedBatch],
    image: int = 56,
    patch: int = 8,
) -> pathlib.Path:
    """Trains what is not trained yet of a model, and saves it with its tokenizer.

    Killed and called again with the same arguments, it goes on from the last saved state, and the weights come out
    the same to the last bit.

    Args:
      directory: of the model; it takes open_clip's files, `metrics.csv`, and while training `training/`.
      config: how.
      merges: of the tokenizer.
      batch: the batch of an update, a function of its number alone.
      image: height and width of the frames.
      patch: of the ViT, in pixels.

    Returns:
      The directory, for `local-dir:`.

    Raises:
      ValueError: the directory holds a model of other settings, or a text does not fit the context.
    """
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(config) | {"merges": len(merges), "image": image, "patch": patch}
    _check_settings(directory / "settings.json", settings)
    if (directory / WEIGHTS_FILE).exists():
        return directory
    model = build(config, merges, image, patch)
    save_merges(directory / MERGES_FILE, merges)
    tokenize = tokenizer(directory / MERGES_FILE, config.context)
    optimiser = torch.optim.AdamW(_groups(model, config.weight_decay), lr=1.0, betas=(0.9, 0.98), eps=1e-6)
    state = _State(directory / _STATE, model, optimiser)
    first = state.restore()
    mean, std = (torch.tensor(_preprocessing(image)[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    model.train()
    torch.set_num_threads(config.threads)
    with (
        MetricsLogger(directory, tensorboard=False) as log,
        Progress(f"training CLIP {config.size}", config.steps, "updates") as progress,
        concurrent.futures.ThreadPoolExecutor(1) as maker,
    ):
        log.start(first)
        progress.start(first, config.steps)
        coming = maker.submit(batch, first)
        for step in range(first, config.steps):
            frames, texts, truth = coming.result()
            if step + 1 < config.steps:
                coming = maker.submit(batch, step + 1)  # Made while this one is learned from.
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, config)
            pixels = (torch.tensor(frames).permute(0, 3, 1, 2).float() / 255 - mean) / std
            loss = _loss(model, config, pixels, tokenize(texts), torch.from_numpy(truth))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimiser.step()
            with torch.no_grad():  # Radford et al. 2021, section 2.5.
                model.logit_scale.clamp_(0, math.log(100))
            progress.update(step + 1, loss=loss.item())
            if (step + 1) % 50 == 0 or step + 1 == config.steps:
                scale = model.logit_scale.exp().item()
                log.log(step + 1, {"loss": loss.item(), "gradient_norm": norm.item(), "logit_scale": scale})
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
                state.save(step + 1)
    model.eval()
    about = {"model_cfg": _config(config, merges, image, patch), "preprocess_cfg": _preprocessing(image)}
    (directory / CONFIG_FILE).write_text(json.dumps(about, indent=2) + "\n")
    # The weights come last: a directory that has them is whole.
    unfinished = directory / f"{WEIGHTS_FILE}.unfinished"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, unfinished)
    unfinished.rename(directory / WEIGHTS_FILE)
    shutil.rmtree(directory / _STATE, ignore_errors=True)
    return directory


def build(config: ClipTrainConfig, merges: list[Merge], image: int = 56, patch: int = 8) -> Any:
    """open_clip's model with fresh weights of the seed."""
    import torch

    open_clip = import_open_clip()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return open_clip.CLIP(**_config(config, merges, image, patch), output_dict=True)


def tokenizer(path: pathlib.Path, context: int) -> Callable[[Sequence[str]], Any]:
    """open_clip's tokenizer with merges of one's own: texts -> `[n, context]`. Refuses texts that do not fit."""
    made = import_open_clip().tokenizer.SimpleTokenizer(bpe_path=str(path), context_length=context)

    def tokenize(texts: Sequence[str]) -> Any:
        for text in texts:
            if len(made.encode(text)) > context - 2:
                raise ValueError(f"{text!r} has more than the {context - 2} tokens of the context")
        return made(list(texts))

    return tokenize


def learning_rate(step: int, config: ClipTrainConfig) -> float:
    """Rises linearly, then falls to 0 as half a cosine."""
    warm = config.warmup * config.steps
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1.0, config.steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _loss(model: Any, config: ClipTrainConfig, pixels: Any, tokens: Any, truth: Any) -> Any:
    image, text = model.encode_image(pixels, normalize=True), model.encode_text(tokens, normalize=True)
    scale = model.logit_scale.exp()
    if config.loss == "siglip":
        return siglip_loss(image, text, scale, model.logit_bias, truth)
    return clip_loss(image, text, scale, truth)


def _groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _config(config: ClipTrainConfig, merges: list[Merge], image: int, patch: int) -> dict[str, Any]:
    siglip_batch = config.batch if config.loss == "siglip" else 0
    return model_config(config.size, vocabulary_size(merges), config.context, image, patch, siglip_batch)


def _preprocessing(image: int) -> dict[str, Any]:
    return {
        "size": [image, image],
        "mode": "RGB",
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }


def _check_settings(path: pathlib.Path, settings: dict[str, Any]) -> None:
    if not path.exists():
        path.write_text(json.dumps(settings, indent=2) + "\n")
        return
    # Models of before patches were recorded have 8.
    before = {"patch": 8} | json.loads(path.read_text())
    differences = [
        f"{name}: {before.get(name)} there, {value} now"
        for name, value in settings.items()
        if before.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"{path.parent} holds a model of other settings ({'; '.join(differences)}); choose another directory"
        )


class _State:
    """Weights and optimiser of a training that may be killed, as safetensors."""

    def __init__(self, directory: pathlib.Path, model: Any, optimiser: Any):
        self._directory, self._model, self._optimiser = directory, model, optimiser

    def save(self, step: int) -> None:
        from safetensors.torch import save_file

        tensors = {f"model/{name}": value.contiguous() for name, value in self._model.state_dict().items()}
        for index, state in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{name}": value for name, value in state.items()}
        self._directory.mkdir(exist_ok=True)
        unfinished = self._directory / "unfinished"
        save_file(tensors, unfinished, metadata={"step": str(step)})
        unfinished.rename(self._directory / "state.safetensors")

    def restore(self) -> int:
        """Loads the newest state; returns how many updates it has behind it."""
        from safetensors import safe_open

        path = self._directory / "state.safetensors"
        if not path.exists():
            return 0
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        weights = {name[6:]: value for name, value in tensors.items() if name.startswith("model/")}
        self._model.load_state_dict(weights)
        states: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser/"):
                _, index, entry = name.split("/")
                states.setdefault(int(index), {})[entry] = value
        self._optimiser.load_state_dict(self._optimiser.state_dict() | {"state": states})
        return step
