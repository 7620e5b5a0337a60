"""Zorro in small: contrastive learning with the mask and without it, on three trunks.

python -m benchmarks.zorro                     # three trunks, masked and not, three seeds; resumed from its files
python -m benchmarks.zorro --quick             # the whole path in small, for a check

Sets: `spoken`, pictures with spoken names (Debian's `tuxpaint-stamps-default`, `espeak-ng`; prepared first where they
are not, some twenty minutes), and `episodes`, windows of agents' random walks among beeping boxes. All evaluation is by
unimodal inference, the other modality's tokens physically absent, but for what is said to see both. What has learned
without labels is then fine-tuned to tell categories, beside a network from scratch.
"""

import argparse
import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from limbeck.encoders import (
    HiPTrunk,
    Recipe,
    SwinTrunk,
    TrainConfig,
    TrainState,
    ViTTrunk,
    ZorroConfig,
    both_ways,
    cosines,
    pretrain,
    shuffled,
    zorro_contrastive,
    zorro_supervised,
)
from limbeck.encoders.probes import Labelled, linear

from ._machine import RESULTS, circumstances, write
from ._seeds import over_seeds
from ._stages import kept
from ._zorro_sets import AudioVisual, Examples, episodes, spoken


TRUNKS = {
    "vit": ViTTrunk(num_layers=2, d_model=64, num_heads=4, feed_forward=128),
    "swin": SwinTrunk(token_width=32, depths=(2, 2), num_heads=(2, 4), window=(4, 4, 4), widening=2),
    "hip": HiPTrunk(
        groups=(8, 1, 8), self_attentions=(1, 1, 1), latents=(4, 16, 4), channels=(64, 96, 64), heads=(4, 4, 4),
        token_width=64, fusion_groups=2, widening=2,
    ),
}  # fmt: skip
KINDS = {"masked": True, "unmasked": False}
SCRATCH = "from scratch"
# Updates and peak rate without labels, by set.
TRAINING = {"spoken": (1500, 3e-3), "episodes": (600, 1e-3)}
_TUNING = TrainConfig(
    steps=300, learning_rate=1e-3, warmup_steps=30, weight_decay=0.05, log_every=300, steps_per_call=10
)
_PROBE = TrainConfig(
    steps=600, learning_rate=1e-3, warmup_steps=50, b2=0.999, clip_norm=None, steps_per_call=100
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=("spoken", "episodes"), default=["spoken", "episodes"])
    parser.add_argument("--trunks", nargs="+", choices=tuple(TRUNKS), default=list(TRUNKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="updates of 128 examples, if not as many as the set says")
    parser.add_argument(
        "--tuned", nargs="*", choices=tuple(TRUNKS), default=["vit"], help="to fine-tune, on spoken"
    )
    parser.add_argument("--spoken", type=pathlib.Path, default=pathlib.Path("runs/spoken_pictures"))
    parser.add_argument("--episodes", type=int, default=4096, help="to learn from")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("runs/zorro"))
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "zorro.json")
    parser.add_argument("--quick", action="store_true", help="20 updates, one seed, episodes only")
    given = parser.parse_args()
    if given.quick:
        given.sets, given.seeds, given.steps, given.episodes = ["episodes"], 1, 20, 512
        given.directory, given.json = given.directory / "quick", given.directory / "quick" / "zorro.json"
    result = circumstances("zorro") | {"settings": {key: str(value) for key, value in vars(given).items()}}
    for name in given.sets:
        result[name] = {}
        for trunk in given.trunks:
            for kind in (*KINDS, *([SCRATCH] if name == "spoken" and trunk in given.tuned else [])):
                runs = [_run(given, name, trunk, kind, seed) for seed in range(given.seeds)]
                result[name][f"{trunk}, {kind}"] = summary(runs)
        result[name]["baselines"] = summary([_baselines(given, name, seed) for seed in range(given.seeds)])
        _print(name, result[name])
        write(given.json, result)


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and interval over seeds by measure, and every seed's own."""
    means = {name: over_seeds([run[name] for run in runs]) for name in runs[0]}
    return means | {"seeds": runs}


