"""Screens as a world of pictures."""

from collections.abc import Callable

from ..envs.screen_facts import read_screen_facts
from ..envs.screen_goals import APP_TEXTS, AppGoal
from ..envs.screen_render import render_screens
from ._world import World
from .screen_captions import screen_words
from .screen_comparison import compare
from .screen_data import CaptionedScreens, ScreenCaptionConfig, split_apps, walked_screens
from .screen_frames import FAMILIES, goal_truth, screen_frames, screens_of


_NULLS = ("Screenshot of the home screen on Android", "the recent apps", "a dialog")


def _named(seed: int, held_out: int) -> Callable[[AppGoal], bool]:
    train, _ = split_apps(seed, held_out)
    return lambda goal: goal.app in train


SCREENS = World(
    name="screens",
    title="a phone's screens",
    sees="frames of random walks on drawn screens",
    measures="average precision of goals (an app is open) about apps that captions named and about held-out ones",
    families=dict.fromkeys(FAMILIES, _NULLS),
    styles=tuple(APP_TEXTS),
    columns=(
        "open_common.train.state",
        "open_common.train.imperative",
        "open_diverse.train.state",
        "open_diverse.held_out.state",
    ),
    image=96,
    patch=12,
    steps=1500,
    words=screen_words,
    captions=ScreenCaptionConfig,
    environment=screens_of,
    arguments={"pages": 3, "installed": 36},
    walks=walked_screens,
    strata=screen_frames,
    read=read_screen_facts,
    render=render_screens,
    batches=CaptionedScreens,
    truth=goal_truth,
    named=_named,
    compare=compare,
)
