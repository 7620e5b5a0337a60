"""Environments by name: pure JAX, and the same world for dm_env and gymnasium loops."""

import jax
from limbeck.envs import environment_names, make, split_tasks, to_dm_env, to_gymnasium


def main(seed: int = 0) -> float:
    print("environments:", ", ".join(environment_names()))
    room = make("dark_room")
    split = split_tasks(room.num_tasks, held_out=8, seed=seed)
    print(f"{len(split.train)} goals to learn from, held out: {split.held_out}")

    goal = split.held_out[0]
    random, optimal = room.bounds(goal)
    print(
        f"goal {goal}: random actions earn {float(random):.3f} an episode, optimal ones {float(optimal):.0f}"
    )

    # Pure functions: unbatched, to be vmapped and scanned.
    state, timestep = room.reset(jax.random.key(seed), goal)
    state, timestep = jax.jit(room.step)(jax.random.key(seed), goal, state, 1)
    print("after one step at", timestep.observation, "reward", float(timestep.reward))

    # The same world as a dm_env environment and as a gymnasium one.
    print("dm_env:", to_dm_env(room, task=goal).reset().observation)
    print("gymnasium:", to_gymnasium(room, task=goal).reset(seed=seed)[0])
    return float(optimal)


if __name__ == "__main__":
    main()
