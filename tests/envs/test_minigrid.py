"""MiniGrid as a host environment: equal to MiniGrid to the byte and to the pixel, and its success facts."""

import itertools

import dm_env
import gymnasium
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import test_utils
from gymnasium.utils.env_checker import check_env
from limbeck.envs import (
    detokenize_mission,
    dm_env_to_gymnasium,
    minigrid,
    minigrid_ids,
    parse_tiles,
)
from limbeck.envs._minigrid_cells import CODES, EMPTY, ENCODINGS, OPAQUE, WALL, cell_code
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Door, Key, Wall
from minigrid.minigrid_env import MiniGridEnv
from minigrid.wrappers import RGBImgObsWrapper, RGBImgPartialObsWrapper


# gymnasium says of some registered ids that there is a newer version.
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")

IDS = [
    "MiniGrid-Empty-5x5-v0",
    "MiniGrid-DoorKey-5x5-v0",
    "MiniGrid-MultiRoom-N4-S5-v0",
    "MiniGrid-KeyCorridorS3R2-v0",
    "MiniGrid-LavaCrossingS9N2-v0",
    "MiniGrid-MemoryS7-v0",
    "MiniGrid-Dynamic-Obstacles-6x6-v0",
    "MiniGrid-ObstructedMaze-1Dlhb-v0",
    "MiniGrid-Playground-v0",
    "BabyAI-GoToLocal-v0",
    "BabyAI-PickupLoc-v0",
    "BabyAI-UnlockPickup-v0",
    "BabyAI-PutNextS5N2Carrying-v0",
    "BabyAI-BossLevel-v0",
]
# The wheel of MiniGrid lacks the patterns from which these are made.
WITHOUT_PATTERNS = [id for id in minigrid_ids() if "-WFC-" in id]
VIEWS = ("symbols", "direction", "text")
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)


def stock(id, wrap=lambda environment: environment, **kwargs):
    return wrap(gymnasium.make(id, disable_env_checker=True, **kwargs))


def handy_actions(world, rng, count):
    """Random actions that mostly do something: what is in front is picked up, opened or walked at."""
    for _ in range(count):
        cell = world.grid.get(*world.front_pos)
        likely = FORWARD if cell is None else PICKUP if cell.can_pickup() else TOGGLE
        if cell is None and world.carrying and rng.random() < 0.2:
            likely = DROP
        if isinstance(cell, Box) and rng.random() < 0.5:
            likely = TOGGLE
        if isinstance(cell, Door) and cell.is_open:
            likely = FORWARD
        action = likely if rng.random() < 0.7 else int(rng.integers(7))
        yield min(action, int(world.action_space.n) - 1)


def follow(ours, theirs, count, seed=0):
    """Steps both alike; yields (our time-step, their observation, terminated, truncated, reward)."""
    rng = np.random.default_rng(seed)
    timestep, (observation, _) = ours.reset(), theirs.reset(seed=seed)
    yield timestep, observation, False, False, None
    for action in handy_actions(theirs.unwrapped, rng, count):
        timestep = ours.step(action)
        observation, reward, terminated, truncated, _ = theirs.step(action)
        yield timestep, observation, terminated, truncated, reward
        if terminated or truncated:
            timestep, (observation, _) = ours.reset(), theirs.reset()
            yield timestep, observation, False, False, None


# Equality with MiniGrid.


@pytest.mark.parametrize("id", IDS)
def test_observations_rewards_and_ends_are_minigrid_s(id):
    for seed in range(2):
        ours, theirs = minigrid(id, seed), stock(id)
        for timestep, observation, terminated, truncated, reward in follow(ours, theirs, 300, seed):
            np.testing.assert_array_equal(timestep.observation["symbols"], observation["image"])
            assert timestep.observation["symbols"].dtype == np.uint8
            assert timestep.observation["direction"] == observation["direction"]
            assert detokenize_mission(timestep.observation["text"]) == observation["mission"] == ours.mission
            assert timestep.reward == reward
            assert timestep.last() == (terminated or truncated)
            if reward is not None:
                assert timestep.discount == 1 - terminated
            if timestep.last():
                assert ours.success() == (terminated and reward > 0)


