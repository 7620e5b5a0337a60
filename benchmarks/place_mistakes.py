"""What agents of *Place* were paid for by mistake: where the two things lay at the first hit of their episodes.

python -m benchmarks.place_mistakes --clips runs/clips --sizes s m l    # after vlm_rewards has trained such agents

Reads the episodes that the agents of `benchmarks.vlm_rewards` played at the end of their training, pays them again by
the CLIP and the card that had paid them, and counts what the first frame of each episode that is paid shows.
"""

import argparse
import collections
import pathlib
from typing import Any

import numpy as np
from limbeck.envs.facts import OBJECTS
from limbeck.rewards import load_card

from ._machine import RESULTS, circumstances, write
from ._paid_agents import Plays
from ._vlm_domains import domain_of
from ._vlm_paying import Clip, model_of, scores_of


FAMILY = "place"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=pathlib.Path, required=True, help="a ladder of rooms")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("runs/vlm_rewards"))
    parser.add_argument("--sizes", nargs="+", default=["s", "m", "l"])
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "place_mistakes.json")
    arguments = parser.parse_args()
    result = circumstances("place_mistakes")
    for size in arguments.sizes:
        played = sorted(arguments.directory.glob(f"agents/{FAMILY}_{size}_*_walks.npz"))
        if not played:
            parser.error(
                f"{arguments.directory} has no agents of {FAMILY} paid by {size}; run vlm_rewards first"
            )
        card = load_card(arguments.directory / "cards" / f"{FAMILY}_{size}_walks.json")
        model = model_of(Clip(size, arguments.clips / size), FAMILY)
        levels = np.asarray(card.levels(model.goals))
        shown: collections.Counter[str] = collections.Counter()
        for path in played:
            shown += _first_hits(model, levels, Plays(**np.load(path, allow_pickle=False)))
        result[size] = {"agents": len(played), **dict(shown.most_common())}
        print(size, result[size])
    write(arguments.json, result)


def _first_hits(model: Any, levels: np.ndarray, plays: Plays) -> collections.Counter[str]:
    """What the first frame that is paid shows, over episodes."""
    domain = domain_of(FAMILY)
    episodes, steps = plays.symbols.shape[:2]
    frames, own = plays.symbols.reshape(-1, *plays.symbols.shape[2:]), np.repeat(plays.goal, steps)
    rows = np.arange(len(frames))
    paid = (scores_of(model, domain, frames)[rows, own] >= levels[own]).reshape(episodes, steps)
    true = domain.frame_truth(FAMILY, frames)[rows, own].reshape(episodes, steps)
    facts = domain.world.read(frames)
    floor, holding = np.asarray(facts.floor), np.asarray(facts.holding)
    goals = domain.world.goals(FAMILY)
    shown: collections.Counter[str] = collections.Counter()
    for episode, step in zip(np.flatnonzero(paid.any(1)), paid[paid.any(1)].argmax(1)):
        row = episode * steps + step
        things = [OBJECTS.index(thing) for thing in goals[plays.goal[episode]].objects]
        if true[episode, step]:
            shown["true"] += 1
        else:
            shown[_what(floor[row], int(holding[row]), things)] += 1
    return shown


def _what(floor: np.ndarray, holding: int, things: list[int]) -> str:
    places = [np.argwhere(floor == thing) for thing in things]
    if not all(map(len, places)):
        return "one of them is carried" if holding in things else "one of them or both are not in view"
    return f"both in view, {min(int(np.abs(a - b).sum()) for a in places[0] for b in places[1])} steps apart"


if __name__ == "__main__":
    main()
