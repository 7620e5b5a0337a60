"""Vision-language models as rewards (Baumli et al., arXiv 2312.09187): agents paid by small CLIPs.

python -m benchmarks.vlm_rewards --quick                          # the whole path in small, for a check
python -m benchmarks.vlm_rewards --sizes xxs xs --families lift   # trains the CLIPs that are missing first
python -m benchmarks.vlm_rewards --sections offline correlation   # of agents that are trained already

Sections: `agents` (question 1: do labelled and true return rise together, on goals held out?), `offline` (2: precision
and recall by size, also on frames of the agents trained by each), `correlation` (3: does offline predict online?),
`prompts` (4: descriptions of the state against instructions). Controls: `truth`; `shuffled`, the first CLIP asked about
another goal; `random`, which pays as often as the first CLIP on random walks. Stages are resumed from their files.
"""

import argparse
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from limbeck.rewards import Pairs
from limbeck.rewards.clip_sizes import SIZES
from limbeck.rewards.clip_training import ClipTrainConfig
from limbeck.rewards.hits import first_hits
from limbeck.rewards.ladder import train_ladder

from . import _vlm_figures as figures
from . import _vlm_summary as summary
from ._machine import RESULTS, circumstances, write
from ._paid_agents import Plays, train
from ._seeds import over_seeds
from ._stages import kept
from ._vlm_domains import DOMAINS, domain_of
from ._vlm_paying import (
    CONTROLS,
    Calibrating,
    Clip,
    Rewards,
    judged_frames,
    model_of,
    plays_as_pairs,
    scores_of,
)


SECTIONS = ("agents", "offline", "correlation", "prompts")
FAMILIES = tuple(family for domain in DOMAINS.values() for family in domain.families)
# What `--quick` has instead.
_QUICK: dict[str, Any] = {
    "directory": pathlib.Path("runs/vlm_rewards_quick"),
    "json": pathlib.Path("runs/vlm_rewards_quick/results.json"),
    "sizes": ["xxs", "xs"], "families": ["lift"], "seeds": 2, "steps": 65_536,
}  # fmt: skip


def main() -> None:
    arguments = _arguments()
    stages = Stages(arguments)
    result = circumstances("vlm_rewards")
    result["settings"] = {
        name: str(value) if isinstance(value, pathlib.Path) else value
        for name, value in vars(arguments).items()
    }
    if "agents" in arguments.sections:
        runs = {family: stages.runs(family) for family in arguments.families}
        result["agents"] = {family: summary.agents(found) for family, found in runs.items()}
        figures.draw_curves(stages.figure("curves"), runs)
        print(figures.table(result["agents"]))
        write(arguments.json, result)
    if "offline" in arguments.sections:
        found = {
            family: {size: stages.offline(family, stages.clip(family, size)) for size in arguments.sizes}
            for family in arguments.families
        }
        result["offline"] = found
        result["larger_is_better"] = {family: _trends(sizes) for family, sizes in found.items()}
        figures.draw_precision_recall(stages.figure("precision_recall"), found)
        write(arguments.json, result)
    if "correlation" in arguments.sections:
        result["correlation"], points = stages.correlation()
        figures.draw_correlation(stages.figure("correlation"), points)
        write(arguments.json, result)
    if "prompts" in arguments.sections:
        result["prompts"] = {family: stages.prompts(family) for family in arguments.families}
        write(arguments.json, result)
    print(
        json.dumps(
            {name: result[name] for name in ("larger_is_better", "correlation") if name in result}, indent=1
        )
    )