@functools.lru_cache(maxsize=1)
def _set(given_spoken: pathlib.Path, given_episodes: int, name: str, seed: int) -> AudioVisual:
    return spoken(given_spoken, seed) if name == "spoken" else episodes(given_episodes, seed)


def _run(given: argparse.Namespace, name: str, trunk: str, kind: str, seed: int) -> dict[str, float]:
    steps, rate = given.steps or TRAINING[name][0], TRAINING[name][1]
    path = given.directory / f"{name}_{trunk}_{kind.replace(' ', '_')}_{steps}_{seed}.json"

    def make() -> dict[str, float]:
        began = time.perf_counter()
        data = _set(given.spoken, given.episodes, name, seed)
        if kind == SCRATCH:
            found = fine_tuned(data, _config(data, trunk), seed, None)
        else:
            setup, state, loss = learn(data, _config(data, trunk, KINDS[kind]), seed, steps, rate)
            found = {"loss": loss} | measure(setup, state, data)
            if data.probes and trunk in given.tuned:
                found |= fine_tuned(data, _config(data, trunk, KINDS[kind]), seed, state.params)
        return found | {"seconds": round(time.perf_counter() - began, 1)}

    found = kept(path, make)
    print(f"{name} {trunk} {kind} seed {seed}: {found}", flush=True)
    return found


def _config(data: AudioVisual, trunk: str, masked: bool = True) -> ZorroConfig:
    return ZorroConfig(
        data.modalities[trunk],
        TRUNKS[trunk],
        fusion_tokens=4,
        masked=masked,
        readout_width=64,
        readout_heads=4,
    )


