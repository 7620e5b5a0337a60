"""How fast rooms step as one compiled program, with and without pictures, beside MiniGrid itself.

python -m benchmarks.rooms                 # about two minutes
python -m benchmarks.rooms --seconds 0.2   # a look
"""

import argparse
import functools
import importlib.metadata
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from limbeck.envs import AutoReset, make
from minigrid.wrappers import RGBImgPartialObsWrapper

from ._machine import RESULTS, circumstances, write
from .minigrid import theirs


# The registered environments of MiniGrid that are nearest to the three families, in rooms of 6x6 with two objects.
PEERS = {
    "find": "MiniGrid-GoToObject-6x6-N2-v0",
    "lift": "MiniGrid-Fetch-6x6-N2-v0",
    "place": "MiniGrid-PutNear-6x6-N2-v0",
}
OBSERVATIONS: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "symbols": (("symbols", "direction"), lambda environment: environment),
    "agent picture": (("image", "direction"), lambda e: RGBImgPartialObsWrapper(e, tile_size=8)),
}
UNROLL = 16


def ours(family: str, views: tuple[str, ...], copies: int) -> Iterator[None]:
    """Steps `copies` rooms for ever with random actions, UNROLL steps of each a turn, resets included.

    Every observation is kept until the turn is over, as a learner would keep its trajectory.
    """
    world = AutoReset(make("rooms", family=family, size=6, objects=2, views=views))
    keys = jax.random.split(jax.random.key(0), copies)
    tasks = jax.vmap(world.sample_task)(keys)

    @functools.partial(jax.jit, donate_argnums=1)
    def unroll(key, states):
        def step(states, key):
            actions = jax.random.randint(key, (copies,), 0, 7)
            states, timesteps = jax.vmap(world.step)(jax.random.split(key, copies), tasks, states, actions)
            return states, timesteps

        return jax.lax.scan(step, states, jax.random.split(key, UNROLL))

    states, _ = jax.jit(jax.vmap(world.reset))(keys, tasks)
    key = jax.random.key(1)
    while True:
        key, now = jax.random.split(key)
        states, timesteps = unroll(now, states)
        jax.block_until_ready(timesteps)
        yield


def measure(seconds: float, pairs: int, copies: int) -> list[dict[str, Any]]:
    """Steps per second of both, by turns; medians over the turns."""
    results = []
    for family, id in PEERS.items():
        for name, (views, wrap) in OBSERVATIONS.items():
            sides = (ours(family, views, copies), UNROLL * copies), (theirs(id, wrap, {}), 1)
            rates: tuple[list[float], list[float]] = ([], [])
            for side, steps in sides:
                next(side)  # compiles
                _rate(side, steps, seconds / 4)
            for _ in range(pairs):
                for (side, steps), found in zip(sides, rates):
                    found.append(_rate(side, steps, seconds))
            results.append(
                {
                    "family": family,
                    "peer": id,
                    "observation": name,
                    "ours": round(statistics.median(rates[0])),
                    "minigrid": round(statistics.median(rates[1])),
                    "ratio": round(statistics.median(a / b for a, b in zip(*rates)), 1),
                }
            )
    return results


def _rate(side: Iterator[None], steps: int, seconds: float) -> float:
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not done:
        next(side)
        done += steps
    return done / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "rooms.json", help="where results go")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn of each side")
    parser.add_argument("--pairs", type=int, default=4, help="turns of each side")
    parser.add_argument("--copies", type=int, default=256, help="rooms that are stepped together")
    arguments = parser.parse_args()
    about = circumstances("rooms")
    about["versions"] |= {name: importlib.metadata.version(name) for name in ("gymnasium", "minigrid")}
    about["copies"] = arguments.copies
    results = measure(arguments.seconds, arguments.pairs, arguments.copies)
    print(f"{'steps per second':20}{'':16}{'Limbeck':>12}{'MiniGrid':>10}{'ratio':>8}")
    for row in results:
        print(
            f"{row['family']:20}{row['observation']:16}{row['ours']:>12,}{row['minigrid']:>10,}{row['ratio']:>8.1f}"
        )
    write(arguments.json, {"unit": "steps per second, resets included", "steps": results} | about)


if __name__ == "__main__":
    main()
