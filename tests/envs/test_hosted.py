"""Environments by one name: each kind, floats, success, and what is wrong with a name."""

import sys

import dm_env
import gymnasium
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import specs, test_utils
from gymnasium.utils.env_checker import check_env
from limbeck.envs import DarkRoom, dm_env_to_gymnasium, make_hosted, minigrid, to_dm_env


class Ints(dm_env.Environment):
    """Two steps an episode; int rewards, a float32 discount; tells success."""

    def __init__(self, size=1, seed=None):
        self.size, self.seed, self.count = size, seed, None

    def reset(self):
        self.count = 0
        return dm_env.restart(np.zeros(self.size))

    def step(self, action):
        if self.count is None:
            return self.reset()
        self.count += 1
        if self.count == 1:
            return dm_env.TimeStep(dm_env.StepType.MID, 3, np.float32(0.5), np.ones(self.size))
        self.count = None
        return dm_env.termination(np.array(-1), np.ones(self.size))

    def success(self):
        return True

    def observation_spec(self):
        return specs.Array((self.size,), np.float64)

    def action_spec(self):
        return specs.DiscreteArray(2)

    def reward_spec(self):
        return specs.BoundedArray((), np.int64, -1, 3, "reward")


class Vector(Ints):
    def reward_spec(self):
        return specs.Array((2,), np.float64, "reward")