@pytest.mark.parametrize("id", IDS)
def test_pictures_are_minigrid_s_to_the_pixel(id):
    agent, full = (minigrid(id, 1, views=(), image=image) for image in ("agent", "full"))
    partial, whole = stock(id, RGBImgPartialObsWrapper), stock(id, RGBImgObsWrapper, highlight=False)
    count = 40 if "Boss" not in id else 15
    rows = zip(follow(agent, partial, count, 1), follow(full, whole, count, 1), strict=True)
    for (mine, theirs, *_), (mine_full, theirs_full, *_) in rows:
        np.testing.assert_array_equal(mine.observation["image"], theirs["image"])
        picture = mine_full.observation["image"]
        np.testing.assert_array_equal(picture[:-8], theirs_full["image"])
        carried = whole.unwrapped.carrying
        np.testing.assert_array_equal(
            picture[-8:, :8], Grid.render_tile(carried, tile_size=8).astype(np.uint8)
        )
        assert not picture[-8:, 8:].any()


@pytest.mark.parametrize("id", [id for id in minigrid_ids() if id not in WITHOUT_PATTERNS])
def test_every_registered_id_is_equal(id):
    ours, theirs = minigrid(id, 0, views=VIEWS, image="full"), stock(id)
    spec = ours.observation_spec()
    for timestep, observation, *_ in follow(ours, theirs, 6):
        np.testing.assert_array_equal(timestep.observation["symbols"], observation["image"])
        assert detokenize_mission(timestep.observation["text"]) == observation["mission"]
        for key, value in timestep.observation.items():
            spec[key].validate(value)
        state = parse_tiles(timestep.observation["image"])
        truth = ours.state()
        np.testing.assert_array_equal(state.symbols, truth.symbols)
        assert state[1:] == truth[1:]


def test_what_an_agent_sees_of_any_grid():
    """Random grids, every place and direction, several sizes of view; doors of each state hide or not."""
    world = stock("MiniGrid-Empty-5x5-v0").unwrapped
    rng = np.random.default_rng(0)
    makers = [Wall, lambda: Key("red"), lambda: Door("blue"), lambda: Door("red", is_open=True)]
    makers += [lambda: Door("grey", is_locked=True), lambda: Box("green", Ball("red"))]
    for size, transparent in ((3, False), (7, False), (7, True), (9, False)):
        ours = minigrid("MiniGrid-Empty-5x5-v0", agent_view_size=size)
        ours.reset()
        world.agent_view_size, world.see_through_walls = size, transparent
        mine = ours._grid_world
        mine.see_through_walls = transparent
        for _ in range(60):
            world.grid = mine.grid = Grid(6, 8)
            for x, y in itertools.product(range(6), range(8)):
                if rng.random() < 0.4:
                    world.grid.set(x, y, makers[rng.integers(len(makers))]())
            carried = Ball("yellow") if rng.random() < 0.5 else None
            for one in (world, mine):
                one.agent_pos, one.agent_dir = (int(rng.integers(6)), int(rng.integers(8))), 0
                one.carrying = carried
            mine.agent_pos = world.agent_pos
            for direction in range(4):
                world.agent_dir = mine.agent_dir = direction
                np.testing.assert_array_equal(mine.gen_obs()["image"], world.gen_obs()["image"])


def test_changes_behind_the_step_are_seen():
    """A door that changes in place, a cell that is replaced, and a whole new grid."""
    ours = minigrid("MiniGrid-DoorKey-5x5-v0", seed=0)
    ours.reset()
    world = ours._grid_world
    (door,) = (cell for cell in world.grid.grid if isinstance(cell, Door))
    for is_open, is_locked in ((True, False), (False, False), (False, True)):
        door.is_open, door.is_locked = is_open, is_locked
        np.testing.assert_array_equal(ours.state().symbols, world.grid.encode())
        np.testing.assert_array_equal(world.gen_obs()["image"], MiniGridEnv.gen_obs(world)["image"])
    world.grid.set(1, 1, Ball("red"))
    np.testing.assert_array_equal(ours.state().symbols, world.grid.encode())
    world.grid = Grid(6, 9)
    world.grid.set(5, 8, Key("grey"))
    np.testing.assert_array_equal(ours.state().symbols, world.grid.encode())


def test_the_classes_and_other_instances_stay_as_they_are():
    before = MiniGridEnv.gen_obs
    other = stock("MiniGrid-Empty-5x5-v0")
    minigrid("MiniGrid-Empty-5x5-v0").reset()
    assert MiniGridEnv.gen_obs is before and "gen_obs" not in vars(other.unwrapped)


