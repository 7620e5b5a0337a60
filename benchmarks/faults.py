"""Jobs with a kill each: whether they finish, whether anything is missing or doubled, how fast nodes are back.

python -m benchmarks.faults --jobs 50 --seed 0            # both back ends, four local jobs to one on Ray; 25 minutes
python -m benchmarks.faults --jobs 6 --backend local      # a look: each kind of kill once

Kinds of kill, in turn: SIGKILL to replay, the learner, an actor, the sink and the evaluator, at a seeded time; and to
the supervisor's process group at a seeded share of the work, after which the same command is given again. The same
command again goes on after the last job that was written down.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from limbeck.agents import HistoryError
from limbeck.launchers.jobs import published

from ._faulty_job import CONFIG
from ._machine import RESULTS, circumstances, write
from ._ticking import count_rows
from ._watch import Watch, learner_fell_back, replay_losses


KINDS = ("replay", "learner", "actor", "sink", "evaluator", "job")
WHEN_S = (0.0, 4.0)  # After all nodes are at work: while histories are recorded.
LIMIT_S = 300.0
ROOT = pathlib.Path(__file__).resolve().parents[1]


def backend_of(index: int, choice: str) -> str:
    """The back end of a job: as chosen, or every fifth one on Ray."""
    return choice if choice != "both" else "ray" if index % 5 == 4 else "local"


def run_one(index: int, seed: int, backend: str, root: pathlib.Path) -> dict[str, Any]:
    """Runs one job with one kill, and checks what it leaves.

    Returns:
      `index`, `kind` of kill, `backend`, whether it `finished`, `killed` (False where it was over before),
      `recovery_s`, `seconds`, `gaps`, `doubles`, `cuts`, `misplaced` (cuts inside a chunk), `whole` (every history
      reached its full length before the job ended, which it need not), `fell_back` (a learner behind its
      checkpoint), `lost` and `lost_at_most` (items of replay, None where replay did not die after a checkpoint), and
      `error` where something failed.
    """
    choice = random.Random(f"{seed}/{index}")
    kind, run = KINDS[index % len(KINDS)], root / f"job_{index}"
    node = choice.choice(("actor_0", "actor_1")) if kind == "actor" else kind
    faults = {
        "seed": choice.randrange(2**31),
        "kills": 1,
        "between_s": WHEN_S,
        "nodes": [node],
        "at_work": True,
    }
    share = choice.uniform(0.1, 0.6)
    told = {"directory": str(run), "name": run.name, "backend": backend, "faults": faults}
    began = time.monotonic()
    row: dict[str, Any] = {"index": index, "kind": kind, "backend": backend}
    with Watch(run) as watch:
        if kind == "job":
            told["faults"] = None
            recovery_s, killed = _kill_job(told, watch, share)
            outcome = {"state": "finished" if recovery_s is not None else "failed"}
        else:
            outcome = _outcome(_start(told), told)
            recoveries = outcome.get("recoveries", [])
            killed = bool(recoveries)
            recovery_s = recoveries[0]["recovery_s"] if killed else None
    about = published(run)
    ended = about is not None and about["finished"] and about["updates"] == CONFIG.updates
    row |= {
        "finished": outcome["state"] == "finished" and ended and (run / "evaluation.json").exists(),
        "killed": killed,
        "recovery_s": None if recovery_s is None else round(recovery_s, 2),
        "seconds": round(time.monotonic() - began, 1),
        "fell_back": learner_fell_back(run, watch),
    }
    losses = replay_losses(run, watch)
    row |= (
        {"lost": losses[0][0], "lost_at_most": losses[0][1]}
        if losses
        else {"lost": None, "lost_at_most": None}
    )
    try:
        row |= count_rows(run / "histories")._asdict()
    except HistoryError as error:
        row["error"] = str(error)
    if not row["finished"]:
        row["error"] = outcome.get("failure") or row.get("error") or f"the job ended as {outcome['state']}"
    return row


def is_sound(row: dict[str, Any]) -> bool:
    """Whether a job finished and nothing that it left is wrong."""
    clean = row["finished"] and not row["fell_back"] and "error" not in row
    bounded = row["lost"] is None or row["lost"] <= row["lost_at_most"]
    return clean and bounded and not (row["gaps"] or row["doubles"] or row["misplaced"])


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals, and recovery times: of nodes by back end (from kill to report), of jobs (to the next checkpoint)."""
    times: dict[str, list[float]] = {}
    for row in rows:
        if row["recovery_s"] is not None:
            name = "job" if row["kind"] == "job" else f"{row['backend']} node"
            times.setdefault(name, []).append(row["recovery_s"])
    return {
        "jobs": len(rows),
        "finished": sum(row["finished"] for row in rows),
        "sound": sum(map(is_sound, rows)),
        "kills": sum(row["killed"] for row in rows),
        "gaps": sum(row.get("gaps", 0) for row in rows),
        "doubles": sum(row.get("doubles", 0) for row in rows),
        "cuts": sum(row.get("cuts", 0) for row in rows),
        "recovery_s": {
            name: {"count": len(found), "median": round(statistics.median(found), 2), "worst": max(found)}
            for name, found in sorted(times.items())
        },
    }


