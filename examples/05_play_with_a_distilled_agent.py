"""A distilled agent in any gymnasium or dm_env loop: it learns in its context, its weights are frozen."""

import dm_env
import gymnasium

from limbeck import distillation, envs


def play_gymnasium(run: str, env: gymnasium.Env, episodes: int) -> list[float]:
    player, returns = distillation.load(run).player(seed=0), []
    for _ in range(episodes):
        observation, _ = env.reset()
        returns.append(0.0)
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(player.action(observation))
            player.observe(reward, terminated, truncated)
            returns[-1], done = returns[-1] + float(reward), terminated or truncated
    return returns


def play_dm_env(run: str, env: dm_env.Environment, episodes: int) -> list[float]:
    player, returns = distillation.load(run).player(seed=0), []
    for _ in range(episodes):
        timestep = env.reset()
        returns.append(0.0)
        while (action := player.step(timestep)) is not None:
            timestep = env.step(action)
            returns[-1] += float(timestep.reward)
    return returns


def main(run: str = "distilled", goal: int = 12, episodes: int = 10) -> None:
    room = envs.make("dark_room")
    print("gymnasium:", play_gymnasium(run, envs.to_gymnasium(room, task=goal), episodes))
    print("dm_env:   ", play_dm_env(run, envs.to_dm_env(room, task=goal), episodes))


if __name__ == "__main__":
    main()