def test_objects_that_the_encoding_does_not_describe_are_refused():
    class Curtain(Ball):
        def see_behind(self):
            return False

    class Lamp(Ball):
        def encode(self):
            return OBJECT_TO_IDX["ball"], 0, 7

    with pytest.raises(ValueError, match="see what is behind"):
        cell_code(Curtain("red"))
    with pytest.raises(ValueError, match="state below 3"):
        cell_code(Lamp("red"))


def test_codes_are_minigrid_s_numbers():
    assert len(OBJECT_TO_IDX) == 11 and len(COLOR_TO_IDX) == 6 and len(ENCODINGS) == CODES
    assert tuple(ENCODINGS[WALL]) == Wall().encode() and tuple(ENCODINGS[EMPTY]) == (1, 0, 0)
    assert OPAQUE[cell_code(Door("red"))] and not OPAQUE[cell_code(Door("red", is_open=True))]


# Success, ends and seeds.


def play(environment, actions):
    environment.reset()
    for action in actions:
        timestep = environment.step(action)
    return timestep


def test_a_goal_is_a_success_and_lava_is_not():
    empty = minigrid("MiniGrid-Empty-5x5-v0")
    assert not empty.success()
    end = play(empty, [FORWARD, FORWARD, RIGHT, FORWARD, FORWARD])
    assert end.last() and end.discount == 0 and end.reward == pytest.approx(1 - 0.9 * 5 / 100)
    assert empty.success()
    empty.reset()
    assert empty.success()  # it tells of the episode that ended last
    lava = minigrid("MiniGrid-LavaGapS5-v0", seed=0)
    lava.reset()
    world = lava._grid_world
    gap = next(y for y in range(1, 4) if world.grid.get(2, y) is None)
    target = 1 if gap != 1 else 2
    actions = [RIGHT, *[FORWARD] * (target - 1), LEFT, FORWARD]
    end = [lava.step(action) for action in actions][-1]
    assert end.last() and end.discount == 0 and end.reward == 0 and not lava.success()


def test_the_step_limit_truncates():
    environment = minigrid("MiniGrid-Empty-5x5-v0", max_steps=3)
    end = play(environment, [LEFT] * 3)
    assert end.last() and end.discount == 1 and end.reward == 0 and not environment.success()
    assert environment.step(LEFT).first()


def test_a_collision_fails_with_its_negative_reward():
    environment = minigrid("MiniGrid-Dynamic-Obstacles-5x5-v0", seed=0)
    end = play(environment, [LEFT, FORWARD])
    assert end.last() and end.discount == 0 and end.reward == -1 and not environment.success()
    assert environment.action_spec().num_values == 3


def test_a_wrong_object_fails_and_the_right_one_succeeds():
    outcomes = set()
    for seed in range(40):
        environment = minigrid("MiniGrid-Fetch-5x5-N2-v0", seed=seed)
        environment.reset()
        rng = np.random.default_rng(seed)
        for action in handy_actions(environment._grid_world, rng, 200):
            end = environment.step(action)
            if end.last():
                break
        if end.discount == 0:
            world = environment._grid_world
            right = (world.carrying.type, world.carrying.color) == (world.targetType, world.targetColor)
            assert environment.success() == right
            outcomes.add(right)
    assert outcomes == {True, False}


def test_a_seed_gives_the_same_episodes():
    def rows(environment):
        steps = [environment.reset()] + [environment.step(a) for a in actions]
        return [
            (s.observation["symbols"].tobytes(), s.observation["text"].tobytes(), s.reward) for s in steps
        ]

    actions = np.random.default_rng(0).integers(7, size=150)
    one = minigrid("BabyAI-GoToLocal-v0", seed=5)
    first = rows(one)
    assert rows(minigrid("BabyAI-GoToLocal-v0", seed=5)) == first
    assert rows(minigrid("BabyAI-GoToLocal-v0", seed=6)) != first
    assert rows(one) != first  # later resets go on with the generator
    one.reseed(5)
    assert rows(one) == first


