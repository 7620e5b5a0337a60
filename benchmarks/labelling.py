"""How fast frames are labelled: beside open_clip as its README calls it, a frame at a time, and its bare batches.

python -m benchmarks.labelling                 # about four minutes
python -m benchmarks.labelling --size l

The model is one of `limbeck rewards train`'s sizes with fresh weights, which are as fast as trained ones. Frames are
those of agents that act in rooms, as a labeller gets them in bundles: of one that has learned nothing and wanders, and
of one that has learned for some seconds. They are labelled with open_clip's network in PyTorch, in float32 and in
bfloat16, and with the same one in JAX. All rates are of the same frames, in alternating order; open_clip a frame at a
time is in float32.
"""

import argparse
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ._acted_bundles import acted_bundles
from ._machine import RESULTS, circumstances, write


STREAMS, UNROLL = 16, 64
BATCH = 64
# Frames that are encoded one by one, and batches of distinct ones, in one timing.
_SINGLE, _BATCHES = 200, 8
_KINDS = ("torch", "torch_bf16", "jax")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "labelling.json", help="where results go"
    )
    parser.add_argument("--size", default="s", help="of the model")
    parser.add_argument("--bundles", type=int, default=40)
    parser.add_argument("--updates", type=int, default=200, help="of the agent that has learned")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, on all sides")
    arguments = parser.parse_args()
    result = circumstances("labelling") | {"size": arguments.size, "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as directory:
        name = f"local-dir:{_model(pathlib.Path(directory), arguments.size)}"
        for agent, updates in (("wandering", 0), ("learned", arguments.updates)):
            bundles, success = acted_bundles(STREAMS, UNROLL, updates, arguments.bundles)
            found = _compare(name, bundles, arguments.pairs, arguments.threads)
            result[agent] = found = {"success": round(success, 3), **found}
            print(f"{agent}:")
            for key, value in found.items():
                print(f"  {key:<40} {value:>12,}")
    write(arguments.json, result)


def _compare(name: str, bundles: list[Any], pairs: int, threads: int) -> dict[str, Any]:
    """Rates in frames a second, medians of the pairs, and medians of their ratios in a pair."""
    from limbeck.rewards.labelling import FRAME

    segments = [segment for bundle in bundles for segment in bundle.segments]
    frames = np.concatenate([segment.rows[FRAME] for segment in segments])
    distinct = np.unique(frames.reshape(len(frames), -1), axis=0).reshape(-1, *frames.shape[1:])
    calls = _calls(name, bundles, frames, distinct[: _BATCHES * BATCH], threads)
    rates: dict[str, list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()
    for pair in range(pairs):
        for key, call in list(calls.items())[:: 1 if pair % 2 == 0 else -1]:
            began = time.perf_counter()
            count = call()
            rates[key].append(count / (time.perf_counter() - began))

    def ratio(a: str, b: str) -> float:
        return round(float(np.median(np.divide(rates[a], rates[b]))), 2)

    ratios = {}
    for kind in _KINDS:
        ratios[f"{kind}_times_open_clip_once_per_frame"] = ratio(f"{kind}_label", "open_clip_once_per_frame")
        ratios[f"{kind}_times_itself_once_per_frame"] = ratio(f"{kind}_label", f"{kind}_once_per_frame")
        ratios[f"{kind}_share_of_bare_batches"] = ratio(f"{kind}_cached_distinct", f"{kind}_bare_batch")
    return {
        "frames": len(frames),
        "distinct_frames": len(distinct),
        **{f"{key}_per_second": round(float(np.median(values))) for key, values in rates.items()},
        **ratios,
    }


def _calls(
    name: str, bundles: list[Any], frames: np.ndarray, batches: np.ndarray, threads: int
) -> dict[str, Callable[[], int]]:
    """What is timed: each returns how many frames it has looked at."""
    from limbeck.rewards import CachedEncoder, CosineHead, EncoderReward, JaxClip, OpenClip
    from limbeck.rewards.clip_reward import family_goals
    from limbeck.rewards.labelling import EpisodeLabeller

    goals = [goal.text() for goal in family_goals("lift")]
    texts = [goal for bundle in bundles for segment in bundle.segments for goal in segment.goals]
    chosen = np.random.default_rng(0).choice(len(frames), _SINGLE)
    in_torch, in_bf16 = (OpenClip(name, kind, batch=BATCH, threads=threads) for kind in ("fp32", "bf16"))
    in_jax = JaxClip(name.removeprefix("local-dir:"), batch=BATCH)
    encoders = dict(zip(_KINDS, (in_torch, in_bf16, in_jax)))
    as_readme = _open_clip_as_its_readme(name, goals, in_torch.encode_goals(goals))

    def label(encoder: Any) -> int:
        model = EncoderReward(CachedEncoder(encoder, 100_000, batch=BATCH), CosineHead(), goals)
        labeller = EpisodeLabeller(model)
        for bundle in bundles:
            for segment, rewards in zip(bundle.segments, labeller.score_many(bundle.segments)):
                labeller.apply(segment, rewards)
        return labeller.scored

    def once_per_frame(encoder: Any) -> int:
        for i in chosen:
            encoder.encode_frames(frames[i][None])
        return len(chosen)

    def cached_distinct(encoder: Any) -> int:
        CachedEncoder(encoder, 100_000, batch=BATCH).encode_frames(batches)
        return len(batches)

    def bare_batch(encoder: Any) -> int:
        return len(encoder.encode_frames(batches))

    def open_clip_once_per_frame() -> int:
        for i in chosen:
            as_readme(frames[i], texts[i])
        return len(chosen)

    of_encoder = (label, once_per_frame, cached_distinct, bare_batch)
    calls: dict[str, Callable[[], int]] = {"open_clip_once_per_frame": open_clip_once_per_frame}
    for kind, encoder in encoders.items():
        calls |= {f"{kind}_{call.__name__}": functools.partial(call, encoder) for call in of_encoder}
    return calls


def _open_clip_as_its_readme(
    name: str, goals: list[str], embeddings: np.ndarray
) -> Callable[[np.ndarray, str], float]:
    """The cosine of one frame and a goal as open_clip's README has it: its own preprocessing, one image a call."""
    import open_clip
    import torch
    from PIL import Image

    loaded: Any = open_clip.create_model_from_pretrained(name)
    model, preprocess = loaded
    model.eval()
    texts = dict(zip(goals, torch.from_numpy(embeddings)))

    def score(frame: np.ndarray, goal: str) -> float:
        image = preprocess(Image.fromarray(frame)).unsqueeze(0)
        with torch.no_grad():
            return float(model.encode_image(image, normalize=True)[0] @ texts[goal])

    return score


def _model(directory: pathlib.Path, size: str) -> pathlib.Path:
    """A model with fresh weights, saved as trained ones are."""
    from limbeck.envs.captions import vocabulary
    from limbeck.rewards.bpe import learn_merges
    from limbeck.rewards.clip_training import CaptionedBatch, ClipTrainConfig, train_clip

    texts = ["holding nothing", "facing a wall"]

    def batch(step: int) -> CaptionedBatch:
        return CaptionedBatch(np.zeros((2, 56, 56, 3), np.uint8), texts, np.eye(2, dtype=bool))

    return train_clip(directory, ClipTrainConfig(size, steps=1, batch=2), learn_merges(vocabulary()), batch)


if __name__ == "__main__":
    main()
