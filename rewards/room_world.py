"""Rooms as a world of pictures."""

from collections.abc import Callable
from typing import Any

from ..envs import make
from ..envs.captions import vocabulary
from ..envs.facts import read_facts
from ..envs.goals import STYLES, Goal, split_goals
from ..envs.view_render import render
from ._world import World
from .caption_data import CaptionConfig, CaptionedFrames, walked_frames
from .room_comparison import compare
from .room_frames import FAMILIES, goal_truth, room_frames


_NULLS = {
    "find": ("facing a wall", "facing nothing"),
    "lift": ("holding nothing",),
    "place": ("nothing in view",),
}


def _environment(family: str, **arguments: Any) -> Any:
    return make("rooms", family=family, **arguments)


def _named(seed: int, held_out: int) -> Callable[[Goal], bool]:
    train, _ = split_goals(seed, held_out)
    return lambda goal: set(goal.objects) <= train


ROOMS = World(
    name="rooms",
    title="MiniGrid rooms",
    sees="frames of random walks in rendered rooms",
    measures="average precision of goals (find: facing an object, lift: holding one), accuracy against captions with\n"
    "colours exchanged (place.swapped, chance 0.5)",
    families={family: _NULLS[family] for family in FAMILIES},
    styles=STYLES,
    columns=(
        "find.train.state",
        "find.held_out.state",
        "lift.train.state",
        "lift.held_out.state",
        "place.swapped",
    ),
    image=56,
    patch=8,
    # What binds colours to kinds comes after some 1000 to 2000 of them.
    steps=3000,
    words=vocabulary,
    captions=CaptionConfig,
    environment=_environment,
    arguments={"size": 6, "objects": 5},
    walks=walked_frames,
    strata=room_frames,
    read=read_facts,
    render=render,
    batches=CaptionedFrames,
    truth=goal_truth,
    named=_named,
    compare=compare,
)
