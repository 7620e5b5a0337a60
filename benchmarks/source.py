"""How fast source algorithms fill learning histories, and how well they learn meanwhile.

python -m benchmarks.source --algorithm q_learning    # 2000 Dark Room histories of 200 episodes
python -m benchmarks.source --algorithm a2c           # the same from 20 learners of 100 streams
python -m benchmarks.source --algorithm rmax --episodes 60
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.agents import ALGORITHMS, CompiledConfig, make_agent, train_groups
from limbeck.envs import make, task_at

from ._machine import RESULTS, circumstances, write


# algorithm -> (streams per learner, unroll, learners per group)
LAYOUT = {
    "q_learning": (1, 1, 250),
    "rmax": (1, 1, 125),
    "ucb1": (1, 1, 250),
    "a2c": (100, 5, 1),
    "ppo": (100, 20, 1),
}


def measure(
    algorithm: str, environment: str = "dark_room", histories: int = 2000, episodes: int = 200, seed: int = 0,
    **overrides,
) -> dict:  # fmt: skip
    """Trains `algorithm` on every task in turn until `histories` streams are full.

    Returns:
      Seconds after compilation (histories in host memory), environment steps/s, and mean returns by episode.
    """
    world = make(environment)
    streams, unroll, group = LAYOUT[algorithm]
    learners = -(-histories // streams)
    config = CompiledConfig(episodes, streams, unroll)
    if algorithm == "q_learning":
        overrides.setdefault("epsilon_steps", int(0.9 * episodes * world.max_steps))
    agent = make_agent(algorithm, world, **overrides)
    keys = jax.random.split(jax.random.key(seed), learners)
    if world.num_tasks is None:
        tasks = jax.vmap(world.sample_task)(jax.random.split(jax.random.key(seed + 1), learners))
    else:
        # A stride without a common factor spreads a few learners over all tasks.
        stride = next(
            s
            for s in range(int(world.num_tasks * 0.382), world.num_tasks + 1)
            if np.gcd(s, world.num_tasks) == 1
        )
        tasks = task_at(world, jnp.arange(learners) * stride % world.num_tasks)
    group = min(group, learners)
    warm = jax.tree.map(lambda x: x[:group], (tasks, keys))
    started = time.perf_counter()
    list(train_groups(agent, world, *warm, config, group))
    first = time.perf_counter() - started

    started = time.perf_counter()
    returns = []
    for _, history in train_groups(agent, world, tasks, keys, config, group):
        returns.append(history.reward.reshape(-1, episodes, world.max_steps).sum(-1))
    seconds = time.perf_counter() - started
    curve = np.concatenate(returns).mean(axis=0)
    steps = learners * streams * episodes * world.max_steps
    return {
        "algorithm": algorithm,
        "environment": environment,
        "settings": overrides,
        "histories": learners * streams,
        "streams_per_learner": streams,
        "unroll": unroll,
        "episodes": episodes,
        "seconds": round(seconds, 2),
        "first_group_seconds_with_compilation": round(first, 2),
        "steps_per_second": round(steps / seconds),
        "return_first_10_episodes": [round(float(x), 3) for x in curve[:10]],
        "return_last_10_episodes": round(float(curve[-10:].mean()), 3),
        "return_by_episode": [round(float(x), 3) for x in curve],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", choices=sorted(ALGORITHMS), default="q_learning")
    parser.add_argument("--environment", default="dark_room")
    parser.add_argument("--histories", type=int, default=2000)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    about = circumstances("source")
    result = measure(**vars(arguments)) | about
    print(
        f"{result['histories']} histories of {result['episodes']} episodes by {result['algorithm']}: "
        f"{result['seconds']:.1f} s after compilation, {result['steps_per_second']:,} env steps/s"
    )
    print("mean return, episodes 1 to 10:", *result["return_first_10_episodes"])
    print(f"mean return, last 10 episodes: {result['return_last_10_episodes']}")
    write(RESULTS / f"source_{arguments.environment}_{arguments.algorithm}.json", result)


if __name__ == "__main__":
    main()
