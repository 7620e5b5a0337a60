"""A job in rooms or on screens that a CLIP pays, beside the same job paid by the truth.

limbeck rewards train --out runs/clips --sizes xs
python -m benchmarks.labelled_job --model runs/clips/xs --family lift     # about ten minutes on two cores

Says how fast both learn, what share of its time the learner waits for batches and how much of that is due to labels,
and what came of it: success by the truth at the end, labelled returns, and how many first hits were true. The card is
made first, by `limbeck rewards evaluate`. Both jobs draw a goal of the family anew for every episode. `ppo` learns from
each label once, `dqn` from replay, several times.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from ._machine import RESULTS, circumstances, write


REWARD = "limbeck.rewards.clip_reward:clip_reward"
# What each agent is told beyond its defaults. DQN is judged greedy: its actors explore at random to the end.
_AGENTS = {
    "ppo": {"settings.learning-rate": 5e-4, "settings.entropy-cost": 0.02, "settings.epochs": 3},
    "dqn": {"evaluation.mode": "evaluate"},
}
# What it reads, and with what; of both worlds.
_ROOMS = ["--reads", "symbols", "direction", "text", "--torso", "goal"]
_SCREENS = ["--reads", "symbols", "labels", "text", "--torso", "goal"]
_PIXELS = ["--reads", "image", "text"]
_APPS = {"open_common": "common", "open_diverse": "diverse"}
# Rows of metrics.csv, five seconds each, until everything is compiled and the first batches have come.
_WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of a trained CLIP")
    parser.add_argument("--family", default="lift", choices=("find", "lift", "place", *_APPS))
    parser.add_argument("--agent", default="ppo", choices=tuple(_AGENTS))
    parser.add_argument(
        "--card", type=pathlib.Path, help="of that model in bfloat16; made where it is not given"
    )
    parser.add_argument("--steps", type=int, default=400_000, help="that each job learns from")
    parser.add_argument(
        "--reward-place", default="labeller", choices=("labeller", "inline"), help="where the CLIP is asked"
    )
    parser.add_argument(
        "--pixels",
        action="store_true",
        help="the agent reads the picture and the text, with the default torso",
    )
    parser.add_argument("--objects", type=int, default=4, help="of rooms")
    parser.add_argument(
        "--max-steps", type=int, help="of an episode: 32 in rooms and 16 on screens by default"
    )
    parser.add_argument("--episodes", type=int, default=400, help="random walks that the card is made from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=pathlib.Path, help="where runs are kept; a temporary directory by default"
    )
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "labelled_job.json")
    arguments = parser.parse_args()
    arguments.max_steps = arguments.max_steps or (16 if arguments.family in _APPS else 32)
    result = circumstances("labelled_job") | {
        key: getattr(arguments, key)
        for key in ("family", "agent", "steps", "reward_place", "pixels", "objects", "max_steps", "seed")
    }
    with tempfile.TemporaryDirectory() as temporary:
        out = pathlib.Path(temporary) if arguments.out is None else arguments.out
        card = arguments.card or _make_card(arguments, out)
        result |= compare(arguments, out, card.resolve())
    for name in ("truth", "labelled"):
        print(f"{name}:")
        for key, value in result[name].items():
            print(f"  {key:<22} {value}")
    print(f"waits for labels: {result['waits_for_labels']:.3f} of the learner's time")
    # One file for jobs of all families, agents and models; the same job again takes its old place.
    kept = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    name = [arguments.family, arguments.agent, arguments.model.name]
    name += [arguments.reward_place] if arguments.reward_place != "labeller" else []
    kept[" ".join([*name, "pixels"] if arguments.pixels else name)] = result
    write(arguments.json, kept)


def compare(arguments: argparse.Namespace, out: pathlib.Path, card: pathlib.Path) -> dict[str, Any]:
    """Runs both jobs; what each says of itself, and by how much more the labelled one's learner waits."""
    reward = ["model", f"local-dir:{arguments.model.resolve()}", "family", arguments.family]
    paid = ["--reward", REWARD, "--reward-place", arguments.reward_place]
    paid += ["--reward-arguments", *reward, "precision", "bf16", "card", str(card)]
    truth, labelled = _run(arguments, out, "truth", []), _run(arguments, out, "labelled", paid)
    return {
        "truth": truth,
        "labelled": labelled,
        "waits_for_labels": round(labelled["wait_share"] - truth["wait_share"], 3),
        "speed": round(labelled["steps_per_s"] / truth["steps_per_s"], 3),
    }


