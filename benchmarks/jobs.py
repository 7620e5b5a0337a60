"""Actor/learner jobs: MiniGrid beside stable-baselines3, and a whole job beside an in-process queue.

python -m benchmarks.jobs                            # both sections, about fifteen minutes
python -m benchmarks.jobs --sections solve --seeds 5
python -m benchmarks.jobs --sections share --steps 400000
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from ._machine import RESULTS, circumstances, write


ENV = "MiniGrid-DoorKey-5x5-v0"
SECTIONS = ("solve", "share")


def solve(seeds: int) -> dict[str, Any]:
    """Seconds, start-up included, and steps until 100 evaluation episodes are solved at a share of 0.95.

    Ours is `limbeck run minigrid`: processes, Reverb and the evaluation at the end count. The peer is
    stable-baselines3's PPO on the one-hot symbolic view, 16 streams of 128 steps an update, in one process; it is
    stopped as soon as an evaluation reaches the share. Both sample their actions there.
    """
    ours, theirs = [], []
    for seed in range(seeds):
        ours.append(_run_limbeck(seed))
        theirs.append(_run_peer(seed))
        print(f"seed {seed}: limbeck {ours[-1]}, stable-baselines3 {theirs[-1]}", flush=True)
    medians = [statistics.median(run["seconds"] for run in side) for side in (ours, theirs)]
    return {
        "env": ENV,
        "limbeck": ours,
        "stable_baselines3": theirs,
        "limbeck_seconds": medians[0],
        "stable_baselines3_seconds": medians[1],
        "ratio": round(medians[1] / medians[0], 2),
    }


def share(steps: int, pairs: int) -> dict[str, Any]:
    """Environment steps/s of a job's learner beside the same actors and learner joined by an in-process queue.

    Both after the first quarter of the steps, when everything is compiled and started.
    """
    from . import _jobs_in_process

    rates: dict[str, list[float]] = {"job": [], "in_process": []}
    for pair in range(pairs):
        rates["job"].append(_job_rate(steps, pair))
        rates["in_process"].append(_jobs_in_process.rate(ENV, steps, pair))
        print(
            f"pair {pair}: " + ", ".join(f"{side} {values[-1]:.0f}" for side, values in rates.items()),
            flush=True,
        )
    medians = {side: statistics.median(values) for side, values in rates.items()}
    return {
        "env": ENV,
        "steps": steps,
        **{f"{side}_steps_per_second": round(value) for side, value in medians.items()},
        "all": {side: [round(value) for value in values] for side, values in rates.items()},
        "ratio": round(medians["job"] / medians["in_process"], 3),
    }  # fmt: skip


def _run_limbeck(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        command = [
            "run",
            "minigrid",
            "--env",
            ENV,
            "--seed",
            str(seed),
            "--name",
            "solve",
            "--runs-dir",
            directory,
        ]
        seconds = _timed([sys.executable, "-m", "limbeck.launchers.command_line", *command])
        found = json.loads((pathlib.Path(directory) / "solve" / "evaluation.json").read_text())
    return {"seconds": seconds, "steps": found["steps"], "success": found["success"]}


def _run_peer(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "peer.json"
        seconds = _timed([sys.executable, "-m", "benchmarks._jobs_peer", ENV, str(seed), str(out)])
        return {"seconds": seconds, **json.loads(out.read_text())}


def _job_rate(steps: int, seed: int) -> float:
    from limbeck.encoders import read_metrics

    with tempfile.TemporaryDirectory() as directory:
        command = [
            "run", "minigrid", "--env", ENV, "--seed", str(seed), "--name", "share", "--runs-dir", directory,
            "--steps", str(steps), "--target-success", "None", "--evaluation.every-s", "0",
            "--evaluation.episodes", "10", "--checkpoint-every-s", "3600",
        ]  # fmt: skip
        _timed([sys.executable, "-m", "limbeck.launchers.command_line", *command])
        metrics = read_metrics(pathlib.Path(directory) / "share" / "metrics.csv")
    rows = list(zip(metrics["steps"], metrics["steps_per_s"]))
    late = [(done - before, rate) for (before, _), (done, rate) in zip(rows, rows[1:]) if before > steps / 4]
    return sum(amount for amount, _ in late) / sum(amount / rate for amount, rate in late)


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return round(time.perf_counter() - started, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "jobs.json", help="where results go")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--seeds", type=int, default=3, help="of the section solve")
    parser.add_argument("--steps", type=int, default=400_000, help="of the section share")
    parser.add_argument("--pairs", type=int, default=3, help="of the section share")
    arguments = parser.parse_args()
    result = circumstances("jobs")
    if arguments.json.exists():
        before = json.loads(arguments.json.read_text())
        result |= {
            name: before[name] for name in SECTIONS if name in before and name not in arguments.sections
        }
    if "solve" in arguments.sections:
        result["solve"] = solve(arguments.seeds)
    if "share" in arguments.sections:
        result["share"] = share(arguments.steps, arguments.pairs)
    write(arguments.json, result)


if __name__ == "__main__":
    main()
