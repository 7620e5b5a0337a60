"""A cautious ensemble: what several reward models agree on."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ._head import check_number
from .contract import RewardError, RewardModel, check_frames, check_goals, check_rewards, form_of


def lower_bound(scores: jax.Array, deviations: float) -> jax.Array:
    """`mean - deviations * std` over models, clipped at 0.

    Args:
      scores: float32 `[M, N]` in [0, 1], one row for each of M models.
      deviations: k, how many standard deviations (of the M scores, divided by M) below the mean.

    Returns:
      float32 `[N]` in [0, 1].
    """
    return jnp.clip(jnp.mean(scores, axis=0) - deviations * jnp.std(scores, axis=0), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class EnsembleReward:
    """Several reward models as one, a callable: the lower bound of their rewards.

    A frame that fools one of them pays little as long as the others disagree. Where the models differ in
    encoders, cache each encoder (`CachedEncoder`).

    Attributes:
      models: two or more callables.
      deviations: k of `lower_bound`, at least 0; 0 is the mean.
      threshold: the reward is 1 where the bound is above it, and 0 elsewhere; None: the bound itself.
    """

    models: Sequence[RewardModel]
    deviations: float = 1.0
    threshold: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "models", tuple(self.models))
        if len(self.models) < 2:
            raise RewardError(f"an ensemble has at least two models, got {len(self.models)}")
        for model in self.models:
            if form_of(model) != "callable":
                raise RewardError(
                    f"the models of an ensemble are callables, got a model of the form {form_of(model)}: {model!r}"
                )
        object.__setattr__(self, "deviations", check_number("deviations", self.deviations, 0))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", check_number("threshold", self.threshold, 0, 1))

    @property
    def name(self) -> str:
        """The names of all, joined."""
        return f"ensemble({', '.join(model.name for model in self.models)})"

    @property
    def version(self) -> str:
        """A hash of the models' names and versions and of the settings."""
        about = [[[model.name, model.version] for model in self.models], self.deviations, self.threshold]
        return hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()

    def __call__(self, frames: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """See `RewardModel`."""
        frames = check_frames(frames)
        goals = check_goals(goals, len(frames))
        scores = [check_rewards(model(frames, goals), len(frames), what=model.name) for model in self.models]
        bound = np.asarray(lower_bound(jnp.asarray(np.stack(scores)), self.deviations))
        return bound if self.threshold is None else (bound > self.threshold).astype(np.float32)
