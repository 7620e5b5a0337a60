"""What a world of pictures is to those who train, calibrate and judge CLIPs of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from .clip_training import CaptionedBatch
from .frames import Frames, pictures


class TextGoal(Protocol):
    """A goal that is told in words."""

    def text(self, style: str) -> str: ...


class Encoder(Protocol):
    """Of frames and texts, as `contract.FrameEncoder`, without a fingerprint."""

    def encode_frames(self, frames: np.ndarray) -> np.ndarray: ...

    def encode_goals(self, texts: Sequence[str]) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class World:
    """A domain of pictures, of which everything is known.

    Attributes:
      name: `rooms` or `screens`.
      title: what a model is of, in its card.
      sees: what a model has seen, in its card.
      measures: what `compare` measures, in its card.
      families: of goals, each with texts that are true where none of its goals is.
      styles: of the goals' texts.
      columns: scores of `compare` that tell most, for a table.
      image: height and width of the pictures in pixels.
      patch: of a ViT that sees them.
      steps: updates of a training, the same for every size, so that all have seen as much.
      words: `() -> texts` whose words are all that captions and goals say.
      captions: the frozen dataclass of the captions' settings; it has `held_out` and `seed`.
      environment: `(family, **arguments)` -> the pure-JAX environment with the family's `goals`.
      arguments: of the environment that `strata` takes, with what they are by default.
      walks: `(captions, episodes, split)` -> frames of random walks; split 0 for training, 1 to compare models on.
      strata: `(family, episodes, steps, seed, split, **arguments)` -> frames of the four kinds of
        episodes.
      read: symbols `[N, …]` to what is true of them, a tuple of arrays, NumPy's or JAX's.
      render: symbols with any leading axes to pictures, uint8 `[..., image, image, 3]`; jittable.
      batches: `(frames, captions, batch)` -> a function of an update's number that gives its batch.
      truth: `(goals, facts)` -> which goals are true of which frames, bool `[N, G]`.
      named: `(seed, held out)` -> whether captions of training may name a goal.
      compare: `(encoder, frames, captions)` -> what it scores on frames that it was not trained on: `frames`,
        `episodes`, and for each thing measured its `value` with its interval `ci`.
    """

    name: str
    title: str
    sees: str
    measures: str
    families: Mapping[str, tuple[str, ...]]
    styles: tuple[str, ...]
    columns: tuple[str, ...]
    image: int
    patch: int
    steps: int
    words: Callable[[], Sequence[str]]
    captions: type[Any]
    environment: Callable[..., Any]
    arguments: Mapping[str, Any]
    walks: Callable[[Any, int, int], Frames]
    strata: Callable[..., Frames]
    read: Callable[[np.ndarray], Any]
    render: Callable[[jax.Array], jax.Array]
    batches: Callable[[Frames, Any, int], Callable[[int], CaptionedBatch]]
    truth: Callable[[Sequence[Any], Any], np.ndarray]
    named: Callable[[int, int], Callable[[Any], bool]]
    compare: Callable[[Encoder, Frames, Any], dict[str, Any]]

    def goals(self, family: str) -> tuple[Any, ...]:
        """The goals of a family, `TextGoal`s, in the order of its tasks."""
        return tuple(self.environment(family).goals)

    def pictures(self, symbols: np.ndarray) -> np.ndarray:
        """uint8 `[N, image, image, 3]` of `[N, …]`, by a compiled `render`."""
        return pictures(self.render, symbols)
