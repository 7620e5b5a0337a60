"""How fast items go through the replay layer, as a share of bare Reverb calls tuned by hand, in the same run.

python -m benchmarks.replay                     # about four minutes
python -m benchmarks.replay --seconds 1 --pairs 3 --payloads symbolic

The server runs in a process of its own. Ours and the peer take turns, in pairs, and the medians count:
the share is the median of the pairs' ratios. Bare Reverb has no deadlines, checks nothing and names no error.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._machine import RESULTS, circumstances, write


UNROLL = 20
BLOCK = (64, 200)  # Histories and steps of a block of Dark Room, as `limbeck run dark_room` writes them.
CALL = 32  # Items of an insert, and of a batch.

SERVER = """
import json, sys, time
from limbeck.agents import Table
from limbeck.agents.replay import ReplayServer
tables = [Table.from_json(value) for value in json.loads(sys.argv[1])]
with ReplayServer(tables) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


def trajectory(image: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], str]]:
    """The signature of a trajectory as actors of a recurrent actor-critic write it."""
    names = ("reward", "discount", "extras/log_prob", "extras/value")
    per_step = dict.fromkeys(names, ((UNROLL,), "float32"))
    return {
        "observation": ((UNROLL, *image), "uint8"),
        "action": ((UNROLL,), "int32"),
        "step_type": ((UNROLL,), "int32"),
        "memory/hidden": ((128,), "float32"),
        "policy_version": ((), "int64"),
        **per_step,
    }


def block() -> dict[str, tuple[tuple[int, ...], str]]:
    """The signature of a block of Dark Room histories."""
    from limbeck.agents import HistoryInfo, Manifest
    from limbeck.agents.transport import histories_signature
    from limbeck.envs import make

    room = make("dark_room")
    action, observation = room.action_spec(), room.observation_spec()
    manifest = Manifest(
        environment="dark_room",
        environment_kwargs={},
        observation={"shape": list(observation.shape), "dtype": str(observation.dtype)},
        action={
            "shape": [],
            "dtype": str(action.dtype),
            "minimum": 0,
            "maximum": int(action.num_values) - 1,
        },  # fmt: skip
        max_steps=room.max_steps,
        split={"salt": "limbeck-0", "seed": 0, "held_out": []},
        length=BLOCK[1],
        histories=[HistoryInfo(h, h, "train", "q_learning", h, 0, h) for h in range(BLOCK[0])],
        histories_per_chunk=BLOCK[0],
        steps_per_chunk=BLOCK[1],
        settings={},
    )
    return histories_signature(manifest)


def payloads() -> dict[str, tuple[dict[str, tuple[tuple[int, ...], str]], int, int]]:
    """name -> (signature, steps of an item, items of a call)."""
    return {
        "symbolic": (trajectory((7, 7, 3)), UNROLL, CALL),
        "image": (trajectory((56, 56, 3)), UNROLL, CALL),
        "history_block": (block(), BLOCK[0] * BLOCK[1], 4),
    }


def make_items(signature: dict[str, Any], count: int) -> list[dict[str, np.ndarray]]:
    """Items that compress about as well as MiniGrid's do: few different values."""
    rng = np.random.default_rng(0)
    return [
        {name: rng.integers(0, 11, shape).astype(dtype) for name, (shape, dtype) in signature.items()}
        for _ in range(count)
    ]


def bare_writer(address: str, table: str, items: list[dict[str, np.ndarray]]) -> Callable[[], None]:
    """One writer kept open, one flush a call, references to its columns looked up once an item."""
    import reverb

    writer = reverb.Client(address).trajectory_writer(1)

    def call() -> None:
        for item in items:
            writer.append(item)
            history = writer.history
            writer.create_item(table, 1.0, {name: history[name][-1] for name in item})
        writer.flush()

    return call


