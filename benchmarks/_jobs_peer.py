"""stable-baselines3's PPO on a MiniGrid until it is solved: `python -m benchmarks._jobs_peer ENV SEED OUT`."""

import json
import pathlib
import sys

import gymnasium
import minigrid  # noqa: F401  # Registers the environments.
import numpy as np
from gymnasium.wrappers import FlattenObservation
from minigrid.wrappers import ImgObsWrapper, OneHotPartialObsWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv


SHARE, EPISODES = 0.95, 100


def _wrapped(env: str) -> gymnasium.Env:
    return Monitor(FlattenObservation(ImgObsWrapper(OneHotPartialObsWrapper(gymnasium.make(env)))))


class _UntilSolved(BaseCallback):
    """Evaluates once the last hundred episodes were mostly solved, and ends the training when it is convincing."""

    def __init__(self, env: str, seed: int):
        super().__init__()
        self.env, self.seed, self.success = env, seed, 0.0
        self.next_evaluation = 0

    def _on_step(self) -> bool:
        recent = [episode["r"] > 0 for episode in self.model.ep_info_buffer or ()]
        if (
            len(recent) < EPISODES
            or np.mean(recent) < SHARE - 0.05
            or self.num_timesteps < self.next_evaluation
        ):
            return True
        self.next_evaluation = self.num_timesteps + 8192
        played = make_vec_env(
            lambda: _wrapped(self.env), 10, seed=10_000 + self.seed, vec_env_cls=DummyVecEnv
        )
        returns, _ = evaluate_policy(
            self.model, played, EPISODES, deterministic=False, return_episode_rewards=True
        )
        self.success = float(np.mean(np.asarray(returns) > 0))
        return self.success < SHARE


def main() -> None:
    env, seed, out = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    streams = make_vec_env(lambda: _wrapped(env), 16, seed=seed, vec_env_cls=DummyVecEnv)
    model = PPO(
        "MlpPolicy", streams, n_steps=128, batch_size=256, gae_lambda=0.95, gamma=0.99, n_epochs=4, ent_coef=0.01,
        learning_rate=1e-3, clip_range=0.2, seed=seed, device="cpu",
    )  # fmt: skip
    until = _UntilSolved(env, seed)
    model.learn(2_000_000, callback=until)
    out.write_text(json.dumps({"steps": model.num_timesteps, "success": until.success}))


if __name__ == "__main__":
    main()