class Flag(gymnasium.Env):
    """One step an episode; info tells of success under `key` by the action."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, key=None):
        self.key = key

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.drawn = self.np_random.random(1, np.float32)
        return self.drawn, {}

    def step(self, action):
        return self.drawn, 1, True, False, {} if self.key is None else {self.key: np.bool_(action)}


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """A module of factories in the current directory, which is not on the search path yet."""
    (tmp_path / "my_worlds").mkdir()
    (tmp_path / "my_worlds" / "__init__.py").write_text("")
    (tmp_path / "my_worlds" / "all.py").write_text(
        "from limbeck.envs import DarkRoom, minigrid\n"
        "import gymnasium\n"
        "from my_worlds import kinds\n"
        "def room(size=9): return DarkRoom(size=size)\n"
        "def ints(size, seed): return kinds.Ints(size, seed)\n"
        "def open_ended(**kwargs): return kinds.Ints(**kwargs)\n"
        "def flag(key=None): return kinds.Flag(key)\n"
        "def door(seed): return minigrid('MiniGrid-DoorKey-5x5-v0', seed)\n"
        "def number(): return 3\n"
        "def vector(): return kinds.Vector()\n"
        "value = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    kinds = type(sys)("my_worlds.kinds")
    kinds.Ints, kinds.Flag, kinds.Vector = Ints, Flag, Vector
    monkeypatch.setitem(sys.modules, "my_worlds.kinds", kinds)
    yield
    for name in ("my_worlds", "my_worlds.all"):
        sys.modules.pop(name, None)


def follow(environment, actions):
    steps = [environment.reset(), *(environment.step(a) for a in actions)]
    return [(np.asarray(s.observation).tolist(), s.reward, s.discount, int(s.step_type)) for s in steps]


class _Checked(test_utils.EnvironmentTestMixin):
    def make_action_sequence(self):
        spec = self.environment.action_spec()
        return list(np.random.default_rng(0).integers(spec.num_values, size=60).astype(spec.dtype))


class TestMiniGrid(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return make_hosted("MiniGrid-Empty-5x5-v0", max_steps=20)


class TestRoom(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return make_hosted("dark_room", task=41)


class TestCartPole(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return make_hosted("CartPole-v1")


ACTIONS = [int(a) for a in np.random.default_rng(0).integers(2, size=50)]


def test_a_pure_environment_is_the_adapter_s_with_float_rewards():
    hosted = make_hosted("dark_room", seed=3, task=41, max_steps=7)
    direct = to_dm_env(DarkRoom(max_steps=7), task=41, seed=3)
    assert follow(hosted, ACTIONS) == follow(direct, ACTIONS)
    assert hosted.task == 41 and not hasattr(hosted, "success")
    timestep = hosted.step(0)
    assert type(timestep.reward) is float and type(timestep.discount) is float
    assert hosted.reward_spec().dtype == hosted.discount_spec().dtype == np.float64
    drawn = {int(make_hosted("dark_room", seed=seed).task) for seed in range(8)}
    assert len(drawn) > 3


def test_a_minigrid_id_gets_its_settings_and_tells_success():
    hosted = make_hosted("MiniGrid-Empty-5x5-v0", seed=1, views=("symbols",), image="full", tile_size=5)
    assert list(hosted.observation_spec()) == ["symbols", "image"]
    hosted.reset()
    for action in (2, 2, 1, 2, 2):
        timestep = hosted.step(action)
    assert timestep.last() and hosted.success() is True and "goal" in hosted.mission
    one, other = (make_hosted("BabyAI-GoToLocal-v0", seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.reset().observation["text"], other.reset().observation["text"])
    direct = minigrid("BabyAI-GoToLocal-v0", 4).reset()
    np.testing.assert_array_equal(
        direct.observation["symbols"], make_hosted("BabyAI-GoToLocal-v0", 4).reset()[3]["symbols"]
    )


def test_any_gymnasium_id_is_seeded():
    one, other = (follow(make_hosted("CartPole-v1", seed=2), ACTIONS) for _ in range(2))
    assert one == other != follow(make_hosted("CartPole-v1", seed=3), ACTIONS)
    reference = gymnasium.make("CartPole-v1").reset(seed=2)[0].tolist()
    assert one[0][0] == reference and all(type(row[1]) is float for row in one[1:4])


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_gymnasium_tells_success_where_its_info_does(key, factories):
    hosted = make_hosted("my_worlds.all:flag", seed=5, key=key)
    assert not hasattr(hosted, "success")
    for action in (1, 0):
        hosted.reset()
        assert hosted.step(action).last()
        assert hosted.success() is bool(action)
    hosted.reset()
    assert hosted.success() is False
    silent = make_hosted("my_worlds.all:flag", seed=5)
    silent.reset()
    silent.step(1)
    assert not hasattr(silent, "success")
    assert follow(silent, [1, 1]) != follow(make_hosted("my_worlds.all:flag", seed=6), [1, 1])


def test_a_factory_s_product_of_each_kind(factories):
    ints = make_hosted("my_worlds.all:ints", seed=7, size=4)
    assert (ints.size, ints.seed, ints.success()) == (4, 7, True)
    assert make_hosted("my_worlds.all:open_ended", seed=8).seed == 8
    rows = follow(ints, [0, 0])
    assert [row[1:3] for row in rows] == [(None, None), (3.0, 0.5), (-1.0, 0.0)]
    assert all(type(part) is float for row in rows[1:] for part in row[1:3])
    spec = ints.reward_spec()
    assert (spec.dtype, spec.minimum, spec.maximum) == (np.float64, -1, 3)
    room = make_hosted("my_worlds.all:room", seed=3, size=5, task=12)
    assert follow(room, ACTIONS) == follow(to_dm_env(DarkRoom(size=5), task=12, seed=3), ACTIONS)
    door = make_hosted("my_worlds.all:door", seed=9)
    expected = minigrid("MiniGrid-DoorKey-5x5-v0", 9).reset().observation["symbols"]
    np.testing.assert_array_equal(door.reset().observation["symbols"], expected)
    assert door.success() is False


def test_the_current_directory_comes_last(factories, tmp_path):
    make_hosted("my_worlds.all:room")
    assert sys.path[-1] == str(tmp_path) and sys.path.count(str(tmp_path)) == 1
    make_hosted("my_worlds.all:room")
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "kwargs", "match"),
    [
        ("dark_rom", {}, "no environment 'dark_rom'. Did you mean dark_room"),
        ("CartPoel-v1", {}, "Did you mean CartPole-v1"),
        ("CartPole-v77", {}, "Did you mean CartPole-v1"),
        ("MiniGrid-DoorKye-5x5-v0", {}, "Did you mean MiniGrid-DoorKey-5x5-v0"),
        ("minigrid-doorkey-5x5-v0", {}, "Did you mean MiniGrid-DoorKey-5x5-v0"),
        ("", {}, "no environment ''"),
        ("dark_room", {"sice": 3}, "did you mean size"),
        ("dark_room", {"task": 81}, "outside dark_room"),
        ("CartPole-v1", {"gravity_": 3}, "gymnasium cannot make 'CartPole-v1'"),
        ("nowhere.at_all:room", {}, "No module named 'nowhere'"),
        ("no_such_module:CartPole-v1", {}, "no environment"),
        ("my_worlds.all:roon", {}, "did you mean room"),
        ("my_worlds.all:value", {}, "cannot be called"),
        ("my_worlds.all:number", {}, "returned 3; a dm_env.Environment"),
        ("my_worlds.all:vector", {}, "no scalar reward"),
        ("my_worlds.all:flag", {"task": 3}, "no argument 'task'"),
        ("my_worlds.all:room", {"sice": 3}, "sice"),
        ("my_worlds.all:ints", {}, "size"),
    ],
)
def test_what_is_wrong_is_said(name, kwargs, match, factories):
    with pytest.raises(ValueError, match=match):
        make_hosted(name, **kwargs)


# gymnasium warns that it cannot build an adapter anew: it has no registered spec.
@pytest.mark.filterwarnings("ignore:.*environment not having a spec")
@pytest.mark.filterwarnings("ignore:.*should be an int or np.int64")
def test_the_way_back_to_gymnasium():
    there = dm_env_to_gymnasium(lambda seed: make_hosted("MiniGrid-Empty-Random-5x5-v0", seed))
    check_env(there)
    observation, _ = there.reset(seed=11)
    direct = minigrid("MiniGrid-Empty-Random-5x5-v0", 11).reset().observation
    np.testing.assert_array_equal(observation["symbols"], direct["symbols"])