def bare_samplers(address: str, table: str, batch: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Settings of a batched `TrajectoryDataset` that its documentation and trials suggest; the best one counts."""
    import reverb

    for in_flight, workers, prefetch in ((2, 1, 1), (2, 2, 2), (1, 2, 1), (0.5, 2, 1)):
        count = max(1, int(in_flight * batch))
        dataset = reverb.TrajectoryDataset.from_table_signature(address, table, count, workers)
        stream = dataset.batch(batch, drop_remainder=True).prefetch(prefetch).as_numpy_iterator()
        yield f"{count} in flight, {workers} workers, {prefetch} prefetched", stream.__next__


def best_settings(address: str, table: str, batch: int) -> str:
    """Which of `bare_samplers` is the fastest here."""
    rates = {settings: rate(call, batch, 1.0) for settings, call in bare_samplers(address, table, batch)}
    return max(rates, key=lambda settings: rates[settings])


def rate(call: Callable[[], Any], items: int, seconds: float) -> float:
    """Items/s of a call that handles `items`."""
    call()
    started, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        call()
        calls += 1
    return calls * items / passed


def compare(
    ours: Callable[[], Any], peer: Callable[[], Any], items: int, pairs: int, seconds: float
) -> dict[str, Any]:
    """Medians of interleaved pairs; each pair begins with the other side."""
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for pair in range(pairs):
        order = [("ours", ours), ("peer", peer)]
        for name, call in order if pair % 2 == 0 else order[::-1]:
            rates[name].append(rate(call, items, seconds))
    ratios = [a / b for a, b in zip(rates["ours"], rates["peer"], strict=True)]
    return {
        "items_per_second": round(float(np.median(rates["ours"]))),
        "bare_items_per_second": round(float(np.median(rates["peer"]))),
        "share": round(float(np.median(ratios)), 3),
        "shares": [round(ratio, 3) for ratio in sorted(ratios)],
    }


def measure(name: str, seconds: float, pairs: int) -> dict[str, Any]:
    """Both paths with one payload."""
    from limbeck.agents import Table
    from limbeck.agents.replay import ReplayClient

    signature, steps, count = payloads()[name]
    items = make_items(signature, count)
    megabytes = sum(array.nbytes for array in items[0].values()) / 1e6
    size = max(2 * count, int(200 / max(1.0, 10 * megabytes)))
    tables = [Table(table, "uniform", signature, size) for table in ("ours", "bare")]
    result: dict[str, Any] = {
        "steps_per_item": steps,
        "megabytes_per_item": round(megabytes, 5),
        "items_per_call": count,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, json.dumps([table.to_json() for table in tables])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with ReplayClient(address) as client:
            result["write"] = compare(
                lambda: client.insert("ours", items),
                bare_writer(address, "bare", items),
                count,
                pairs,
                seconds,
            )
            for table in ("ours", "bare"):
                for _ in range(-(-size // count)):
                    client.insert(table, items)
            best = best_settings(address, "bare", count)
            gc.collect()  # A sampler goes on fetching until it is gone.
            peer = next(call for settings, call in bare_samplers(address, "bare", count) if settings == best)
            gc.collect()
            result["sample"] = compare(lambda: client.sample("ours", count), peer, count, pairs, seconds)
            result["sample"]["bare_settings"] = best
    finally:
        process.kill()
        process.communicate()
    for path in ("write", "sample"):
        items_per_second = result[path]["items_per_second"]
        result[path]["steps_per_second"] = items_per_second * steps
        result[path]["megabytes_per_second"] = round(items_per_second * megabytes, 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = ("symbolic", "image", "history_block")
    parser.add_argument("--payloads", nargs="+", choices=names, default=names)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"seconds": arguments.seconds, "pairs": arguments.pairs, "payloads": {}}
    result |= circumstances("replay")
    for name in arguments.payloads:
        result["payloads"][name] = found = measure(name, arguments.seconds, arguments.pairs)
        for path in ("write", "sample"):
            row = found[path]
            print(
                f"{name:<14} {path:<7} {row['items_per_second']:>8,} items/s {row['steps_per_second']:>12,} steps/s "
                f"{row['megabytes_per_second']:>8,} MB/s   {row['share']:.2f} of bare Reverb"
            )
    write(RESULTS / "replay.json", result)


if __name__ == "__main__":
    main()
