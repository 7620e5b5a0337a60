"""The ladder: small CLIPs of several sizes on one recipe, trained by one call that goes on where it stopped."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from . import worlds
from .bpe import learn_merges
from .clip import OpenClip
from .clip_sizes import SIZES
from .clip_training import ClipTrainConfig, train_clip
from .frames import Frames
from .worlds import World


SCORES_FILE, CARD_FILE = "scores.json", "README.md"
_COMPARED_EPISODES = 150


def train_ladder(
    directory: pathlib.Path,
    sizes: Sequence[str] = tuple(SIZES),
    captions: Any = None,
    training: ClipTrainConfig | None = None,
    world: str = "rooms",
) -> dict[str, dict[str, Any]]:
    """Trains what is missing of the ladder, compares every rung on episodes that none was trained on, writes cards.

    Args:
      directory: takes a model in a directory of its own for each size.
      sizes: of `clip_sizes.SIZES`.
      captions: what they see and read, a `captions` of the world.
      training: how; without it every size has as many updates as the world says.
      world: of the pictures, `rooms` or `screens`.

    Returns:
      What `compare` found of each size.

    Raises:
      ValueError: an unknown size or world, captions of another world, or a directory with models of other settings.
    """
    seen = worlds.world(world)
    captions = captions or seen.captions()
    if not isinstance(captions, seen.captions):
        raise ValueError(
            f"the captions of {world} are a {seen.captions.__name__}, got a {type(captions).__name__}"
        )
    if unknown := set(sizes) - set(SIZES):
        raise ValueError(f"there is no size {sorted(unknown)[0]!r}; known: {', '.join(SIZES)}")
    merges = learn_merges(seen.words())
    frames: Frames | None = None
    compared: Frames | None = None
    found = {}
    for size in sizes:
        config = dataclasses.replace(training or ClipTrainConfig(steps=seen.steps), size=size)
        path = directory / size
        path.mkdir(parents=True, exist_ok=True)
        _check(path / "captions.json", {"world": world} | dataclasses.asdict(captions))
        if not (path / SCORES_FILE).exists():
            frames = frames or seen.walks(captions, captions.episodes, 0)
            batches = seen.batches(frames, captions, config.batch)
            train_clip(path, config, merges, batches, seen.image, seen.patch)
            compared = compared or seen.walks(captions, _COMPARED_EPISODES, 1)
            scores = seen.compare(OpenClip(f"local-dir:{path}"), compared, captions)
            (path / CARD_FILE).write_text(model_card(seen, size, captions, config, scores))
            (path / SCORES_FILE).write_text(json.dumps(scores, indent=2) + "\n")
        found[size] = json.loads((path / SCORES_FILE).read_text())
    return found


def model_card(
    world: World, size: str, captions: Any, training: ClipTrainConfig, scores: dict[str, Any]
) -> str:
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
            f"# CLIP {size} of {world.title}",
            "",
            f"A small image-text model of open_clip's, trained from scratch on {world.sees}",
            "and captions made from the environment's true state. It knows nothing else. Load it with",
            "`local-dir:` and the path of this folder.",
            "",
            f"Compared on {scores['frames']} frames of {scores['episodes']} episodes that it was not trained on:",
            f"{world.measures}, with 95 % intervals over episodes.",
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


def _check(path: pathlib.Path, captions: dict[str, Any]) -> None:
    # Before there were worlds there were rooms.
    if path.exists() and (before := {"world": "rooms"} | json.loads(path.read_text())) != captions:
        changed = [name for name, value in captions.items() if before.get(name) != value]
        raise ValueError(
            f"{path.parent} holds a model trained on other captions ({', '.join(changed)}); choose another directory"
        )
    path.write_text(json.dumps(captions, indent=2) + "\n")
