"""Algorithm Distillation on Dark Room: several seeds of the `dark_room` experiment, and what they show together.

python -m benchmarks.ad_dark_room                     # three seeds of the experiment as it is: R-max, a sweeping source
python -m benchmarks.ad_dark_room --source a2c --seeds 1 --steps 1200
python -m benchmarks.ad_dark_room --source q_learning

The same command again goes on where it stopped.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from typing import Any

import numpy as np
from limbeck.distillation.statistics import episodes_to
from limbeck.launchers import runs, stages
from limbeck.launchers._experiment import run_experiment
from limbeck.launchers.experiments import load

from ._machine import RESULTS, circumstances, write


EXPERIMENT = "dark_room"
SHARES = (0.5, 0.75, 0.9)


def configure(source: str | None, changes: dict[str, Any], keep_every: int | None, steps: int | None) -> Any:
    """The experiment's own settings, but for the source, what is said of it, k and the updates."""
    experiment = load(EXPERIMENT)
    config = experiment.config("fast", source) if source else experiment.config("fast")
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(
        config,
        source=dataclasses.replace(config.source, **given),
        keep_every=keep_every or config.keep_every,
        train=dataclasses.replace(config.train, steps=steps or config.train.steps),
    )


def run_seed(config: Any, runs_dir: pathlib.Path, name: str) -> dict[str, Any]:
    """Runs one seed, or what is left of it.

    Returns:
      `minutes` of all calls that ended, and `interrupted`: whether an earlier call was cut off, whose time
      is then not in `minutes`.
    """
    directory, note = runs_dir / name, runs_dir / f"{name}.minutes.json"
    before = {"minutes": 0.0, "interrupted": (directory / "config.json").exists()}
    if note.exists():
        before = json.loads(note.read_text())
        if (directory / "report.json").exists():
            return before
    started = time.perf_counter()
    run_experiment(EXPERIMENT, config, runs_dir, name)
    before["minutes"] = round(before["minutes"] + (time.perf_counter() - started) / 60, 2)
    note.write_text(json.dumps(before) + "\n")
    return before


def summary(report: dict[str, Any], keep_every: int) -> dict[str, Any]:
    """The numbers that the README quotes, from the report of all seeds."""
    parts = {
        "held_out": report["held_out"],
        "train": report["train"],
        **{f"controls.{name}": part for name, part in report["controls"].items()},
    }
    return {
        **{
            name: {
                "last_10_normalised": _estimate(part["last_10_normalised"]),
                "windows": {span: _estimate(w["normalised"]) for span, w in part["windows"].items()},
                "dead_tasks": part["dead_tasks"],
                "last_10": _estimate(part["last_10"]),
                "optimum": part["optimum"],
            }
            for name, part in parts.items()
        },
        "by_training_seed": report["held_out"]["by_training_seed"],
        "source_return_by_episode": report["source"]["raw"],
        "keep_every": keep_every,
        "episodes_needed": episodes_needed(report),
    }


def episodes_needed(report: dict[str, Any]) -> dict[str, dict[str, float | int | None]]:
    """First episode at which the mean normalised return reaches a share of the optimum.

    Both sides are means over tasks and streams. The source is one stream learning a training task by
    updates; the distilled agent learns in its context, on held-out and on training tasks. With keep-every-k
    histories a part of the ratio, up to k, is subsampling.
    """
    train = report["train"]
    source = np.asarray(report["source"]["raw"])
    curves = {"source": (source - train["random"]) / (train["optimum"] - train["random"])}
    for part in ("held_out", "train"):
        curves[part] = np.asarray(report[part]["by_episode"]["normalised"]["mean"])
    table: dict[str, dict[str, float | int | None]] = {}
    for share in SHARES:
        row: dict[str, float | int | None] = {name: episodes_to(c, share) for name, c in curves.items()}
        needed, by_source = row["held_out"], row["source"]
        row["source_to_held_out"] = round(by_source / needed, 2) if needed and by_source else None
        table[f"{share:.0%}"] = row
    return table


def show(result: dict[str, Any]) -> None:
    """Prints the summary."""
    for name in ("held_out", "train", "controls.rewards_zeroed", "controls.context_cleared"):
        part = result[name]
        spans = {"last 10": part["last_10_normalised"], **part["windows"]}
        text = ", ".join(
            f"{k}: {v['iqm']:.3f} ({v['ci'][0]:.3f} to {v['ci'][1]:.3f})" for k, v in spans.items()
        )
        print(f"{name:26} {text}; dead tasks: {part['dead_tasks']}")
    print(f"first episode at a share of the optimum (keep-every-k, k = {result['keep_every']}):")
    for share, row in result["episodes_needed"].items():
        print(f"  {share:>4}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    print("minutes per seed:", *(seed["minutes"] for seed in result["seeds"]))


def _estimate(node: dict[str, Any]) -> dict[str, Any]:
    return {"iqm": round(node["iqm"], 4), "ci": [round(x, 4) for x in node["ci"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--source", help="algorithm; the experiment's own by default")
    parser.add_argument(
        "--keep-every", type=int, help="k: each k-th episode is kept; the experiment's own by default"
    )
    parser.add_argument("--steps", type=int, help="updates; the experiment's own by default")
    parser.add_argument("--runs-dir", type=pathlib.Path, default=pathlib.Path("runs"))
    for name in ("episodes", "runs_per_task", "streams", "unroll"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="of the source")
    arguments = parser.parse_args()
    changes = {name: getattr(arguments, name) for name in ("episodes", "runs_per_task", "streams", "unroll")}
    config = configure(arguments.source, changes, arguments.keep_every, arguments.steps)
    about = circumstances("ad_dark_room")
    suffix = f"_{arguments.source}" if arguments.source else ""
    members, seeds = [], []
    for seed in range(arguments.seeds):
        name = f"ad_dark_room{suffix}_seed_{seed}"
        took = run_seed(dataclasses.replace(config, seed=seed), arguments.runs_dir, name)
        seeds.append({"seed": seed, **took})
        members.append(runs.open_run(arguments.runs_dir / name))
    into = arguments.runs_dir / f"ad_dark_room{suffix}"
    stages.write_report(members, dataclasses.replace(members[0], directory=into), config)
    report = json.loads((into / "report.json").read_text())
    result = {**summary(report, config.keep_every), "seeds": seeds}
    show(result)
    print(f"report: {into / 'report.html'}")
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    write(RESULTS / f"ad_dark_room{suffix}.json", {**result, **about, "settings": settings})


if __name__ == "__main__":
    main()
