"""MiniGrid with sound: every event is heard exactly when it happens, by scripts worked out by hand."""

import gymnasium
import numpy as np
import pytest
from limbeck.envs import SAMPLES, make_hosted, minigrid, sound
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Door, Goal, Key
from minigrid.minigrid_env import MiniGridEnv


LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)


class Corridor(MiniGridEnv):
    """One row of cells, x from 1: the agent looking right, a key, a locked door, a box with a ball, a goal."""

    def __init__(self, goal: bool = True, **kwargs):
        self.goal = goal
        space = MissionSpace(mission_func=lambda: "get there")
        super().__init__(mission_space=space, width=9, height=3, max_steps=100, **kwargs)

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.agent_pos, self.agent_dir = (1, 1), 0
        self.put_obj(Key("red"), 2, 1)
        self.put_obj(Door("red", is_locked=True), 4, 1)
        self.put_obj(Box("blue", Ball("green")), 6, 1)
        if self.goal:
            self.put_obj(Goal(), 7, 1)
        self.mission = "get there"


# What is done, what is heard of it, and afterwards x and where the agent looks (the cosine to the goal).
SCRIPT = [
    (FORWARD, {"bump"}, 1, 1),  # the key is in the way
    (DROP, set(), 1, 1),
    (PICKUP, {"pickup"}, 1, 1),
    (PICKUP, set(), 1, 1),
    (LEFT, {"turn"}, 1, 0),
    (FORWARD, {"bump"}, 1, 0),
    (DROP, set(), 1, 0),  # a wall
    (LEFT, {"turn"}, 1, -1),
    (RIGHT, {"turn"}, 1, 0),
    (RIGHT, {"turn"}, 1, 1),
    (FORWARD, {"step"}, 2, 1),
    (FORWARD, {"step"}, 3, 1),
    (FORWARD, {"bump"}, 3, 1),
    (TOGGLE, {"open"}, 3, 1),
    (TOGGLE, {"close"}, 3, 1),
    (FORWARD, {"bump"}, 3, 1),
    (TOGGLE, {"open"}, 3, 1),
    (FORWARD, {"step"}, 4, 1),
    (FORWARD, {"step"}, 5, 1),
    (TOGGLE, {"open"}, 5, 1),  # the box: a ball is there now
    (FORWARD, {"bump"}, 5, 1),
    (TOGGLE, set(), 5, 1),
    (RIGHT, {"turn"}, 5, 0),
    (RIGHT, {"turn"}, 5, -1),
    (DROP, set(), 5, -1),  # the door, though open, fills its cell
    (FORWARD, {"step"}, 4, -1),
    (DROP, {"drop"}, 4, -1),
    (RIGHT, {"turn"}, 4, 0),
    (RIGHT, {"turn"}, 4, 1),
    (FORWARD, {"step"}, 5, 1),
    (DONE, set(), 5, 1),
    (PICKUP, {"pickup"}, 5, 1),
    (FORWARD, {"step"}, 6, 1),
    (FORWARD, {"step", "success"}, 7, 1),
]


@pytest.fixture(scope="module")
def corridors():
    gymnasium.register("Corridor-v0", Corridor)
    gymnasium.register("NoGoal-v0", Corridor, kwargs={"goal": False})
    yield
    for name in ("Corridor-v0", "NoGoal-v0"):
        del gymnasium.registry[name]


def beacon(distance, cosine):
    fundamental, overtones = sound.BEACON_SOUNDS[0]
    return (fundamental + overtones * (1 + cosine) / 2) / (1 + distance / 2)


def events(names):
    return sum((sound.EVENT_SOUNDS[sound.EVENTS.index(name)] for name in names), np.zeros(SAMPLES))


@pytest.mark.parametrize("name", ["Corridor-v0", "NoGoal-v0"])
def test_every_event_is_heard_when_it_happens_and_the_goal_always(corridors, name):
    environment = minigrid(name, seed=0, views="audio")
    timestep = environment.reset()
    goal = name == "Corridor-v0"
    np.testing.assert_allclose(timestep.observation["audio"], goal * beacon(6, 1), atol=1e-6)
    # The last cell of the other is empty.
    for action, happened, x, cosine in SCRIPT:
        timestep = environment.step(action)
        expected = events(happened - (set() if goal else {"success"})) + goal * beacon(7 - x, cosine)
        np.testing.assert_allclose(timestep.observation["audio"], np.clip(expected, -1, 1), atol=1e-6)
        assert timestep.observation["audio"].dtype == np.float32
    assert timestep.last() == goal and environment.success() == goal
    if goal:  # the step after the last begins an episode: nothing has happened in it
        np.testing.assert_allclose(environment.step(0).observation["audio"], beacon(6, 1), atol=1e-6)


def test_the_nearest_of_several_goals_is_heard(corridors):
    environment = minigrid("Corridor-v0", seed=0, views="audio")
    environment.reset()
    world = environment._grid_world
    world.put_obj(Goal(), 3, 1)
    heard = environment.step(DONE).observation["audio"]
    np.testing.assert_allclose(heard, beacon(2, 1), atol=1e-6)


def test_worlds_of_others_sound_by_what_their_steps_do():
    """Random play in BabyAI, where nothing beeps, beside what is seen to change in the world's own objects."""
    environment = make_hosted("BabyAI-GoToDoor-v0", seed=1, views=("symbols", "direction", "audio"))
    rng, heard_any = np.random.default_rng(0), set()
    timestep = environment.reset()
    environment.observation_spec()["audio"].validate(timestep.observation["audio"])
    assert not timestep.observation["audio"].any()
    world = environment.adapter._grid_world
    for _ in range(300):
        if timestep.last():
            timestep = environment.reset()
            continue
        front = world.grid.get(*world.front_pos)
        was_open = front is not None and front.type == "door" and front.is_open
        place = world.agent_pos
        action = int(rng.choice([LEFT, FORWARD, FORWARD, FORWARD, TOGGLE]))
        timestep = environment.step(action)
        expected = {LEFT: {"turn"}, FORWARD: {"step"} if world.agent_pos != place else {"bump"}}.get(
            action, set()
        )
        if action == TOGGLE and front is not None and front.type == "door" and front.is_open != was_open:
            expected = {"open"} if front.is_open else {"close"}
        if timestep.last() and environment.success():
            expected = expected | {"success"}
        np.testing.assert_allclose(timestep.observation["audio"], np.clip(events(expected), -1, 1), atol=1e-6)
        heard_any |= expected
    assert {"turn", "step", "bump", "open", "close"} <= heard_any


def test_a_view_may_be_one_of_several_in_a_string():
    environment = make_hosted("MiniGrid-Empty-5x5-v0", views="direction,audio")
    assert (
        list(environment.observation_spec())
        == ["direction", "audio"]
        == list(environment.reset().observation)
    )
    assert environment.observation_spec()["audio"].shape == (800,)
