"""Captioned frames of Rooms: what small CLIPs are trained on, made from the environment's true state."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..envs.captions import Caption, captions, swap, truth_matrix
from ..envs.facts import NUM_OBJECTS, OBJECTS, FactArrays, Facts, Object, neighbours, to_facts
from ..envs.goals import split_goals
from .clip_training import CaptionedBatch
from .frames import Frames
from .room_frames import FAMILIES, random_walks, render_frames


# What a batch is about, as far as there is any of each: rare things must be seen and named, too.
TOPICS = ("hold", "face", "next_to", "any")
_SWAPS = ("color", "object", "predicate")


@dataclasses.dataclass(frozen=True)
class CaptionConfig:
    """What small CLIPs see and read.

    Attributes:
      episodes: of random walks, for each of the three families of Rooms.
      steps: of an episode.
      size: cells a side of the rooms.
      objects: in a room.
      held_out: objects (colour and kind) that no caption of training names.
      beside: share of the captions that say what lies beside what; the other topics share the rest.
      complete: share of the captions that join two or three facts.
      swaps: hard negatives of a batch, as a share of its images.
      imperative: share of the statements that are said as an instruction, where they can be.
      seed: of the split, the episodes and the captions.
    """

    episodes: int = 3000
    steps: int = 40
    size: int = 6
    objects: int = 5
    held_out: int = 3
    beside: float = 0.4
    complete: float = 0.25
    swaps: float = 1.0
    imperative: float = 0.25
    seed: int = 0

    def __post_init__(self):
        for name in ("beside", "complete", "imperative"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, in 0 to 1; got {getattr(self, name)}")
        if not 0 <= self.swaps <= 2:
            raise ValueError(f"swaps is negatives for each image, in 0 to 2; got {self.swaps}")
        for name in ("episodes", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def walked_frames(config: CaptionConfig, episodes: int, split: int = 0) -> Frames:
    """Random walks in rooms of all families: split 0 for training, 1 to compare models on."""
    return random_walks(FAMILIES, episodes, config.steps, config.size, config.objects, config.seed, split)


class CaptionedFrames:
    """Batches of frames with captions, hard negatives and the truth of each about each.

    Args:
      frames: to draw from.
      config: of the captions.
      batch: images of a batch.
    """

    def __init__(self, frames: Frames, config: CaptionConfig, batch: int):
        self._frames, self._config, self._batch = frames, config, batch
        train, _ = split_goals(config.seed, config.held_out)
        self._objects: Sequence[Object] = tuple(sorted(train))
        self._strata = _strata(frames.facts)
        beside = [topic == "next_to" for topic, _ in self._strata]
        rest = (1 - config.beside * any(beside)) / max(1, len(beside) - sum(beside))
        shares = np.where(beside, config.beside, rest)
        self._shares = shares / shares.sum()

    def __call__(self, step: int) -> CaptionedBatch:
        """The batch of an update; the same for the same number."""
        rng = np.random.default_rng([self._config.seed, step])
        rows, said, seen = self._draw(rng)
        said += self._negatives(said, seen, rng)
        facts = FactArrays(*(part[rows] for part in self._frames.facts))
        pictures = render_frames(self._frames.symbols[rows])
        return CaptionedBatch(pictures, [caption.text for caption in said], truth_matrix(said, facts))

    def _negatives(self, said: list[Caption], seen: list[Facts], rng: np.random.Generator) -> list[Caption]:
        """Swapped captions that are false of their own image; only those are hard.

        What lies beside what has its colours and its kinds exchanged, and comes first: nothing else is as hard to
        tell from the truth, and a model that is seldom shown it learns a bag of words.
        """
        of_pairs: list[Caption] = []
        others: list[Caption] = []
        for i in rng.permutation(len(said)):
            pairs = any(literal.predicate == "next_to" for literal in said[i].literals)
            for kind in ("color", "object") if pairs else (str(rng.choice(_SWAPS)),):
                negative = swap(said[i], kind)
                if negative is not None and not negative.is_true(seen[i]):
                    (of_pairs if pairs else others).append(negative)
        return (of_pairs + others)[: round(self._config.swaps * self._batch)]

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, list[Caption], list[Facts]]:
        """Frames of which something may be said, what is said of each, and what is true of each."""
        rows: list[int] = []
        said: list[Caption] = []
        seen: list[Facts] = []
        while len(rows) < self._batch:
            topic, stratum = self._strata[int(rng.choice(len(self._strata), p=self._shares))]
            row = int(stratum[rng.integers(len(stratum))])
            facts = to_facts(FactArrays(*(part[row] for part in self._frames.facts)))
            caption = self._say(topic, facts, rng)
            if caption is not None:
                rows.append(row)
                said.append(caption)
                seen.append(facts)
        return np.array(rows), said, seen

    def _say(self, topic: str, facts: Facts, rng: np.random.Generator) -> Caption | None:
        complete = bool(rng.random() < self._config.complete)
        choice = captions(facts, rng, complete, self._objects, self._config.imperative)
        if topic != "any":
            # What names nothing, or says what is not, is true of most frames and tells little.
            choice = [caption for caption in choice if _names(caption, topic)]
        return choice[int(rng.integers(len(choice)))] if choice else None


def _names(caption: Caption, predicate: str) -> bool:
    """Whether a caption says that something is held, faced, or next to something."""
    return any(
        literal.predicate == predicate
        and literal.positive
        and all(thing in OBJECTS for thing in literal.objects)
        for literal in caption.literals
    )


def _strata(facts: FactArrays) -> list[tuple[str, np.ndarray]]:
    """Each topic with the rows of the frames that it can be said of, where there are any."""
    found = {
        "hold": np.flatnonzero(facts.holding < NUM_OBJECTS),
        "face": np.flatnonzero(facts.facing < NUM_OBJECTS),
        "next_to": np.flatnonzero(neighbours(facts.floor).any((1, 2))),
        "any": np.arange(len(facts.holding)),
    }
    return [(topic, found[topic]) for topic in TOPICS if len(found[topic])]
