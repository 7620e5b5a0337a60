"""Host environments as merged streams: what is seen at an episode's end, and the episodes that are told of."""

import dm_env
import jax
import numpy as np
import pytest
from dm_env import specs
from limbeck.envs import (
    FIRST,
    LAST,
    MID,
    AutoReset,
    HostStreams,
    make,
    make_hosted,
    parse_goal,
    task_at,
    to_dm_env,
    tokenize_goal,
)
from limbeck.envs._jax_stepping import JaxStepping
from limbeck.envs._stepping import OneByOne


class Countdown(dm_env.Environment):
    """Episodes of `length` steps that show how many are left; the last one pays its number and terminates."""

    def __init__(self, length: int, truncates: bool = False):
        self.length, self.truncates, self.left, self.count = length, truncates, 0, 0

    def reset(self):
        self.left = self.length
        self.count += 1
        return dm_env.restart({"left": np.int32(self.left)})

    def step(self, action):
        self.left -= 1
        seen = {"left": np.int32(self.left)}
        if self.left:
            return dm_env.transition(0.5, seen)
        reward = float(self.count)
        return dm_env.truncation(reward, seen) if self.truncates else dm_env.termination(reward, seen)

    def success(self):
        return self.count % 2 == 0

    def observation_spec(self):
        return {"left": specs.Array((), np.int32)}

    def action_spec(self):
        return specs.DiscreteArray(2)


def test_the_stream_shows_a_new_episode_beside_the_end_of_the_old_one():
    streams = HostStreams([Countdown(2), Countdown(3, truncates=True)])
    assert streams.timestep.step_type.tolist() == [FIRST, FIRST]
    assert streams.timestep.observation["left"].tolist() == [2, 3]
    one = streams.step(np.zeros(2, int))
    assert one.step_type.tolist() == [MID, MID]
    two = streams.step(np.zeros(2, int))
    assert two.step_type.tolist() == [LAST, MID]
    assert two.reward.tolist() == [1.0, 0.5]
    assert two.discount.tolist() == [0.0, 1.0]
    assert two.observation["left"].tolist() == [2, 1]
    assert streams.next_observation["left"].tolist() == [0, 1]
    three = streams.step(np.zeros(2, int))
    assert three.step_type.tolist() == [MID, LAST]
    assert three.discount.tolist() == [1.0, 1.0]  # Truncated, not terminated.
    assert streams.next_observation["left"].tolist() == [1, 0]
    # What was shown before is not written over.
    assert one.observation["left"].tolist() == [1, 2]


def test_episodes_are_told_once_with_their_facts():
    streams = HostStreams([Countdown(2)])
    for _ in range(4):
        streams.step(np.zeros(1, int))
    first, second = streams.take_episodes()
    assert first == (0, 1.5, 2, False)
    assert second == (0, 2.5, 2, True)
    assert streams.take_episodes() == []


def test_equals_the_pure_stream():
    environment = make("dark_room")
    task = task_at(environment, 12)
    pure = AutoReset(environment)
    state, timestep = pure.reset(jax.random.key(0), task)
    streams = HostStreams([to_dm_env(environment, task)])
    step = jax.jit(pure.step)
    for action in np.random.default_rng(0).integers(0, 5, 45):
        state, timestep = step(jax.random.key(0), task, state, action)
        seen = streams.step(np.array([action]))
        for name in ("step_type", "reward", "discount", "observation"):
            np.testing.assert_array_equal(getattr(seen, name)[0], getattr(timestep, name))
        np.testing.assert_array_equal(streams.next_observation[0], state.final_observation)


def test_streams_need_instances_of_their_own():
    one = Countdown(2)
    with pytest.raises(ValueError, match="given twice"):
        HostStreams([one, one])
    with pytest.raises(ValueError, match="at least one"):
        HostStreams([])


def follow(streams: HostStreams, steps: int) -> list:
    """All that a stream shows, step by step, under the same actions."""
    rng, count = np.random.default_rng(1), len(streams)
    shown = [(streams.timestep, streams.next_observation)]
    goals = []
    for _ in range(steps):
        timestep = streams.step(rng.integers(0, 5, count))
        shown.append((timestep, streams.next_observation))
        goals.append([getattr(environment, "goal", None) for environment in streams.environments])
    return [shown, streams.take_episodes(), goals]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rooms", {"family": "find", "objects": 3, "size": 5, "max_steps": 9}),
        ("rooms", {"family": "lift", "objects": 3, "size": 5, "max_steps": 9, "task": "sampled"}),
        ("dark_room", {"size": 3, "max_steps": 5}),
        ("dark_room", {"size": 3, "max_steps": 5, "task": "sampled"}),
    ],
)
def test_pure_environments_step_together_as_one_by_one(name, arguments):
    """Time-steps, final observations, episodes, successes and goals: all the same, to the type."""

    def made():
        return [make_hosted(name, seed=seed, **arguments) for seed in (3, 4, 8)]

    together, alone = HostStreams(made()), HostStreams([Passed(environment) for environment in made()])
    assert type(together._stepping) is not type(alone._stepping)
    one, other = follow(together, 40), follow(alone, 40)
    jax.tree.map(np.testing.assert_array_equal, one[0], other[0])
    assert jax.tree.map(lambda leaf: leaf.dtype, one[0]) == jax.tree.map(lambda leaf: leaf.dtype, other[0])
    assert one[1:] == other[1:] and len(one[1]) > 10
    if name == "rooms":
        assert {episode.success for episode in one[1]} == {True, False}
        drawn = {goal for goals in one[2] for goal in goals}
        assert len(drawn) > 3 if "task" in arguments else len(drawn) <= 3
    assert [e.success() for e in together.environments if hasattr(e, "success")] == [
        e.success() for e in alone.environments if hasattr(e, "success")
    ]


class Passed(dm_env.Environment):
    """A wrapper, which has to be stepped by itself."""

    def __init__(self, environment):
        self.inner = environment

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def reset(self):
        return self.inner.reset()

    def step(self, action):
        return self.inner.step(action)

    def observation_spec(self):
        return self.inner.observation_spec()

    def action_spec(self):
        return self.inner.action_spec()


def test_unlike_environments_step_one_by_one():
    sizes = [make_hosted("dark_room", seed=0, size=size) for size in (3, 5)]
    assert type(HostStreams(sizes)._stepping) is OneByOne
    alike = [to_dm_env(make("dark_room"), seed=0), make_hosted("dark_room", seed=1)]
    assert type(HostStreams(alike)._stepping) is JaxStepping


def test_a_goal_is_the_episode_s():
    """It is what `text` shows, and there is none before an episode draws it."""
    hosted = make_hosted("rooms", seed=2, family="lift", max_steps=2, task="sampled")
    assert not hasattr(hosted, "goal")
    goals = set()
    for _ in range(6):
        text = hosted.reset().observation["text"]
        np.testing.assert_array_equal(text, tokenize_goal(parse_goal(hosted.goal)))
        goals.add(hosted.goal)
    assert len(goals) > 2
