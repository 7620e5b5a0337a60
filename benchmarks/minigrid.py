"""How fast hosted MiniGrid steps beside MiniGrid itself with the same observation.

python -m benchmarks.minigrid                 # about four minutes
python -m benchmarks.minigrid --seconds 0.2   # a look
"""

import argparse
import contextlib
import importlib.metadata
import io
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import limbeck.envs
import numpy as np
from minigrid.wrappers import RGBImgObsWrapper, RGBImgPartialObsWrapper

from ._machine import RESULTS, circumstances, write


IDS = (
    "MiniGrid-Empty-8x8-v0",
    "MiniGrid-DoorKey-8x8-v0",
    "MiniGrid-MultiRoom-N6-v0",
    "BabyAI-GoToLocal-v0",
    "BabyAI-BossLevel-v0",
)
TILE = 8
# What is observed: (our image, MiniGrid's wrapper, arguments of its environment). MiniGrid's full picture is
# taken without the highlight, as ours is.
OBSERVATIONS: dict[str, tuple[Any, Callable[[gymnasium.Env], gymnasium.Env], dict[str, Any]]] = {
    "symbols": (None, lambda environment: environment, {}),
    "agent picture": ("agent", lambda e: RGBImgPartialObsWrapper(e, tile_size=TILE), {}),
    "full picture": ("full", lambda e: RGBImgObsWrapper(e, tile_size=TILE), {"highlight": False}),
}


def ours(id: str, image: Any) -> Iterator[None]:
    """Steps ours for ever, one step a turn; an episode's reset belongs to the step after its end."""
    views = ("symbols", "direction") if image is None else ("direction",)
    environment = limbeck.envs.minigrid(id, seed=0, views=views, image=image, tile_size=TILE)
    for action in _actions():
        environment.step(action)
        yield


def theirs(
    id: str, wrap: Callable[[gymnasium.Env], gymnasium.Env], settings: dict[str, Any]
) -> Iterator[None]:
    """Steps MiniGrid for ever in the same way, with the same actions in the same episodes."""
    environment, over, seed = wrap(gymnasium.make(id, disable_env_checker=True, **settings)), True, 0
    for action in _actions():
        if over:
            environment.reset(seed=seed)
            seed, over = None, False
        else:
            _, _, terminated, truncated, _ = environment.step(action)
            over = terminated or truncated
        yield


def measure(seconds: float, pairs: int) -> list[dict[str, Any]]:
    """Steps per second of both, by turns; medians over the turns."""
    results = []
    for id in IDS:
        for name, (image, wrap, settings) in OBSERVATIONS.items():
            sides = ours(id, image), theirs(id, wrap, settings)
            rates: tuple[list[float], list[float]] = ([], [])
            for side in sides:
                _rate(side, seconds / 4)  # draws the tiles of both, which is done once
            for _ in range(pairs):
                for side, found in zip(sides, rates):
                    found.append(_rate(side, seconds))
            results.append(
                {
                    "id": id,
                    "observation": name,
                    "ours": round(statistics.median(rates[0])),
                    "minigrid": round(statistics.median(rates[1])),
                    "ratio": round(statistics.median(a / b for a, b in zip(*rates)), 2),
                }
            )
    return results


def _rate(side: Iterator[None], seconds: float) -> float:
    steps, start = 0, time.perf_counter()
    # BabyAI prints every level that it draws and rejects.
    with contextlib.redirect_stdout(io.StringIO()):
        while (elapsed := time.perf_counter() - start) < seconds:
            for _ in range(50):
                next(side)
            steps += 50
    return steps / elapsed


def _actions() -> Iterator[int]:
    rng = np.random.default_rng(0)
    while True:
        yield from rng.integers(7, size=10_000).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "minigrid.json", help="where results go"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn of each side")
    parser.add_argument("--pairs", type=int, default=4, help="turns of each side")
    arguments = parser.parse_args()
    about = circumstances("minigrid")
    about["versions"] |= {
        name: importlib.metadata.version(name) for name in ("gymnasium", "minigrid", "numpy")
    }
    results = measure(arguments.seconds, arguments.pairs)
    print(f"{'steps per second':28}{'':16}{'Limbeck':>10}{'MiniGrid':>10}{'ratio':>8}")
    for row in results:
        print(
            f"{row['id']:28}{row['observation']:16}{row['ours']:>10,}{row['minigrid']:>10,}{row['ratio']:>8.2f}"
        )
    write(arguments.json, {"unit": "steps per second, resets included", "steps": results} | about)


if __name__ == "__main__":
    main()
