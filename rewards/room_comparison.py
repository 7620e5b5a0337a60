"""How well a CLIP of rooms tells what is true of frames that it was not trained on."""

import itertools
from typing import Any

import numpy as np

from ..envs.facts import NUM_OBJECTS, OBJECTS, neighbours
from ..envs.goals import STYLES, Goal, split_goals
from ._world import Encoder
from .agreement import swapped_pair_accuracy
from .bootstrap import Estimate
from .caption_data import CaptionConfig
from .frames import Frames
from .goal_precision import goal_precision
from .room_frames import goal_truth, render_frames


def compare(encoder: Encoder, frames: Frames, captions: CaptionConfig) -> dict[str, Any]:
    """How well cosines tell what is true, by frames of episodes that the encoder was not trained on.

    Args:
      encoder: of frames and texts.
      frames: of whole episodes.
      captions: of its training; its split says which objects were held out.

    Returns:
      Average precision of "facing" and "holding" goals about objects of training and about held-out ones, of the
      texts that describe the state and of instructions; and the accuracy on *Place* captions against the same with
      the colours exchanged (chance is 0.5). Each with its interval over episodes.
    """
    images = encoder.encode_frames(render_frames(frames.symbols))
    train, held_out = (
        sorted(objects, key=OBJECTS.index) for objects in split_goals(captions.seed, captions.held_out)
    )
    result: dict[str, Any] = {"frames": len(images), "episodes": int(frames.episode.max()) + 1}
    for name, predicate in (("find", "face"), ("lift", "hold")):
        for split, objects in (("train", train), ("held_out", held_out)):
            goals = [Goal(predicate, *thing) for thing in objects]
            found = goal_precision(encoder, images, frames, goals, goal_truth(goals, frames.facts), STYLES)
            result |= {f"{name}.{split}.{style}": value for style, value in found.items()}
    result["place.swapped"] = _swapped(encoder, images, frames, set(train)).rounded()
    return result


def _swapped(encoder: Encoder, images: np.ndarray, frames: Frames, named: set) -> Estimate:
    """Of every pair of neighbours of two colours and kinds in view, the true caption against the swapped one."""
    beside = neighbours(frames.facts.floor)
    true, swapped, episodes = [], [], []
    texts: dict[str, int] = {}
    for i, j in itertools.combinations(range(NUM_OBJECTS), 2):
        (a, kind_a), (b, kind_b) = OBJECTS[i], OBJECTS[j]
        if a == b or kind_a == kind_b or not {OBJECTS[i], OBJECTS[j], (b, kind_a), (a, kind_b)} <= named:
            continue
        other = beside[:, OBJECTS.index((b, kind_a)), OBJECTS.index((a, kind_b))]
        rows = np.flatnonzero(beside[:, i, j] & ~other)
        places = [
            texts.setdefault(Goal("next_to", *first, *second).text("state"), len(texts))
            for first, second in ((OBJECTS[i], OBJECTS[j]), ((b, kind_a), (a, kind_b)))
        ]
        true += [(row, places[0]) for row in rows]
        swapped += [(row, places[1]) for row in rows]
        episodes += frames.episode[rows].tolist()
    vectors = encoder.encode_goals(list(texts))
    scores = [
        np.einsum("nd,nd->n", images[[row for row, _ in side]], vectors[[place for _, place in side]])
        for side in (true, swapped)
    ]
    return swapped_pair_accuracy(scores[0], scores[1], episodes)
