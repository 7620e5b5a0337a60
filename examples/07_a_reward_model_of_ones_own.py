"""A reward model of one's own: the share of a frame's pixels that are of the goal's colour.

The same check from a shell, in this folder:
limbeck rewards check 07_a_reward_model_of_ones_own:ShareOfColour
"""

import numpy as np

from limbeck import envs, rewards


class ShareOfColour:
    name, version = "share-of-colour", "1"
    goals = ("red", "green", "blue")  # for the check; any text with one of these words in it works

    def __call__(self, frames: np.ndarray, goals: list[str]) -> np.ndarray:
        frames = rewards.check_frames(frames).astype(np.int32)  # [N, H, W, 3]
        channels = [next(i for i, colour in enumerate(self.goals) if colour in goal) for goal in goals]
        goal = frames[np.arange(len(frames)), :, :, channels]  # [N, H, W]
        second = np.sort(frames, axis=-1)[..., 1]  # so that yellow is not red
        return (goal > second + 64).mean(axis=(1, 2)).astype(np.float32)


def main(name: str = "MiniGrid-Empty-6x6-v0", steps: int = 20) -> np.ndarray:
    model = ShareOfColour()
    assert all(finding.passed for finding in rewards.check(model))
    world = envs.make_hosted(name, image="agent")
    frames = [world.reset().observation["image"]]
    for i in range(steps):  # forward, now and then a turn to the right
        frames.append(world.step(2 if i % 3 else 1).observation["image"])
    found = model(np.stack(frames), ["a green square"] * len(frames))
    print(f"from {found.min():.3f} to {found.max():.3f} of the picture is green")
    return found


if __name__ == "__main__":
    main()
