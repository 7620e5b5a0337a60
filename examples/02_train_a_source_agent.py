"""Whole learning runs compiled into one program: R-max learns eight goals at once."""

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.agents import ALGORITHMS, CompiledConfig, make_agent, train
from limbeck.envs import make, task_at


def main(algorithm: str = "rmax", episodes: int = 60, tasks: int = 8) -> np.ndarray:
    print("algorithms:", ", ".join(ALGORITHMS))
    room = make("dark_room")
    agent = make_agent(algorithm, room)
    keys = jax.random.split(jax.random.key(0), tasks)
    history = train(agent, room, task_at(room, jnp.arange(tasks)), keys, CompiledConfig(episodes))

    # [run, stream, time]: an episode of Dark Room always has 20 steps.
    returns = np.asarray(history.reward).reshape(tasks, episodes, room.max_steps).sum(-1)
    curve = returns.mean(axis=0)
    for episode in np.linspace(0, episodes - 1, 5, dtype=int):
        print(f"episode {episode + 1:3d}: mean return {curve[episode]:.2f}")
    return curve


if __name__ == "__main__":
    main()
