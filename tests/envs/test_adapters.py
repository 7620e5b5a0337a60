"""Adapters: the peers' own checkers, and the same episodes along every path."""

import dm_env
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import specs, test_utils
from gymnasium.utils.env_checker import check_env
from limbeck.envs import (
    LAST,
    AutoReset,
    dm_env_to_gymnasium,
    from_dm_env,
    gymnasium_to_dm_env,
    make,
    to_dm_env,
    to_gymnasium,
    to_gymnasium_vector,
)


NAMES = ["adversarial_bandit", "dark_key_to_door", "dark_room", "dark_room_hard"]


class Counter(dm_env.Environment):
    """Counts steps; ends after `length`, by termination or truncation; pays the action. NumPy only."""

    def __init__(self, length=3, terminates=True):
        self.length, self.terminates, self.count = length, terminates, None

    def reset(self):
        self.count = 0
        return dm_env.restart(np.array([0.0]))

    def step(self, action):
        if self.count is None:
            return self.reset()
        self.count += 1
        observation, count = np.array([float(self.count)]), self.count
        if count < self.length:
            return dm_env.transition(float(action), observation)
        self.count = None
        end = dm_env.termination if self.terminates else dm_env.truncation
        return end(float(action), observation)

    def observation_spec(self):
        return specs.Array((1,), np.float64, "count")

    def action_spec(self):
        return specs.DiscreteArray(2)


class GymnasiumCounter(gymnasium.Env):
    """Counts steps and ends after 3 as told. NumPy only."""

    observation_space = gymnasium.spaces.Box(0, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, terminated=True, truncated=False):
        self.end = terminated, truncated

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {"seed": seed}

    def step(self, action):
        self.count += 1
        ends = self.end if self.count == 3 else (False, False)
        return np.full(1, self.count, np.float32), float(action), *ends, {"count": self.count}


def actions_for(environment, count, seed=0):
    return np.random.default_rng(seed).integers(environment.action_spec().num_values, size=count)


def follow(environment, actions):
    """Rows (observation, reward, discount, step_type) of a dm_env environment from a reset on."""
    timesteps = [environment.reset(), *(environment.step(a) for a in actions)]
    return [
        (np.asarray(t.observation).tolist(), t.reward and float(t.reward), t.discount, int(t.step_type))
        for t in timesteps
    ]


# The checkers of the two interfaces.


class _Checked(test_utils.EnvironmentTestMixin):
    def make_action_sequence(self):
        spec = self.environment.action_spec()
        return list(np.random.default_rng(0).integers(spec.num_values, size=130).astype(spec.dtype))