class Stages:
    """What is trained and measured, each in a file of the run's directory, so that a killed run goes on."""

    def __init__(self, arguments: argparse.Namespace):
        self._given, self._directory = arguments, arguments.directory
        quick = arguments.quick
        self._calibrating = (
            Calibrating(arguments.calibration, 40, 0.2, 0.3, 65_536, 3)
            if quick
            else Calibrating(arguments.calibration)
        )
        self._judged_episodes = 30 if quick else 200

    def figure(self, name: str) -> pathlib.Path:
        return self._given.json.parent / f"{self._given.json.stem}_{name}.png"

    def clip(self, family: str, size: str, style: str = "state", state_only: bool = False) -> Clip:
        """A CLIP of the family's world, trained where it is missing; `state_only`: its captions never instruct."""
        world = domain_of(family).world
        kind = "clips_state_only" if state_only else "clips"
        path = getattr(self._given, kind) or self._directory / kind
        # A ladder that is given may be of one world, without a folder for each.
        if not any((path / rung).exists() for rung in SIZES):
            path /= world.name
        if not (path / size / "open_clip_model.safetensors").exists():
            captions = world.captions(**({"imperative": 0.0} if state_only else {}))
            training = ClipTrainConfig(steps=60) if self._given.quick else None
            train_ladder(path, [size], captions, training, world.name)
        name = "_".join(
            [size, *(["state_only"] if state_only else []), *([style] if style != "state" else [])]
        )
        return Clip(name, path / size, style)

    def runs(self, family: str) -> dict[str, list[dict[str, Any]]]:
        """Trainings by reward and seed, the controls among them."""
        rewards: list[tuple[str, Clip | None]] = [("truth", None)]
        rewards += [(size, self.clip(family, size)) for size in self._given.sizes]
        rewards += [(control, None) for control in self._given.controls]
        return {name: self.runs_of(family, name, clip) for name, clip in rewards}

    def runs_of(self, family: str, reward: str, clip: Clip | None) -> list[dict[str, Any]]:
        found = []
        for seed in range(self._given.seeds):
            path = self._path("agents", family, reward, str(seed), str(self._steps(family))).with_suffix(
                ".json"
            )
            plays = path.with_suffix(".npz")
            found.append(kept(path, lambda s=seed, p=plays: self._train(family, reward, clip, s, p)))
            print(f"{family} {reward} seed {seed}: {_line(found[-1])}", flush=True)
        return found

    def offline(self, family: str, clip: Clip) -> dict[str, Any]:
        """What a CLIP is worth by stratum, and on the frames of the agents that it trained, where there are any."""
        played = [
            self._path("agents", family, clip.name, str(seed), str(self._steps(family))).with_suffix(".npz")
            for seed in range(self._given.seeds)
        ]
        played = [path for path in played if path.exists()]
        path = self._path("offline", family, clip.name, str(len(played))).with_suffix(".json")
        return kept(path, lambda: self._measure(family, clip, played))

    def correlation(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Rank correlations of offline scores with true success, by family and over all; and the points."""
        points, offline, online = (
            {},
            {"average_precision": [], "false_positive_rate": [], "first_hit_precision": []},
            [],
        )
        for family in self._given.families:
            clips = [self.clip(family, size) for size in self._given.sizes]
            seeds = [
                [summary.success(run) for run in self.runs_of(family, clip.name, clip)] for clip in clips
            ]
            measured = [self.offline(family, clip)["all"] for clip in clips]
            for name, rows in offline.items():
                values = [found[name]["value"] for found in measured]
                sign = -1 if name == "false_positive_rate" else 1
                # Nothing paid, nothing right.
                rows.append([sign * (0.0 if value is None else value) for value in values])
            online.append(seeds)
            points[family] = {
                clip.name: (row[0], row[1])
                for clip, row in zip(clips, zip(offline["average_precision"][-1], seeds))
            }
        result: dict[str, Any] = {"sizes": self._given.sizes, "seeds": self._given.seeds}
        for name, rows in offline.items():
            label = f"negative {name}" if name == "false_positive_rate" else name
            result[label] = {
                family: summary.rank_correlations(np.array(rows[i : i + 1]), np.array(online[i : i + 1]))
                for i, family in enumerate(self._given.families)
            }
            result[label]["all families"] = summary.rank_correlations(np.array(rows), np.array(online))
        return result, points

    def prompts(self, family: str) -> dict[str, Any]:
        """Texts that describe the state against instructions, for CLIPs that read both in training, and one only."""
        size = self._given.sizes[0]
        found: dict[str, Any] = {}
        for state_only in (False, True):
            for style in domain_of(family).world.styles:
                clip = self.clip(family, size, style, state_only)
                runs = self.runs_of(family, clip.name, clip)
                found[clip.name] = {
                    "captions": "states only" if state_only else "states and instructions",
                    "style": style,
                    "average_precision": self.offline(family, clip)["all"]["average_precision"],
                    "held_out_success": over_seeds([summary.success(run) for run in runs]),
                }
        return found

    def _train(
        self, family: str, reward: str, clip: Clip | None, seed: int, plays_path: pathlib.Path
    ) -> dict[str, Any]:
        domain = domain_of(family)
        goals, held_out = domain.split(family)
        rewards = Rewards(self._directory, self._calibrating, self.clip(family, self._given.sizes[0]))
        curve, plays = train(
            domain.environment(family), rewards.pay(family, reward, clip), goals, held_out,
            self._steps(family), seed, domain.families[family].agent,
        )  # fmt: skip
        plays_path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(plays_path, **plays[-1]._asdict())
        return curve._asdict()

    def _measure(self, family: str, clip: Clip, played: Sequence[pathlib.Path]) -> dict[str, Any]:
        domain, model = domain_of(family), model_of(clip, family)
        rewards = Rewards(self._directory, self._calibrating, self.clip(family, self._given.sizes[0]))
        levels = rewards.card(family, clip).levels(model.goals)
        goals, _ = domain.split(family)
        frames = judged_frames(domain, family, self._judged_episodes, split=2)
        pairs = Pairs.of(
            scores_of(model, domain, frames.symbols), domain.frame_truth(family, frames.symbols),
            frames.episode, frames.time, model.goals,
        )  # fmt: skip
        pairs = pairs.select(np.isin(pairs.goal, goals))
        found = {"all": summary.offline(pairs, levels)}
        for stratum in dict.fromkeys(frames.stratum.tolist()):
            found[stratum] = summary.offline(pairs.select((frames.stratum == stratum)[pairs.frame]), levels)
        if played:
            plays = [Plays(**np.load(path, allow_pickle=False)) for path in played]
            found["on policy"] = summary.offline(
                _until_paid(plays_as_pairs(model, domain, family, plays), levels), levels
            )
        return found

    def _steps(self, family: str) -> int:
        return self._given.steps or domain_of(family).families[family].steps

    def _path(self, kind: str, *names: str) -> pathlib.Path:
        return self._directory / kind / "_".join([*names, self._given.calibration])


def _until_paid(pairs: Pairs, levels: Sequence[float]) -> Pairs:
    """Episodes of one goal each up to their first hit: what comes after, no training sees."""
    hits = first_hits(pairs, levels)
    end = np.full(pairs.num_episodes, np.iinfo(np.int64).max)
    end[hits.episode[hits.first >= 0]] = hits.first[hits.first >= 0]
    return pairs.select(pairs.step <= end[pairs.episode])


def _trends(sizes: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for part in ("all", "on policy"):
        for name, sign in (("average_precision", 1), ("partial_auroc", 1), ("false_positive_rate", -1)):
            values = {size: parts[part][name]["value"] for size, parts in sizes.items() if part in parts}
            known = {size: sign * value for size, value in values.items() if value is not None}
            label = f"negative {name}" if sign < 0 else name
            found[f"{part}, {label}"] = summary.trend(known)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "vlm_rewards.json", help="where results go"
    )
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("runs/vlm_rewards"))
    parser.add_argument("--clips", type=pathlib.Path, help="a ladder, or a folder with one for each world")
    parser.add_argument(
        "--clips-state-only", type=pathlib.Path, help="the same, of captions without instructions"
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["xxs", "xs", "s", "m"])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=["find", "lift", "place"])
    parser.add_argument(
        "--controls", nargs="*", choices=CONTROLS[1:], default=list(CONTROLS[1:]), help="beside the truth"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of every agent; without it as many as its family takes")
    parser.add_argument("--calibration", choices=("walks", "episodes", "on-policy"), default="walks")
    parser.add_argument(
        "--quick", action="store_true", help="the whole path in small; its numbers mean nothing"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        for name, value in _QUICK.items():
            if getattr(arguments, name) == parser.get_default(name):
                setattr(arguments, name, value)
    return arguments


def _line(run: dict[str, Any]) -> str:
    late = len(run["steps"]) * 3 // 4
    hits, right = sum(run["first_hits"][late:]), sum(run["right_hits"][late:])
    return (
        f"held-out {summary.success(run):.2f}, labelled {run['labelled'][-1]:.2f}, true {run['true'][-1]:.2f}, "
        f"first hits right {right / hits if hits else math.nan:.3f}, {run['seconds'][-1]:.0f} s"
    )


if __name__ == "__main__":
    main()
