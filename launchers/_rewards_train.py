"""`limbeck rewards train`: small CLIPs of a world of pictures, a ladder of sizes."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from ..rewards import worlds
from ..rewards.clip_sizes import SIZES
from ..rewards.clip_training import ClipTrainConfig
from ..rewards.ladder import STEPS, train_ladder
from ._usage import given, parse


C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class TrainOptions(Generic[C]):
    """Trains CLIPs from scratch on rendered pictures and captions of their true state; the same again goes on.

    Attributes:
      captions: what they see and read; each world has settings of its own.
      world: of the pictures: `rooms` or `screens`.
      out: directory; each size gets one of its own in it, which `local-dir:` loads.
      sizes: of the ladder, from about 55 thousand parameters (xxs) to 3.4 million (l).
      steps: updates; by default as many as a size needs.
      batch: images of an update.
      loss: `clip`, a softmax over the batch, or `siglip`, a sigmoid for each pair.
      seed: of the weights; that of the data is `captions.seed`.
      json: print JSON.
    """

    captions: C
    world: str = "rooms"
    out: pathlib.Path = pathlib.Path("runs/clips")
    sizes: tuple[str, ...] = tuple(SIZES)
    steps: int | None = None
    batch: int = 128
    loss: Literal["clip", "siglip"] = "clip"
    seed: int = 0
    json: bool = False


def train(arguments: Sequence[str]) -> None:
    """`limbeck rewards train [options]`."""
    world = worlds.world(given(arguments, "world") or "rooms")
    captions: Any = world.captions
    options = parse(
        TrainOptions[captions], "rewards train", arguments, default=TrainOptions(captions(), world.name)
    )
    found = {}
    for size in options.sizes:
        steps = options.steps or STEPS.get(size, 1)
        training = ClipTrainConfig(size, options.loss, steps, options.batch, seed=options.seed)
        found |= train_ladder(options.out, [size], options.captions, training, world.name)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    width = 3 + max(map(len, world.columns))
    print(f"{'size':<6}" + "".join(f"{name:>{width}}" for name in world.columns))
    for size, scores in found.items():
        print(f"{size:<6}" + "".join(f"{scores[name]['value']:>{width}.3f}" for name in world.columns))
    print(" ".join(f"{world.measures}; models are in {options.out}".split()))
