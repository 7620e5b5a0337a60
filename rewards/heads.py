"""Heads over one frame: scores in [0, 1] from the unit vectors of a frame and of texts.

All are frozen dataclasses in pure JAX and fit `limbeck.rewards.contract.Head`. A threshold is in the units of the
score that the same head gives without one, so what is calibrated on raw scores can be put in as it is.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._head import PerGoal, ThresholdedHead, check_number, of_goal, pairs
from .contract import RewardError, check_embeddings


Negatives = Sequence[str] | Mapping[str, Sequence[str]] | PerGoal


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftmaxHead(ThresholdedHead):
    """The probability of the goal among itself and its negatives.

    The softmax over cosines divided by a temperature, taken at the goal. Source: Baumli et al. 2024, "Vision-Language
    Models as a Source of Rewards" (arXiv 2312.09187), equations 1 and 2. The negatives are fixed for the run, as
    there, so that the reward does not change while an agent learns from it.

    Where no text is true of a frame the probability has to go somewhere; give texts for that case in `nulls`. A
    negative that may be true together with the goal takes its probability away.

    Attributes:
      negatives: texts for all goals, or goal -> texts (`family_negatives`, `sample_negatives`). One equal to the goal
        is left out, and so is a repetition.
      nulls: texts beside every goal's negatives, such as "holding nothing".
      temperature: tau, above 0. CLIP was trained with 0.01, which is over-confident here: tune it with beta.
    """

    negatives: Negatives = ()
    nulls: Sequence[str] = ()
    temperature: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "negatives", _checked_negatives(self.negatives))
        object.__setattr__(self, "nulls", _checked_texts("nulls", self.nulls))
        object.__setattr__(self, "temperature", check_number("temperature", self.temperature, 0, above=True))

    def candidates(self, goal: str) -> tuple[str, ...]:
        """The texts among which a goal is chosen: itself, its negatives, the nulls.

        Raises:
          RewardError: the goal has no list of negatives, or nothing but itself is left.
        """
        given: Any = self.negatives
        if not all(isinstance(text, str) for text in given):
            given = of_goal("negatives", dict(given), goal)
        found = tuple(dict.fromkeys([goal, *given, *self.nulls]))
        if len(found) == 1:
            raise RewardError(
                f"the goal {goal!r} has no negatives, so its probability would always be 1: give negatives or nulls"
            )
        return found

    def _texts(self, goals: list[str], encode: Callable[[Sequence[str]], Any]) -> dict[str, jax.Array]:
        candidates = [self.candidates(goal) for goal in goals]
        places = {
            text: i for i, text in enumerate(dict.fromkeys(text for each in candidates for text in each))
        }
        vectors = _encoded(encode, list(places))
        width = max(map(len, candidates))
        # A shorter list is filled with the goal itself, which `present` leaves out of the sum.
        index = np.asarray(
            [[places[text] for text in (*each, *each[:1] * (width - len(each)))] for each in candidates]
        )
        present = np.asarray([[i < len(each) for i in range(width)] for each in candidates])
        return {"texts": jnp.asarray(vectors[index]), "present": jnp.asarray(present)}

    def _score(self, own: dict[str, jax.Array], frame: jax.Array) -> jax.Array:
        logits = jnp.where(own["present"], own["texts"] @ frame / self.temperature, -jnp.inf)
        return jax.nn.softmax(logits)[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChanceClippedHead(SoftmaxHead):
    """`max(p - 1/N, 0)`, p of `SoftmaxHead` among N texts: nothing is paid for what chance would give.

    Source: Fan et al. 2022, "MineDojo" (arXiv 2206.08853), the reward of MineCLIP. The highest score is 1 - 1/N.
    """

    def _score(self, own: dict[str, jax.Array], frame: jax.Array) -> jax.Array:
        return jnp.maximum(super()._score(own, frame) - 1 / jnp.sum(own["present"]), 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineHead(ThresholdedHead):
    """`(1 + c) / 2`, c the cosine of frame and goal: 1 where they point the same way, 0 where opposite ways."""

    def _texts(self, goals: list[str], encode: Callable[[Sequence[str]], Any]) -> dict[str, jax.Array]:
        return {"goal": jnp.asarray(_encoded(encode, goals))}

    def _score(self, own: dict[str, jax.Array], frame: jax.Array) -> jax.Array:
        return _to_unit(own["goal"] @ frame)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoalBaselineHead(ThresholdedHead):
    """Goal-baseline regularisation: the part of a frame that does not lead from the baseline to the goal counts less.

    With goal g, baseline b, frame s, and L the line through b and g, the score is `(1 + r) / 2` of
    `r = 1 - |alpha * proj_L(s) + (1 - alpha) * s - g|^2 / 2`. Source: Rocamonde et al. 2024, "Vision-Language Models
    are Zero-Shot Reward Models for Reinforcement Learning" (arXiv 2310.12921), definition 1. With alpha 0 it is
    `CosineHead`.

    Attributes:
      baseline: a text about the scene without the goal, for all goals, or goal -> text.
      alpha: from 0 (nothing is projected) to 1 (only what lies along L counts).
    """

    baseline: str | Mapping[str, str] | PerGoal = ""
    alpha: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.baseline, str):
            object.__setattr__(self, "baseline", pairs(self.baseline))
        if not self.baseline:
            raise RewardError(
                "baseline is a text about the scene without the goal, such as 'a room'; got none"
            )
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, 0, 1))

    def _texts(self, goals: list[str], encode: Callable[[Sequence[str]], Any]) -> dict[str, jax.Array]:
        given = self.baseline
        baselines = [
            given if isinstance(given, str) else of_goal("baseline", dict(given), goal) for goal in goals
        ]
        vectors = _encoded(encode, [*goals, *baselines])
        of_goals, of_baselines = np.split(vectors, 2)
        lengths = np.linalg.norm(of_goals - of_baselines, axis=1, keepdims=True)
        if lengths.min() < 1e-6:
            same = goals[int(np.argmin(lengths))]
            raise RewardError(
                f"the goal {same!r} and its baseline have the same embedding: choose another baseline"
            )
        return {"goal": jnp.asarray(of_goals), "along": jnp.asarray((of_goals - of_baselines) / lengths)}

    def _score(self, own: dict[str, jax.Array], frame: jax.Array) -> jax.Array:
        # g lies on L, so the projection of s less g is the projection of s - g on the direction of L.
        off = frame - own["goal"]
        along = jnp.dot(off, own["along"]) * own["along"]
        rest = self.alpha * along + (1 - self.alpha) * off
        return _to_unit(1 - 0.5 * jnp.sum(jnp.square(rest)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SigmoidHead(ThresholdedHead):
    """`sigmoid(scale * c + bias)`, c the cosine of frame and goal.

    A probability for each text alone: several may be true, or none. Source: Zhai et al. 2023, "Sigmoid Loss for
    Language Image Pre-Training" (arXiv 2303.15343), section 3.2.

    Attributes:
      scale: above 0; for weights trained with that loss `exp(logit_scale)`. It begins at 10 there.
      bias: `logit_bias` of such weights. It begins at -10 there.
    """

    scale: float = 10.0
    bias: float = -10.0

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "scale", check_number("scale", self.scale, 0, above=True))
        object.__setattr__(self, "bias", check_number("bias", self.bias))

    def _texts(self, goals: list[str], encode: Callable[[Sequence[str]], Any]) -> dict[str, jax.Array]:
        return {"goal": jnp.asarray(_encoded(encode, goals))}

    def _score(self, own: dict[str, jax.Array], frame: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.scale * jnp.dot(own["goal"], frame) + self.bias)


def _to_unit(score: jax.Array) -> jax.Array:
    """[-1, 1] to [0, 1]; rounding may leave a cosine a little outside."""
    return jnp.clip(0.5 * (1 + score), 0.0, 1.0)


def _encoded(encode: Callable[[Sequence[str]], Any], texts: list[str]) -> np.ndarray:
    return check_embeddings(encode(texts), len(texts), "encoder: goals")


def _checked_negatives(negatives: Any) -> Any:
    if isinstance(negatives, Mapping) or (negatives and not any(isinstance(text, str) for text in negatives)):
        return tuple(
            (goal, _checked_texts(f"negatives of {goal!r}", texts)) for goal, texts in pairs(negatives)
        )
    return _checked_texts("negatives", negatives)


def _checked_texts(what: str, texts: Any) -> tuple[str, ...]:
    if isinstance(texts, str) or not all(isinstance(text, str) and text for text in texts):
        raise RewardError(f"{what} is a list of texts, got {texts!r}")
    return tuple(texts)