def _start(told: dict[str, Any]) -> subprocess.Popen:
    """A launch of the job, in a process group of its own; what it prints lies beside its run directory."""
    with open(f"{told['directory']}.out", "a") as file:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks._faulty_job", json.dumps(told)],
            cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def _outcome(process: subprocess.Popen, told: dict[str, Any]) -> dict[str, Any]:
    """What a launch says of its end; one that does not end is killed."""
    try:
        process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return {"state": "failed", "failure": f"it did not end within {LIMIT_S:g} s"}
    last = pathlib.Path(f"{told['directory']}.out").read_text().splitlines()[-1:]
    if not last or not last[0].startswith("{"):
        return {"state": "failed", "failure": f"exit code {process.returncode}: {' '.join(last)}"}
    return json.loads(last[0])


def _kill_job(told: dict[str, Any], watch: Watch, share: float) -> tuple[float | None, bool]:
    """Kills a launch when it has done a share of the updates, and launches again.

    Returns:
      Seconds from the kill to the next checkpoint, None where the job did not finish; and whether it was killed.
    """

    def updates() -> int:
        return watch.published[-1]["updates"] if watch.published else -1

    process, limit = _start(told), time.monotonic() + LIMIT_S
    while updates() < share * CONFIG.updates and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    if process.poll() is not None:
        return None, False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed, before = time.monotonic(), updates()
    process, recovery_s = _start(told), None
    while process.poll() is None and recovery_s is None and time.monotonic() < limit:
        if updates() > before:
            recovery_s = time.monotonic() - killed
        time.sleep(0.05)
    outcome = _outcome(process, told)
    return (recovery_s if outcome["state"] == "finished" else None), True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=50, help="how many, with a kill each")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed and when")
    parser.add_argument("--backend", choices=("local", "ray", "both"), default="both")
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "faults.json", help="where results go")
    parser.add_argument("--keep", action="store_true", help="keep the run directories of sound jobs too")
    arguments = parser.parse_args()
    settings = {"seed": arguments.seed, "backend": arguments.backend}
    result = {**settings, "rows": []} | circumstances("faults")
    if arguments.json.exists():
        result = json.loads(arguments.json.read_text())
        if {name: result[name] for name in settings} != settings:
            parser.error(
                f"{arguments.json} is of another seed or back end: give another --json, or remove it"
            )
    root = pathlib.Path(tempfile.mkdtemp(prefix="limbeck-faults-"))
    for index in range(len(result["rows"]), arguments.jobs):
        row = run_one(index, arguments.seed, backend_of(index, arguments.backend), root)
        result["rows"].append(row)
        result["summary"] = summarise(result["rows"])
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        write(arguments.json, result)
        if is_sound(row) and not arguments.keep:
            shutil.rmtree(root / f"job_{index}")
        else:
            print(f"left in {root / f'job_{index}'}")
    for name, value in summarise(result["rows"]).items():
        print(f"{name:12} {value}")
    return 0 if all(map(is_sound, result["rows"])) else 1


if __name__ == "__main__":
    sys.exit(main())
