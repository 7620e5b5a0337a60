"""Agents in Rooms that are paid by small CLIPs: labelled and true success, held-out goals, first hits, controls.

python -m benchmarks.vlm_rewards                                  # trains the CLIPs first: over an hour on 2 cores
python -m benchmarks.vlm_rewards --sizes xxs --seeds 2 --steps 1000000

Stages are resumed: CLIPs, their calibration, and one file for each training. Rewards beside the CLIPs': the truth;
`shuffled`, the first CLIP asked about another goal; `random`, reward 1 as often as the first CLIP's rate on random
walks. Goals about three of eighteen objects are held out: from the captions, and from the agents' training.
"""

import argparse
import functools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._machine import RESULTS, circumstances, write


FAMILIES = ("find", "lift")
PREDICATES = {"find": "face", "lift": "hold"}
HELD_OUT, SIZE, OBJECTS_IN_ROOM, HORIZON = 3, 6, 4, 32
CALIBRATION_EPISODES, TARGET = 300, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "vlm_rewards.json", help="where results go"
    )
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("runs/vlm_rewards"))
    parser.add_argument("--clips", type=pathlib.Path, help="a ladder that is there already")
    parser.add_argument("--sizes", nargs="+", default=["xxs", "xs", "s", "m"])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1_500_000)
    arguments = parser.parse_args()
    from limbeck.rewards.ladder import train_ladder

    result = circumstances("vlm_rewards")
    clips = arguments.clips or arguments.directory / "clips"
    result["offline"] = train_ladder(clips, arguments.sizes)
    rewards = ["truth", *arguments.sizes, "shuffled", "random"]
    for family in arguments.families:
        runs: dict[str, list[dict[str, Any]]] = {}
        for seed in range(arguments.seeds):
            for reward in rewards:
                path = arguments.directory / "agents" / f"{family}_{reward}_{seed}_{arguments.steps}.json"
                if not path.exists():
                    _save(
                        path,
                        _agent(
                            family,
                            reward,
                            seed,
                            arguments.steps,
                            clips,
                            arguments.sizes[0],
                            arguments.directory,
                        ),
                    )
                runs.setdefault(reward, []).append(json.loads(path.read_text()))
                print(f"{family} {reward} seed {seed}: {_line(runs[reward][-1])}", flush=True)
        result[family] = _summary(runs)
        write(arguments.json, result)


def _agent(
    family: str, reward: str, seed: int, steps: int, clips: pathlib.Path, first: str, directory: pathlib.Path
) -> dict[str, Any]:
    """One training, as JSON values."""
    from ._rooms_agents import train

    room, goals, held_out = _room(family)
    pay = _pay(family, reward, clips, first, directory, room)
    began = time.perf_counter()
    curve = train(room, pay, goals, held_out, steps, seed)
    return {"seconds": round(time.perf_counter() - began, 1), **curve._asdict()}


