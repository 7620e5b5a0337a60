"""Small models of each form, all of them the real thing, and ways to break them."""

import numpy as np
from limbeck.rewards import check_frames, check_goals


class ColourEncoder:
    """Frames by their mean colour; texts by the letters r, g and b in them."""

    name = "colour"

    def __init__(self, fingerprint: str = "colour-1"):
        self.fingerprint = fingerprint
        self.calls: list[int] = []

    def encode_frames(self, frames):
        frames = check_frames(frames)
        self.calls.append(len(frames))
        return unit(frames.astype(np.float64).mean(axis=(1, 2)) + 1)

    def encode_goals(self, texts):
        return unit(np.asarray([[text.count(letter) + 0.1 for letter in "rgb"] for text in texts]))


class RedReward:
    """The share of red in a frame, or of what is not red."""

    name, version = "red", "1"

    def __init__(self):
        self.calls: list[int] = []

    def __call__(self, frames, goals):
        frames = check_frames(frames)
        goals = check_goals(goals, len(frames))
        self.calls.append(len(frames))
        red = frames[..., 0].mean(axis=(1, 2)) / 255
        return np.where([goal == "red" for goal in goals], red, 1 - red).astype(np.float32)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def some_frames(count: int, seed: int = 0, side: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def a_callable():
    return RedReward()


def an_encoder(fingerprint="colour-1"):
    return ColourEncoder(fingerprint)


def of_doubles():
    class Doubles(RedReward):
        def __call__(self, frames, goals):
            return super().__call__(frames, goals).astype(np.float64)

    return Doubles()


def nothing():
    return 3


number = 3
