"""The ladder: small CLIPs of several sizes on one recipe, trained by one call that goes on where it stopped."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..envs.captions import vocabulary
from ..envs.facts import NUM_OBJECTS, OBJECTS, neighbours
from ..envs.goals import Goal, split_goals
from .agreement import swapped_pair_accuracy
from .bootstrap import Estimate
from .bpe import learn_merges
from .caption_data import CaptionConfig, CaptionedFrames, walked_frames
from .clip import OpenClip
from .clip_sizes import SIZES
from .clip_training import ClipTrainConfig, train_clip
from .metrics import average_precision
from .pairs import Pairs
from .room_frames import Frames, goal_truth, render_frames


SCORES_FILE, CARD_FILE = "scores.json", "README.md"
# Updates of every size, so that all have seen as much. What binds colours to kinds comes after some 2000 of them.
STEPS = 3000
_COMPARED_EPISODES = 150


class _Encoder(Protocol):
    def encode_frames(self, frames: np.ndarray) -> np.ndarray: ...

    def encode_goals(self, texts: Sequence[str]) -> np.ndarray: ...


def train_ladder(
    directory: pathlib.Path,
    sizes: Sequence[str] = tuple(SIZES),
    captions: CaptionConfig | None = None,
    training: ClipTrainConfig | None = None,
) -> dict[str, dict[str, Any]]:
    """Trains what is missing of the ladder, compares every rung on episodes that none was trained on, writes cards.

    Args:
      directory: takes a model in a directory of its own for each size.
      sizes: of `clip_sizes.SIZES`.
      captions: what they see and read.
      training: how; without it with `STEPS` updates.

    Returns:
      What `compare` found of each size.

    Raises:
      ValueError: an unknown size, or a directory that holds models of other settings.
    """
    captions = captions or CaptionConfig()
    if unknown := set(sizes) - set(SIZES):
        raise ValueError(f"there is no size {sorted(unknown)[0]!r}; known: {', '.join(SIZES)}")
    merges = learn_merges(vocabulary())
    frames: Frames | None = None
    compared: Frames | None = None
    found = {}
    for size in sizes:
        config = dataclasses.replace(training or ClipTrainConfig(steps=STEPS), size=size)
        path = directory / size
        path.mkdir(parents=True, exist_ok=True)
        _check(path / "captions.json", dataclasses.asdict(captions))
        if not (path / SCORES_FILE).exists():
            frames = frames or walked_frames(captions, captions.episodes)
            train_clip(path, config, merges, CaptionedFrames(frames, captions, config.batch))
            compared = compared or walked_frames(captions, _COMPARED_EPISODES, split=1)
            scores = compare(OpenClip(f"local-dir:{path}"), compared, captions)
            (path / CARD_FILE).write_text(model_card(size, captions, config, scores))
            (path / SCORES_FILE).write_text(json.dumps(scores, indent=2) + "\n")
        found[size] = json.loads((path / SCORES_FILE).read_text())
    return found


def compare(encoder: _Encoder, frames: Frames, captions: CaptionConfig) -> dict[str, Any]:
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
            truth = goal_truth(goals, frames.facts)
            for style in ("state", "imperative"):
                texts = [goal.text(style) for goal in goals]
                scores = images @ encoder.encode_goals(texts).T
                pairs = Pairs.of(scores, truth, frames.episode, frames.time, texts)
                result[f"{name}.{split}.{style}"] = _estimate(average_precision(pairs))
    result["place.swapped"] = _estimate(_swapped(encoder, images, frames, set(train)))
    return result


def model_card(size: str, captions: CaptionConfig, training: ClipTrainConfig, scores: dict[str, Any]) -> str:
    """What a model is, what it was trained on, and how well it does, in Markdown."""
    rows = [
        f"| {name} | {value['value']:.3f} ({value['ci'][0]:.3f} to {value['ci'][1]:.3f}) |"
        for name, value in scores.items()
        if isinstance(value, dict)
    ]
    settings = {
        **dataclasses.asdict(training),
        **{f"captions.{k}": v for k, v in dataclasses.asdict(captions).items()},
    }
    return "\n".join(
        [
            f"# CLIP {size} of MiniGrid rooms",
            "",
            "A small image-text model of open_clip's, trained from scratch on frames of random walks in rendered rooms",
            "and captions made from the environment's true state. It knows nothing else. Load it with",
            "`local-dir:` and the path of this folder.",
            "",
            f"Compared on {scores['frames']} frames of {scores['episodes']} episodes that it was not trained on:",
            "average precision of goals (find: facing an object, lift: holding one), accuracy against captions with",
            "colours exchanged (place.swapped, chance 0.5), with 95 % intervals over episodes.",
            "",
            "| what | measured |",
            "|---|---|",
            *rows,
            "",
            "| setting | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in settings.items()),
            "",
        ]
    )


def _swapped(encoder: _Encoder, images: np.ndarray, frames: Frames, named: set) -> Estimate:
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


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": round(float(estimate.value), 4),
        "ci": [round(float(x), 4) for x in (estimate.low, estimate.high)],
    }


def _check(path: pathlib.Path, captions: dict[str, Any]) -> None:
    if path.exists() and (before := json.loads(path.read_text())) != captions:
        changed = [name for name, value in captions.items() if before.get(name) != value]
        raise ValueError(
            f"{path.parent} holds a model trained on other captions ({', '.join(changed)}); choose another directory"
        )
    path.write_text(json.dumps(captions, indent=2) + "\n")
