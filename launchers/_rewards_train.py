"""`limbeck rewards train`: small CLIPs of one's own world, a ladder of sizes."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Literal

from ..rewards.caption_data import CaptionConfig
from ..rewards.clip_sizes import SIZES
from ..rewards.clip_training import ClipTrainConfig
from ..rewards.ladder import STEPS, train_ladder
from ._usage import parse


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Trains CLIPs from scratch on rendered rooms and captions of their true state; the same again goes on.

    Attributes:
      out: directory; each size gets one of its own in it, which `local-dir:` loads.
      sizes: of the ladder, from about 55 thousand parameters (xxs) to 3.4 million (l).
      steps: updates; by default as many as binding colours to kinds takes.
      batch: images of an update.
      loss: `clip`, a softmax over the batch, or `siglip`, a sigmoid for each pair.
      seed: of the weights; that of the data is `captions.seed`.
      captions: what they see and read.
      json: print JSON.
    """

    out: pathlib.Path = pathlib.Path("runs/clips")
    sizes: tuple[str, ...] = tuple(SIZES)
    steps: int | None = None
    batch: int = 128
    loss: Literal["clip", "siglip"] = "clip"
    seed: int = 0
    captions: CaptionConfig = dataclasses.field(default_factory=CaptionConfig)
    json: bool = False


def train(arguments: Sequence[str]) -> None:
    """`limbeck rewards train [options]`."""
    options = parse(TrainOptions, "rewards train", arguments)
    found = {}
    for size in options.sizes:
        training = ClipTrainConfig(size, options.loss, options.steps or STEPS, options.batch, seed=options.seed)
        found |= train_ladder(options.out, [size], options.captions, training)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    names = (
        "find.train.state",
        "find.held_out.state",
        "lift.train.state",
        "lift.held_out.state",
        "place.swapped",
    )
    print(f"{'size':<6}" + "".join(f"{name:>22}" for name in names))
    for size, scores in found.items():
        print(f"{size:<6}" + "".join(f"{scores[name]['value']:>22.3f}" for name in names))
    print(f"average precision, and accuracy of place.swapped (chance 0.5); models are in {options.out}")
