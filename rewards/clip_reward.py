"""A CLIP as a reward model about a world of pictures, by name: `--reward limbeck.rewards.clip_reward:clip_reward`."""

from collections.abc import Sequence
from typing import Any, Literal

from .cache import CachedEncoder
from .calibrated import CalibratedReward
from .card import load_card
from .clip import OpenClip
from .contract import RewardError
from .encoder_reward import EncoderReward
from .heads import CosineHead, SigmoidHead, SoftmaxHead
from .jax_clip import JaxClip
from .worlds import world_of


def clip_reward(
    model: str,
    family: str = "lift",
    style: str = "state",
    head: str = "cosine",
    temperature: float = 0.01,
    card: str = "",
    in_jax: bool = False,
    precision: Literal["fp32", "bf16"] = "fp32",
    cache: int = 100_000,
    cache_directory: str = "",
) -> Any:
    """An `EncoderReward` of a CLIP about the goals of a family, calibrated where a card is given.

    Args:
      model: as `OpenClip` takes it, such as `local-dir:runs/clips/s`.
      family: `find`, `lift` or `place` of rooms, `open_common` or `open_diverse` of screens.
      style: of the goals' texts: `state` or `imperative`, and of screens `screenshot` or `imperative_app`.
      head: `cosine`; `softmax` over all goals of the family and what is true where none is (Baumli et al. 2024); or
        `sigmoid`, for models trained with SigLIP's loss, with the scale and bias that they learned.
      temperature: of the softmax.
      card: path of a calibration; it must be for this model and head.
      in_jax: the same network in JAX; it takes local directories.
      precision: of the network in PyTorch; `bf16` is some twice as fast on processors that have it, and needs a card of
        its own.
      cache: embeddings that are kept in memory.
      cache_directory: where embeddings are kept on disk too, for other processes and later runs.

    Raises:
      RewardError: an unknown family, style or head.
      ValueError: a model that cannot be loaded, or a card for something else.
    """
    if style not in world_of(family).styles:
        raise RewardError(
            f"a style of {family} is one of {', '.join(world_of(family).styles)}, got {style!r}"
        )
    goals = [goal.text(style) for goal in family_goals(family)]
    encoder: Any = _encoder(model, in_jax, precision)
    made = EncoderReward(
        CachedEncoder(encoder, cache, cache_directory or None),
        _head(head, goals, family, temperature, encoder),
        goals,
    )
    return CalibratedReward(made, load_card(card), allow_abstained=True) if card else made


def _encoder(model: str, in_jax: bool, precision: Literal["fp32", "bf16"]) -> Any:
    if in_jax and precision != "fp32":
        raise RewardError("the network in JAX is in fp32; leave precision out, or in_jax")
    return JaxClip(model.removeprefix("local-dir:")) if in_jax else OpenClip(model, precision)


def family_goals(family: str) -> list[Any]:
    """The goals of a family, in the order of its tasks. Raises `RewardError` for a family of no world."""
    return list(world_of(family).goals(family))


def _head(name: str, goals: Sequence[str], family: str, temperature: float, encoder: Any) -> Any:
    if name == "cosine":
        return CosineHead()
    if name == "softmax":
        return SoftmaxHead(
            negatives=tuple(goals), nulls=world_of(family).families[family], temperature=temperature
        )
    if name == "sigmoid":
        scale, bias = encoder.logit_scale, encoder.logit_bias
        if bias is None:
            raise RewardError("a sigmoid head is for models trained with SigLIP's loss; this one has no bias")
        return SigmoidHead(scale=scale, bias=bias)
    raise RewardError(f"a head is one of cosine, softmax, sigmoid, got {name!r}")