def test_what_was_returned_stays_as_it_was():
    environment = minigrid("BabyAI-GoToLocal-v0", seed=0, image="agent")
    first = environment.reset().observation
    kept = {key: np.array(value) for key, value in first.items()}
    for action in (LEFT, FORWARD, FORWARD, RIGHT):
        environment.step(action)
    for key, value in first.items():
        np.testing.assert_array_equal(value, kept[key])
    for key in ("symbols", "image", "text"):
        first[key][...] = 0  # writable, and nobody else's
    environment.reseed(0)
    again = environment.reset().observation
    for key, value in kept.items():
        np.testing.assert_array_equal(again[key], value)


# The interface.


class _Checked(test_utils.EnvironmentTestMixin):
    def make_action_sequence(self):
        spec = self.environment.action_spec()
        return list(np.random.default_rng(0).integers(spec.num_values, size=150).astype(spec.dtype))


class TestDoorKey(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return minigrid("MiniGrid-DoorKey-5x5-v0", seed=0, image="full")


class TestObstacles(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return minigrid("MiniGrid-Dynamic-Obstacles-5x5-v0", seed=0, image="agent", tile_size=5)


class TestLevel(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return minigrid("BabyAI-GoToLocal-v0", seed=0)


# gymnasium warns that it cannot build an adapter anew: it has no registered spec.
# It also wants Discrete observations to be int64; `direction` is int32 like every integer that JAX is given.
@pytest.mark.filterwarnings("ignore:.*environment not having a spec")
@pytest.mark.filterwarnings("ignore:.*should be an int or np.int64")
def test_gymnasium_s_checker_accepts_the_way_back():
    check_env(dm_env_to_gymnasium(minigrid("MiniGrid-DoorKey-5x5-v0", image="agent")))
    environment = dm_env_to_gymnasium(minigrid("MiniGrid-Empty-5x5-v0", seed=0))
    observation, _ = environment.reset(seed=3)
    assert set(observation) == set(VIEWS) and observation in environment.observation_space
    ends = [environment.step(a)[2:4] for a in (FORWARD, FORWARD, RIGHT, FORWARD, FORWARD)]
    assert ends[-1] == (True, False)


def test_views_are_chosen():
    keys = lambda **k: list(minigrid("MiniGrid-Empty-5x5-v0", **k).reset().observation)  # noqa: E731
    assert keys() == ["symbols", "direction", "text"]
    assert keys(views=("text", "image")) == ["image", "text"]
    assert keys(views=(), image="full") == ["image"]
    assert keys(views="symbols") == ["symbols"]
    environment = minigrid("MiniGrid-FourRooms-v0", views=("image",), tile_size=5)
    assert environment.observation_spec()["image"].shape == (35, 35, 3)
    environment = minigrid("MiniGrid-Empty-Random-5x5-v0", image="full", agent_view_size=5)
    assert environment.observation_spec()["image"].shape == (48, 40, 3)
    assert environment.reset().observation["symbols"].shape == (5, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"id": "MiniGrid-DoorKye-5x5-v0"}, "Did you mean MiniGrid-DoorKey-5x5-v0"),
        ({"id": "MiniGrid DoorKey"}, "no MiniGrid environment"),
        ({"id": "CartPole-v1"}, "is no MiniGridEnv but CartPoleEnv"),
        ({"views": ("pixels",)}, "no view 'pixels'; views are symbols"),
        ({"views": ()}, "at least one"),
        ({"image": "half"}, "'agent', 'full' or None"),
        ({"tile_size": 0}, "tile_size"),
        ({"colour": "red"}, "cannot be made with the arguments"),
    ],
)
def test_bad_arguments_are_one_clear_error(arguments, match):
    with pytest.raises(ValueError, match=match):
        minigrid(**{"id": "MiniGrid-Empty-5x5-v0", **arguments})


@pytest.mark.parametrize("action", [7, -1, 0.5, [0, 1], "left", None])
def test_actions_outside_their_spec_are_refused(action):
    environment = minigrid("MiniGrid-Empty-5x5-v0")
    environment.reset()
    with pytest.raises(ValueError, match="Actions"):
        environment.step(action)


def test_there_is_no_state_before_the_first_reset():
    environment = minigrid("MiniGrid-Empty-5x5-v0")
    with pytest.raises(ValueError, match="before the first reset"):
        environment.state()
    assert isinstance(environment, dm_env.Environment)
    assert environment.step(0).first()
    state = environment.state()
    assert (state.position, state.direction, state.carried) == ((1, 1), 0, (1, 0, 0))
    np.testing.assert_array_equal(state.symbols, environment._grid_world.grid.encode())