def _make_card(arguments: argparse.Namespace, out: pathlib.Path) -> pathlib.Path:
    of_model = _words(
        {"model": f"local-dir:{arguments.model.resolve()}", "family": arguments.family, "precision": "bf16"}
    )
    told = ["--episodes", str(arguments.episodes)]
    told += [] if arguments.family in _APPS else ["--env-arguments", "objects", str(arguments.objects)]
    # Each goal of these alone is true too seldom.
    told += ["--pooled"] if arguments.family in ("place", "open_diverse") else []
    place = out / f"card_{arguments.family}"
    _limbeck(
        ["rewards", "evaluate", REWARD, "--arguments", *of_model, "--family", arguments.family, *told]
        + ["--out", str(place)]
    )
    return place / "card.json"


def _run(arguments: argparse.Namespace, out: pathlib.Path, name: str, paid: list[str]) -> dict[str, Any]:
    """Runs a job and reads what it has written."""
    name = f"{arguments.family}_{arguments.agent}_{name}_{arguments.seed}"
    world, reads = ("screens", _SCREENS) if arguments.family in _APPS else ("rooms", _ROOMS)
    settings: dict[str, Any] = (
        {"apps": _APPS[arguments.family], "views": "image,symbols,labels,text"}
        if world == "screens"
        else {"family": arguments.family, "objects": arguments.objects}
    )
    settings |= {"max_steps": arguments.max_steps, "task": "sampled", "reward": "none" if paid else "true"}
    _limbeck(
        ["run", "minigrid", "--name", name, "--runs-dir", str(out), "--seed", str(arguments.seed)]
        + ["--env", world, "--env-arguments", *_words(settings)]
        + (_PIXELS if arguments.pixels else reads)
        + ["--agent", arguments.agent]
        + ["--steps", str(arguments.steps), "--target-success", "None", "--settings.hidden", "256", "128"]
        + [word for key, value in _AGENTS[arguments.agent].items() for word in (f"--{key}", str(value))]
        + ["--evaluation.episodes", "400", "--evaluation.environments", "50", "--evaluation.every-s", "0"]
        + paid
    )
    return read_job(out / name)


def read_job(run: pathlib.Path) -> dict[str, Any]:
    """The speed and the end of a job."""
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    steady = rows[_WARM_UP:] or rows
    final = json.loads((run / "evaluation.json").read_text())
    found: dict[str, Any] = {
        "steps_per_s": round(float(np.median([float(row["steps_per_s"]) for row in steady]))),
        "wait_share": round(float(np.mean([float(row["wait_share"]) for row in steady])), 3),
        "policy_lag": round(float(np.mean([float(row["policy_lag"]) for row in steady])), 2),
        "first_success": _known(rows)[0],
        "final_success": round(final["success"], 3),
    }
    table = run / "labelling" / "watch_0.csv"
    if table.exists():
        with open(table, newline="") as file:
            windows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        hits, right = (sum(window[key] for window in windows) for key in ("hits", "right_hits"))
        last = windows[-10:]
        found |= {
            "labelled_at_the_end": round(float(np.mean([window["labelled_return"] for window in last])), 3),
            "true_at_the_end": round(float(np.mean([window["true_success"] for window in last])), 3),
            "first_hits": int(hits),
            "first_hit_precision": round(right / hits, 3) if hits else None,
        }
    return found


def _known(rows: list[dict[str, str]]) -> list[float]:
    return [round(float(row["success"]), 3) for row in rows if row.get("success")] or [float("nan")]


def _words(values: dict[str, Any]) -> list[str]:
    return [str(part) for pair in values.items() for part in pair]


def _limbeck(words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "limbeck.launchers.command_line", *words], check=True)


if __name__ == "__main__":
    main()