class TestRoomAsDmEnv(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return to_dm_env(make("dark_room"))


class TestKeyToDoorAsDmEnv(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return to_dm_env(make("dark_key_to_door"))


class TestBanditAsDmEnv(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return to_dm_env(make("adversarial_bandit"))


class TestGymnasiumIdAsDmEnv(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return gymnasium_to_dm_env("CartPole-v1", seed=0)


class TestThereAndBackAsDmEnv(_Checked, absltest.TestCase):
    def make_object_under_test(self):
        return gymnasium_to_dm_env(to_gymnasium(make("dark_room_hard")))


# gymnasium warns that it cannot build an adapter anew (it has no registered spec), and that the bandit's
# observation has one value, which is what the bandit's definition says.
@pytest.mark.filterwarnings("ignore:.*environment not having a spec")
@pytest.mark.filterwarnings("ignore:.*maximum and minimum values are equal")
@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_s_checker_accepts_every_way_there(name):
    check_env(to_gymnasium(make(name)))
    check_env(dm_env_to_gymnasium(to_dm_env(make(name))))
    check_env(dm_env_to_gymnasium(lambda seed: to_dm_env(make(name), seed=seed)))


# The same seed, task and actions give the same episodes along every path.


@pytest.mark.parametrize("name", NAMES)
def test_every_path_sees_the_same_episodes(name):
    environment = make(name)
    actions = actions_for(environment, 2 * environment.max_steps + 5)
    direct = to_dm_env(environment, seed=3)
    rows = follow(direct, actions)
    assert sum(row[3] == LAST for row in rows) == 2
    assert rows[0][1] is None and rows[0][2] is None
    through = gymnasium_to_dm_env(to_gymnasium(environment, seed=3))
    assert follow(through, actions) == rows
    further = gymnasium_to_dm_env(dm_env_to_gymnasium(to_dm_env(environment, task=direct.task, seed=3)))
    assert follow(further, actions) == rows
    direct.reseed(3)
    assert follow(direct, actions) == rows


@pytest.mark.parametrize("name", ["adversarial_bandit", "dark_key_to_door"])
def test_the_vector_form_steps_copies_as_gymnasium_s_own_does(name):
    environment = make(name, max_steps=7)
    count = 3
    ours = to_gymnasium_vector(environment, count, seed=5)
    theirs = gymnasium.vector.SyncVectorEnv(
        [lambda i=i: to_gymnasium(environment, seed=5 + i) for i in range(count)],
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
    )
    assert ours.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    for seed in (None, 11, [1, 2, 3]):
        (a, info), (b, _) = ours.reset(seed=seed), theirs.reset(seed=seed)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(info["task"], ours.tasks)
        for actions in actions_for(environment, 20 * count).reshape(20, count):
            a, b = ours.step(actions), theirs.step(actions)
            assert a[0] in ours.observation_space
            for mine, other in zip(a[:4], b[:4], strict=True):
                np.testing.assert_array_equal(mine, other)
                assert mine.dtype == other.dtype
            assert ("final_obs" in a[4]) == ("final_obs" in b[4])
            if "final_obs" in a[4]:
                np.testing.assert_array_equal(a[4]["_final_obs"], b[4]["_final_obs"])
                np.testing.assert_array_equal(np.stack(a[4]["final_obs"]), np.stack(b[4]["final_obs"]))


# Termination and truncation.


@pytest.mark.parametrize("terminates", [True, False])
def test_dm_env_s_discount_decides_between_terminated_and_truncated(terminates):
    environment = dm_env_to_gymnasium(Counter(terminates=terminates))
    environment.reset()
    ends = [environment.step(1)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (terminates, not terminates)]
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(1)


@pytest.mark.parametrize(
    ("terminated", "truncated", "discount"), [(True, False, 0), (False, True, 1), (True, True, 0)]
)
def test_gymnasium_s_flags_decide_the_discount(terminated, truncated, discount):
    environment = gymnasium_to_dm_env(GymnasiumCounter(terminated, truncated), seed=4)
    assert environment.reset().first() and environment.info == {"seed": 4}
    timesteps = [environment.step(1) for _ in range(4)]
    assert [t.discount for t in timesteps] == [1, 1, discount, None]
    assert timesteps[2].last() and timesteps[3].first()
    assert environment.info == {"seed": None}


def test_a_dm_env_without_a_seed_says_so():
    with pytest.warns(UserWarning, match="factory"):
        dm_env_to_gymnasium(Counter()).reset(seed=1)


# A host environment inside jit.


@pytest.mark.parametrize("terminates", [True, False])
def test_a_host_environment_runs_inside_jit_and_scan(terminates):
    environment = from_dm_env(Counter(terminates=terminates), max_steps=10, name="counter")
    stream = AutoReset(environment)
    key, task = jax.random.key(0), environment.tasks()[0]
    actions = jnp.array([0, 1, 1, 0, 1, 0, 0])

    @jax.jit
    def run():
        state, first = stream.reset(key, task)

        def step(state, action):
            state, timestep = stream.step(key, task, state, action)
            return state, (timestep, state.final_observation)

        return first, jax.lax.scan(step, state, actions)[1]

    first, (timesteps, final) = run()
    assert float(first.observation[0]) == 0
    assert timesteps.reward.tolist() == actions.tolist()
    assert timesteps.step_type.tolist() == [1, 1, 2, 1, 1, 2, 1]
    assert timesteps.discount.tolist() == [1, 1, 1 - terminates, 1, 1, 1 - terminates, 1]
    assert timesteps.observation[:, 0].tolist() == [1, 2, 0, 1, 2, 0, 1]
    assert final[:, 0].tolist() == [1, 2, 3, 1, 2, 3, 1]
    back = follow(to_dm_env(from_dm_env(Counter(terminates=terminates), 10), 0), actions)
    assert back == follow(Counter(terminates=terminates), actions)
    assert np.isnan(environment.bounds(task)).all()


def test_the_horizon_truncates_a_host_environment():
    environment = from_dm_env(Counter(length=9), max_steps=2)
    state, _ = environment.reset(jax.random.key(0), 0)
    for expected in (1, 2):
        state, timestep = environment.step(jax.random.key(0), 0, state, jnp.int32(1))
        assert (int(timestep.step_type), float(timestep.discount)) == (expected, 1.0)
    with pytest.raises(Exception, match="the episode has ended; reset"):
        jax.block_until_ready(environment.step(jax.random.key(0), 0, state, jnp.int32(1)))


def test_a_stale_or_branched_state_of_a_host_environment_is_an_error():
    environment = from_dm_env(Counter(), max_steps=5, name="counter")
    state, _ = environment.reset(jax.random.key(0), 0)
    environment.step(jax.random.key(0), 0, state, jnp.int32(1))
    with pytest.raises(
        Exception, match="counter: this state is from call 1, but the host environment is at call 2"
    ):
        jax.block_until_ready(environment.step(jax.random.key(0), 0, state, jnp.int32(0)))
    with pytest.raises(ValueError, match="vmap"):
        jax.vmap(lambda a: environment.step(jax.random.key(0), 0, state, a))(jnp.arange(2))


def test_a_host_environment_that_jax_cannot_hold_is_refused():
    class Strings(Counter):
        def observation_spec(self):
            return specs.StringArray(())

    with pytest.raises(ValueError, match="JAX has no arrays"):
        from_dm_env(Strings(), 5)
    with pytest.raises(ValueError, match="max_steps"):
        from_dm_env(Counter(), 0)


# Tasks, actions and names from outside.


def test_tasks_outside_the_environment_are_refused():
    room = make("dark_room")
    for adapter in (to_dm_env, to_gymnasium):
        with pytest.raises(ValueError, match="Task 81 is outside dark_room"):
            adapter(room, task=81)
    with pytest.raises(ValueError, match="outside dark_room"):
        to_gymnasium_vector(room, 2, tasks=np.array([0, 81]))
    with pytest.raises(ValueError, match="2 copies need tasks stacked"):
        to_gymnasium_vector(room, 2, tasks=np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="Task 81 is outside dark_room"):
        to_gymnasium(room).reset(options={"task": 81})


def test_a_task_is_told_and_can_be_replaced():
    environment = to_gymnasium(make("dark_room"), task=41)
    _, info = environment.reset(seed=0)
    assert info["task"] == environment.task == 41
    assert environment.step(1)[1] == 1
    _, info = environment.reset(options={"task": 39})
    assert info["task"] == 39
    assert environment.step(1)[1] == 0
    with pytest.raises(ValueError, match="no reset option 'goal'"):
        environment.reset(options={"goal": 3})
    sampled = {int(to_dm_env(make("dark_room"), seed=s).task) for s in range(20)}
    assert len(sampled) > 10


@pytest.mark.parametrize("action", [5, -1, 0.5, [0, 1]])
def test_actions_outside_their_spec_are_refused(action):
    for environment in (to_dm_env(make("dark_room")), to_gymnasium(make("dark_room"))):
        environment.reset()
        with pytest.raises(ValueError, match="Actions"):
            environment.step(action)
    vector = to_gymnasium_vector(make("dark_room"), 3)
    vector.reset()
    with pytest.raises(ValueError, match="Actions"):
        vector.step([0, 1, 5])


def test_steps_outside_an_episode_are_refused():
    environment = to_gymnasium(make("dark_room", max_steps=1))
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(0)
    environment.reset()
    assert environment.step(0)[2:4] == (False, True)
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        to_gymnasium_vector(make("dark_room"), 2).step([0, 0])


def test_an_unknown_gymnasium_id_is_one_clear_error():
    with pytest.raises(ValueError, match="cannot make 'NoSuch-v0'"):
        gymnasium_to_dm_env("NoSuch-v0")
    with pytest.raises(ValueError, match="instance already"):
        gymnasium_to_dm_env(GymnasiumCounter(), size=3)


def test_what_an_adapter_returned_stays_as_it_was():
    environment = to_dm_env(make("dark_room"), task=0)
    first = environment.reset().observation
    environment.step(0)
    np.testing.assert_array_equal(first, [4, 4])
    first[:] = 0  # writable, and nobody else's
    np.testing.assert_array_equal(environment.reset().observation, [4, 4])


def test_large_seeds_are_fine():
    a = to_dm_env(make("dark_key_to_door"), task=(0, 1), seed=1)
    b = to_dm_env(make("dark_key_to_door"), task=(0, 1), seed=2**40 + 1)
    draw = lambda env: [env.reset().observation.tolist() for _ in range(8)]  # noqa: E731
    assert draw(a) != draw(b)
    with pytest.raises(ValueError, match="seed"):
        to_dm_env(make("dark_room"), seed=-1)
