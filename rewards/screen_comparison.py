"""How well a CLIP of screens tells what is true of frames that it was not trained on."""

from typing import Any

from ..envs.screen_goals import APP_TEXTS, AppGoal
from ..envs.screens import APP_SETS
from ._world import Encoder
from .frames import Frames
from .goal_precision import goal_precision
from .screen_data import ScreenCaptionConfig, split_apps
from .screen_frames import FAMILIES, goal_truth, render_frames


def compare(encoder: Encoder, frames: Frames, captions: ScreenCaptionConfig) -> dict[str, Any]:
    """How well cosines tell what is true, by frames of episodes that the encoder was not trained on.

    Args:
      encoder: of frames and texts.
      frames: of whole episodes.
      captions: of its training; its split says which apps were held out.

    Returns:
      Average precision of the goals of each family about apps of training, and about those held out, in each style.
      Each with its interval over episodes.
    """
    images = encoder.encode_frames(render_frames(frames.symbols))
    result: dict[str, Any] = {"frames": len(images), "episodes": int(frames.episode.max()) + 1}
    for family, apps in FAMILIES.items():
        for split, named in zip(("train", "held_out"), split_apps(captions.seed, captions.held_out)):
            goals = [AppGoal(app) for app in range(APP_SETS[apps]) if app in named]
            if not goals:
                continue
            truth = goal_truth(goals, frames.facts)
            found = goal_precision(encoder, images, frames, goals, truth, tuple(APP_TEXTS))
            result |= {f"{family}.{split}.{style}": value for style, value in found.items()}
    return result
