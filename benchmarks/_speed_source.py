"""Our compiled A2C beside stable-baselines3's on the gymnasium form of Dark Room.

Same work on both sides: 100 copies of Dark Room with one goal, a torso of 3 x 128 ReLU units that
policy and value share, one-hot (x, y), updates after every 5 steps of each copy, lambda 0.95, Adam.
The peer's 100 copies advance in one jitted call behind stable-baselines3's VecEnv interface; its own
DummyVecEnv (100 Python calls a step) and SubprocVecEnv (100 processes) were not timed.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.agents import CompiledConfig, make_agent, train, train_groups
from limbeck.envs import make, to_gymnasium_vector


STREAMS, UNROLL, GOAL = 100, 5, 30
HIDDEN = (128, 128, 128)


def _peer(steps: int) -> dict[str, float]:
    """Environment steps/s of stable-baselines3's A2C while it learns."""
    import gymnasium
    import torch
    from stable_baselines3 import A2C
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecEnv

    class Copies(VecEnv):
        """A gymnasium vector environment (SAME_STEP resets) as stable-baselines3's VecEnv."""

        def __init__(self, vector: Any, sizes: list[int]):
            self.vector = vector
            super().__init__(
                vector.num_envs, gymnasium.spaces.MultiDiscrete(sizes), vector.single_action_space
            )

        def reset(self) -> np.ndarray:
            return self.vector.reset()[0]

        def step_async(self, actions: np.ndarray) -> None:
            self.actions = actions

        def step_wait(self) -> tuple:
            observation, reward, terminated, truncated, info = self.vector.step(self.actions)
            done = terminated | truncated
            infos: list[dict] = [{} for _ in range(self.num_envs)]
            for i in np.flatnonzero(done):
                infos[i] = {
                    "terminal_observation": info["final_obs"][i],
                    "TimeLimit.truncated": bool(truncated[i]),
                }
            return observation, reward.astype(np.float32), done, infos

        def close(self) -> None:
            self.vector.close()

        def get_attr(self, attr_name: str, indices: Any = None) -> list:
            return [getattr(self.vector, attr_name, None)] * self.num_envs

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            setattr(self.vector, attr_name, value)

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list:
            return [getattr(self.vector, method_name)(*args, **kwargs)]

        def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
            return [False] * self.num_envs

    class Torso(BaseFeaturesExtractor):
        """The shared layers; stable-baselines3 shows MultiDiscrete observations one-hot."""

        def __init__(self, space: Any):
            super().__init__(space, HIDDEN[-1])
            layers, width = [], int(sum(space.nvec))
            for units in HIDDEN:
                layers += [torch.nn.Linear(width, units), torch.nn.ReLU()]
                width = units
            self.layers = torch.nn.Sequential(*layers)

        def forward(self, observation: Any) -> Any:
            return self.layers(observation)

    world = make("dark_room")
    tasks = jnp.full((STREAMS,), GOAL, jnp.int32)
    copies = Copies(
        to_gymnasium_vector(world, num_envs=STREAMS, tasks=tasks, seed=0), [world.size, world.size]
    )
    model = A2C(
        "MlpPolicy", copies, learning_rate=1e-3, n_steps=UNROLL, gamma=0.99, gae_lambda=0.95, ent_coef=0.01,
        max_grad_norm=1.0, use_rms_prop=False, seed=0, device="cpu",
        policy_kwargs=dict(
            net_arch=[], features_extractor_class=Torso,
            optimizer_class=torch.optim.Adam, optimizer_kwargs=dict(eps=1e-6),
        ),
    )  # fmt: skip
    model.learn(STREAMS * UNROLL * 4)
    started = time.perf_counter()
    model.learn(steps)
    return {"steps_per_second": steps / (time.perf_counter() - started), "threads": torch.get_num_threads()}


def measure(episodes: int = 100, learners: int = 4, peer_steps: int = 40_000) -> dict:
    """Environment steps/s of both in this process, learning included, compilation excluded.

    Returns:
      `ours_one_learner` (what the ratio divides), `ours_many_learners` (two at a time, as histories
      are made), `stable_baselines3`, `ratio`, and `ratio_many_learners`.
    """
    world = make("dark_room")
    agent = make_agent("a2c", world, hidden=HIDDEN)
    config = CompiledConfig(episodes, STREAMS, UNROLL)
    keys = jax.random.split(jax.random.key(0), learners)
    tasks = jnp.full((learners,), GOAL, jnp.int32)
    steps = episodes * world.max_steps * STREAMS

    jax.block_until_ready(train(agent, world, tasks[:1], keys[:1], config))
    started = time.perf_counter()
    jax.block_until_ready(train(agent, world, tasks[:1], keys[:1], config))
    one = steps / (time.perf_counter() - started)

    list(train_groups(agent, world, tasks[:1], keys[:1], config, 1))
    started = time.perf_counter()
    for _ in train_groups(agent, world, tasks, keys, config, 1):
        pass
    many = learners * steps / (time.perf_counter() - started)
    peer = _peer(peer_steps)
    return {
        "ours_one_learner": round(one),
        "ours_many_learners": round(many),
        "stable_baselines3": round(peer["steps_per_second"]),
        "stable_baselines3_threads": peer["threads"],
        "ratio": round(one / peer["steps_per_second"], 2),
        "ratio_many_learners": round(many / peer["steps_per_second"], 2),
        "streams": STREAMS,
        "unroll": UNROLL,
        "hidden": list(HIDDEN),
    }