def learn(
    data: AudioVisual, config: ZorroConfig, seed: int, steps: int, rate: float
) -> tuple[Recipe, TrainState, float]:
    """Trains a network without labels; what it is, what it became, and its last loss."""
    batch = data.batches(128, seed)
    inputs = {key: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for key, x in batch(0).items()}
    training = TrainConfig(
        steps=steps, learning_rate=rate, warmup_steps=min(50, steps // 2), weight_decay=0.05, seed=seed,
        log_every=10, steps_per_call=10,
    )  # fmt: skip
    setup = zorro_contrastive.recipe("zorro_benchmark", config, inputs, data.views, (128, 64), training, 128)
    losses: list[float] = []
    state = pretrain(setup, batch, callbacks=[lambda step, state, metrics: losses.append(metrics["loss"])])
    return setup, state, losses[-1]


def fine_tuned(data: AudioVisual, config: ZorroConfig, seed: int, initial: Any) -> dict[str, float]:
    """How many categories a network tells, fine-tuned with labels from `initial`, or trained from nothing."""
    split = data.probes["new pictures"]
    classes = int(max(split.train_labels.max(), split.test_labels.max())) + 1
    labels = np.eye(classes, dtype=np.float32)[split.train_labels]
    examples = {"vision": split.train.vision, "audio": split.train.audio, "labels": labels}
    inputs = {
        name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in examples.items() if name != "labels"
    }
    training = dataclasses.replace(_TUNING, seed=seed)
    setup = zorro_supervised.recipe(
        "zorro_categories", config, inputs, data.views, classes, training, 64, missing=0.25
    )
    state = pretrain(setup, shuffled(examples, 64, seed), initial=initial)

    @jax.jit
    def logits(params, views):
        return setup.transformed.apply(params, state.network_state, None, views, False)[0]["logits"]

    found = {}
    for task, test in data.probes.items():
        for senses in (("vision",), ("audio",), ("vision", "audio")):
            scores = in_parts(lambda views: logits(state.params, views), test.test, senses)
            right = float(np.mean(scores.argmax(axis=1) == test.test_labels))
            found[f"{task}, fine-tuned, {' and '.join(senses)}"] = right
    return found


def in_parts(function: Any, examples: Examples, senses: Sequence[str]) -> np.ndarray:
    """A function of plain views, of 128 examples at a time, on those senses alone."""
    plain = {"vision": lambda x: x.astype(np.float32) / 127.5 - 1, "audio": lambda x: x}
    views = {name: plain[name](getattr(examples, name)) for name in senses}
    starts = range(0, len(examples.ids), 128)
    return np.concatenate(
        [np.asarray(function({name: x[i : i + 128] for name, x in views.items()})) for i in starts]
    )


def measure(setup: Recipe, state: TrainState, data: AudioVisual) -> dict[str, float]:
    """Retrieval and spread of held-out examples by unimodal inference, and probes of every readout."""

    @jax.jit
    def outputs(params, views):
        return setup.transformed.apply(params, state.network_state, None, views, False)[0]

    def read(examples: Examples, senses: tuple[str, ...], readout: str, part: str) -> np.ndarray:
        return in_parts(lambda views: outputs(state.params, views)[readout][part], examples, senses)

    heard, seen = (read(data.held_out, (name,), name, "projection") for name in ("audio", "vision"))
    found, _ = both_ways(cosines(heard, seen), data.held_out.ids, data.held_out.ids, (1, 5))
    measured = {
        "audio to vision at 1": found.recall[1],
        "audio to vision at 5": found.recall[5],
        "spread of audio": spread(heard),
        "spread of vision": spread(seen),
    }
    sees = {"vision": ("vision",), "audio": ("audio",), "fusion": ("vision", "audio")}
    for task, split in data.probes.items():
        for readout, senses in sees.items():
            features = [read(part, senses, readout, "features") for part in (split.train, split.test)]
            measured[f"{task}, {readout}"] = _probed(*features, split)
    return measured


def spread(embeddings: np.ndarray) -> float:
    """How far unit vectors `[N, D]` are apart: 1 less the squared length of their mean. 0 where all are one."""
    units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
    return float(1 - np.square(units.mean(axis=0)).sum())


def _probed(train: np.ndarray, test: np.ndarray, split: Any) -> float:
    return linear(Labelled(train, split.train_labels), Labelled(test, split.test_labels), _PROBE).score


def _baselines(given: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    """What chance gives, and probes of colour histograms and of the mean log-mel frame."""
    data = _set(given.spoken, given.episodes, name, seed)
    ids = data.held_out.ids
    chance, _ = both_ways(np.zeros((len(ids), len(ids))), ids, ids, (1, 5))
    found = {"audio to vision at 1": chance.chance_recall[1], "audio to vision at 5": chance.chance_recall[5]}
    for task, split in data.probes.items():
        colours = [_histogram(part.vision) for part in (split.train, split.test)]
        means = [part.audio.mean(axis=1) for part in (split.train, split.test)]
        both = [np.concatenate(pair, axis=1) for pair in zip(colours, means)]
        rows = {"vision": colours, "audio": means, "fusion": both}
        found |= {f"{task}, {readout}": _probed(*features, split) for readout, features in rows.items()}
        values, counts = np.unique(split.train_labels, return_counts=True)
        found[f"{task}, most frequent"] = float((split.test_labels == values[counts.argmax()]).mean())
    return found


def _histogram(pictures: np.ndarray) -> np.ndarray:
    """float32 `[N, 64]`: shares of pixels in 4 x 4 x 4 bins of RGB."""
    bins = (pictures.reshape(len(pictures), -1, 3) // 64).astype(np.int64) @ np.array([16, 4, 1])
    return np.stack([np.bincount(row, minlength=64) / len(row) for row in bins]).astype(np.float32)


def _print(name: str, found: dict[str, Any]) -> None:
    measures = [key for key in next(iter(found.values())) if key not in ("seeds", "seconds")]
    print(name)
    for measure in measures:
        print(f"  {measure}")
        for row, values in found.items():
            if measure in values:
                low, high = values[measure]["ci"]
                print(f"    {row:<18}{values[measure]['value']:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
