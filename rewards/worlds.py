"""Worlds of pictures by name, and by the families of their goals."""

from ._world import World as World
from .contract import RewardError
from .room_world import ROOMS
from .screen_world import SCREENS


WORLDS = {world.name: world for world in (ROOMS, SCREENS)}
# Family of goals -> its world.
FAMILIES = {family: world for world in WORLDS.values() for family in world.families}


def world(name: str) -> World:
    """A world of pictures by its name. Raises `RewardError` for another."""
    if name not in WORLDS:
        raise RewardError(f"a world of pictures is one of {', '.join(WORLDS)}, got {name!r}")
    return WORLDS[name]


def world_of(family: str) -> World:
    """The world of a family of goals. Raises `RewardError` for a family of none."""
    if family not in FAMILIES:
        raise RewardError(f"a family is one of {', '.join(FAMILIES)}, got {family!r}")
    return FAMILIES[family]