def _room(family: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The room, the numbers of the goals of training, and of those held out."""
    from limbeck.envs.goals import split_goals

    from limbeck import envs

    from ._rooms_agents import VIEWS

    room = envs.make(
        "rooms",
        family=family,
        size=SIZE,
        objects=OBJECTS_IN_ROOM,
        max_steps=HORIZON,
        views=VIEWS,
        reward="none",
    )
    named, _ = split_goals(0, HELD_OUT)
    is_training = np.array([set(goal.objects) <= named for goal in room.goals])
    return room, np.flatnonzero(is_training), np.flatnonzero(~is_training)


def _pay(
    family: str, reward: str, clips: pathlib.Path, first: str, directory: pathlib.Path, room: Any
) -> Any:
    from limbeck.envs.facts import OBJECTS, goal_holds, read_facts

    things = jnp.asarray([OBJECTS.index(goal.objects[0]) for goal in room.goals])

    def truth(observation, goal, key):
        return goal_holds(PREDICATES[family], things[goal], things[goal], read_facts(observation["symbols"]))

    if reward == "truth":
        return truth
    if reward == "random":
        rate = _calibrated(family, first, clips, directory)[1]
        return lambda observation, goal, key: jax.random.bernoulli(key, rate)
    pay, _ = _calibrated(family, first if reward == "shuffled" else reward, clips, directory)
    if reward == "shuffled":
        moved = jnp.asarray(np.random.default_rng(0).permutation(len(room.goals)))
        return lambda observation, goal, key: pay(observation, moved[goal], key)
    return pay


@functools.cache
def _calibrated(family: str, size: str, clips: pathlib.Path, directory: pathlib.Path) -> tuple[Any, float]:
    """The calibrated reward as a pure function, and how often it pays on random walks."""
    from limbeck.rewards import (
        CalibratedReward,
        CalibrationConfig,
        JaxClip,
        Pairs,
        calibrate,
        head_settings,
        load_card,
        save_card,
    )
    from limbeck.rewards.clip_reward import clip_reward, family_goals
    from limbeck.rewards.paid import pay_by
    from limbeck.rewards.room_frames import WALK, goal_truth, render_frames, room_frames

    model = clip_reward(f"local-dir:{clips / size}", family, in_jax=True)
    path = directory / "cards" / f"{family}_{size}.json"
    frames = room_frames(family, CALIBRATION_EPISODES, HORIZON, SIZE, OBJECTS_IN_ROOM, 0, split=1)
    embeddings = model.embed(render_frames(frames.symbols))
    scores = np.stack([model.score(embeddings, [goal] * len(embeddings)) for goal in model.goals], axis=1)
    if not path.exists():
        truth = goal_truth(family_goals(family), frames.facts)
        pairs = Pairs.of(scores, truth, frames.episode, frames.time, model.goals)
        config = CalibrationConfig(target=TARGET)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_card(calibrate(pairs, model.encoder.fingerprint, head_settings(model.head), config), path)
    reward = CalibratedReward(model, load_card(path), allow_abstained=True)
    clip = JaxClip(clips / size)
    levels = np.asarray(reward.card.levels(model.goals))
    rate = float((scores[frames.stratum == WALK] >= levels).mean())
    return pay_by(reward, functools.partial(clip.frames_fn, clip.params)), rate


def _summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Of each reward, by seed and in the mean: success on held-out goals, and what was paid at the end."""
    found: dict[str, Any] = {}
    for reward, seeds in runs.items():
        held_out = [_last(run["held_out"]) for run in seeds]
        late = [len(run["steps"]) * 3 // 4 for run in seeds]
        hits = [sum(run["first_hits"][start:]) for run, start in zip(seeds, late)]
        right = [sum(run["right_hits"][start:]) for run, start in zip(seeds, late)]
        found[reward] = {
            "held_out_success": [round(x, 4) for x in held_out],
            "held_out_mean": round(float(np.mean(held_out)), 4),
            "labelled_at_the_end": [
                round(float(np.mean(run["labelled"][start:])), 4) for run, start in zip(seeds, late)
            ],
            "true_at_the_end": [
                round(float(np.mean(run["true"][start:])), 4) for run, start in zip(seeds, late)
            ],
            "first_hit_precision": [round(a / b, 4) if b else None for a, b in zip(right, hits)],
            "seconds": [run["seconds"] for run in seeds],
        }
    for reward in found:
        found[reward]["share_of_truth"] = round(
            found[reward]["held_out_mean"] / found["truth"]["held_out_mean"], 3
        )
    return found


def _last(values: list[float], count: int = 3) -> float:
    """The mean of the last evaluations."""
    return float(np.mean([x for x in values if x == x][-count:]))


def _line(run: dict[str, Any]) -> str:
    hits, right = sum(run["first_hits"][-8:]), sum(run["right_hits"][-8:])
    return (
        f"held-out {_last(run['held_out']):.2f}, labelled {run['labelled'][-1]:.2f}, true {run['true'][-1]:.2f}, "
        f"first hits right {right / max(1, hits):.3f}, {run['seconds']:.0f} s"
    )


def _save(path: pathlib.Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value))
    unfinished.rename(path)


if __name__ == "__main__":
    main()
