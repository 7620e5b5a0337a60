"""How fast frames are labelled: beside open_clip called once per frame, and as a share of its bare batches.

python -m benchmarks.labelling                 # about two minutes
python -m benchmarks.labelling --size l

The model is one of `limbeck rewards train`'s sizes with fresh weights, which are as fast as trained ones. Frames are
those of agents that act at random in rooms, in the bundles in which actors write them.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ._machine import RESULTS, circumstances, write


STREAMS, UNROLL, EPISODE = 16, 64, 32
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "labelling.json", help="where results go"
    )
    parser.add_argument("--size", default="s", help="of the model")
    parser.add_argument("--bundles", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, on both sides")
    arguments = parser.parse_args()
    result = circumstances("labelling") | {"size": arguments.size, "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as directory:
        name = f"local-dir:{_model(pathlib.Path(directory), arguments.size)}"
        result |= _compare(name, arguments.bundles, arguments.pairs, arguments.threads)
    for key in (
        "labelled_per_second",
        "once_per_frame_per_second",
        "times",
        "bare_batch_per_second",
        "share_of_bare",
    ):
        print(f"{key:<28} {result[key]:>12,}")
    write(arguments.json, result)


def _compare(name: str, bundles: int, pairs: int, threads: int) -> dict[str, Any]:
    from limbeck.rewards import CachedEncoder, CosineHead, EncoderReward, OpenClip
    from limbeck.rewards.clip_reward import family_goals
    from limbeck.rewards.labelling import EpisodeLabeller
    from limbeck.rewards.room_frames import random_walks, render_frames

    goals = [goal.text() for goal in family_goals("lift")]
    walks = random_walks(("lift",), STREAMS * bundles * (UNROLL // EPISODE), EPISODE, 6, 4, 0, 0)
    frames = render_frames(walks.symbols).reshape(STREAMS, bundles, UNROLL, 56, 56, 3)
    distinct = np.unique(frames.reshape(-1, 56 * 56 * 3), axis=0).reshape(-1, 56, 56, 3)
    encoder = OpenClip(name, batch=BATCH, threads=threads)

    def label() -> int:
        model = EncoderReward(CachedEncoder(encoder, 100_000, batch=BATCH), CosineHead(), goals)
        labeller = EpisodeLabeller(model)
        for number in range(bundles):
            labeller.score_many(
                [_segment(stream, number, frames[stream, number], goals) for stream in range(STREAMS)]
            )
        return labeller.scored

    def once_per_frame() -> int:
        some = frames[:, 0].reshape(-1, 56, 56, 3)[:200]
        for frame in some:
            encoder.encode_frames(frame[None])
        return len(some)

    def cached_distinct() -> int:
        CachedEncoder(encoder, 100_000, batch=BATCH).encode_frames(distinct[: 8 * BATCH])
        return len(distinct[: 8 * BATCH])

    def bare() -> int:
        return len(encoder.encode_frames(distinct[: 8 * BATCH]))

    calls: dict[str, Callable[[], int]] = {
        "labelled": label, "once_per_frame": once_per_frame, "cached_distinct": cached_distinct, "bare_batch": bare
    }  # fmt: skip
    rates: dict[str, list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()
    for pair in range(pairs):
        order = list(calls.items())
        for key, call in order if pair % 2 == 0 else order[::-1]:
            began = time.perf_counter()
            count = call()
            rates[key].append(count / (time.perf_counter() - began))
    medians = {key: float(np.median(values)) for key, values in rates.items()}

    def ratio(a: str, b: str) -> float:
        return round(float(np.median(np.divide(rates[a], rates[b]))), 2)

    return {
        "frames": int(frames.size // (56 * 56 * 3)),
        "distinct_frames": len(distinct),
        **{f"{key}_per_second": round(value) for key, value in medians.items()},
        "times": ratio("labelled", "once_per_frame"),
        "share_of_bare": ratio("cached_distinct", "bare_batch"),
    }


def _model(directory: pathlib.Path, size: str) -> pathlib.Path:
    """A model with fresh weights, saved as trained ones are."""
    from limbeck.envs.captions import vocabulary
    from limbeck.rewards.bpe import learn_merges
    from limbeck.rewards.clip_training import CaptionedBatch, ClipTrainConfig, train_clip

    texts = ["holding nothing", "facing a wall"]

    def batch(step: int) -> CaptionedBatch:
        return CaptionedBatch(np.zeros((2, 56, 56, 3), np.uint8), texts, np.eye(2, dtype=bool))

    return train_clip(directory, ClipTrainConfig(size, steps=1, batch=2), learn_merges(vocabulary()), batch)


def _segment(stream: int, number: int, frames: np.ndarray, goals: list[str]) -> Any:
    from limbeck.rewards.labelling import FRAME
    from limbeck.rewards.segments import Segment

    # 2, LAST, ends an episode; the next one is in another room.
    rows = {FRAME: frames, "step_type": 1 + (np.arange(1, len(frames) + 1) % EPISODE == 0).astype(np.int32)}
    return Segment(0, 0, stream, number, rows, [goals[stream]] * len(frames))


if __name__ == "__main__":
    main()
