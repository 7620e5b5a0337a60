"""A reward model under the thresholds of a card."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ._scoring import head_settings as head_settings
from .card import Calibration


class ScoredModel(Protocol):
    """What `CalibratedReward` needs of a model: an `EncoderReward` whose head has no threshold.

    Attributes:
      name: of the model.
      version: hash of all that the scores depend on.
      encoder: with a `fingerprint`.
      head: a dataclass.
      goals: all that may be asked for.
    """

    name: str
    version: str
    encoder: Any
    head: Any
    goals: tuple[str, ...]

    def embed(self, frames: np.ndarray) -> np.ndarray:
        """Embeddings `[N, D]` of frames `[N, H, W, 3]`."""
        ...

    def score(self, embeddings: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """Scores `[N]` of embeddings `[N, D]`, each for its goal."""
        ...


class CalibratedReward:
    """Rewards 1 where a model's score reaches the threshold of the goal, 0 elsewhere and for abstained goals.

    A callable reward model, with the `embed` and `score` of an `EncoderReward`.

    Attributes:
      name: that of the model, marked.
      version: hash of the model's version and the card.
      goals: those of the model.
      card: the card.
      model: whose scores are compared with the thresholds.
    """

    def __init__(self, model: ScoredModel, card: Calibration, allow_abstained: bool = False):
        """Checks that the card is for this model.

        Args:
          model: as given by `EncoderReward`, its head without a threshold.
          card: must be for its encoder and head and cover its goals.
          allow_abstained: whether the model may have goals that will never be rewarded.

        Raises:
          CalibrationError: see `Calibration.check`.
        """
        card.check(model.encoder.fingerprint, model.goals, head_settings(model.head), allow_abstained)
        self.model, self.card, self.goals = model, card, tuple(model.goals)
        self.name = f"{model.name}, calibrated"
        about = json.dumps([model.version, card.to_json()])
        self.version = hashlib.blake2b(about.encode(), digest_size=16).hexdigest()
        self._thresholds = dict(zip(self.goals, card.levels(self.goals)))

    def embed(self, frames: np.ndarray) -> np.ndarray:
        """The model's embeddings `[N, D]` of frames uint8 `[N, H, W, 3]`."""
        return self.model.embed(frames)

    def score(self, embeddings: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """Rewards 0 or 1, float32 `[N]`, of embeddings `[N, D]`, each for its goal; errors are the model's."""
        scores = np.asarray(self.model.score(embeddings, goals), np.float64)
        return (scores >= [self._thresholds[goal] for goal in goals]).astype(np.float32)

    def __call__(self, frames: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """Rewards 0 or 1, float32 `[N]`, of frames uint8 `[N, H, W, 3]`, each for its goal."""
        return self.score(self.embed(frames), goals)
