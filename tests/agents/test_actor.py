"""Actors, the trajectories they cut, items there and back, and the learner that takes them."""

from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.agents import (
    Actor,
    Agent,
    Batch,
    Learner,
    TrajectoryCutter,
    from_items,
    importance_weights,
    leaf_names,
    signature,
    to_item,
    trajectory_spec,
)
from limbeck.envs import LAST


class Clock(dm_env.Environment):
    """Shows the time of all steps taken; episodes of three steps that end by truncation."""

    def __init__(self, start: int = 0):
        self.time = start

    def reset(self):
        self.left = 3
        return dm_env.restart({"time": np.float32(self.time), "text": np.zeros(2, np.int32)})

    def step(self, action):
        self.time, self.left = self.time + 1, self.left - 1
        seen = {"time": np.float32(self.time), "text": np.full(2, action, np.int32)}
        return dm_env.truncation(0.0, seen) if self.left == 0 else dm_env.transition(1.0, seen)

    def observation_spec(self):
        return {"time": specs.Array((), np.float32), "text": specs.Array((2,), np.int32)}

    def action_spec(self):
        return specs.DiscreteArray(4)


class State(NamedTuple):
    params: dict
    seen: jax.Array


def counting_agent() -> Agent:
    """Acts by its step modulo 4 and remembers how many steps it took; an update adds the mean observed time."""

    def act(params, memory, key, timestep, mode):
        return (memory % 4).astype(jnp.int32), {"version": params["w"]}, memory + 1

    def update(state, key, trajectory, weights):
        mean = jnp.mean(trajectory.observation["time"] * weights)
        params = {"w": state.params["w"] + mean}
        return State(params, state.seen + 1), {"mean": mean}, trajectory.reward.sum(axis=0)

    return Agent(lambda key: State({"w": jnp.float32(0)}, jnp.int32(0)), lambda: jnp.int32(0), act, update)


def cut(unroll: int, period: int, steps: int) -> list:
    agent = counting_agent()
    actor, cutter = Actor(agent, [Clock(), Clock(100)], seed=0), TrajectoryCutter(unroll, period)
    found = []
    for _ in range(steps):
        memory = actor.memory
        found.append(cutter.add(actor.step({"w": jnp.float32(7)}), memory))
    return found


def test_trajectories_are_the_stream_in_order():
    found = cut(unroll=4, period=4, steps=8)
    assert [len(x) for x in found] == [0, 0, 0, 2, 0, 0, 0, 2]
    first, other = found[3]
    np.testing.assert_array_equal(first.observation["time"], [0, 1, 2, 3])
    np.testing.assert_array_equal(other.observation["time"], [100, 101, 102, 103])
    np.testing.assert_array_equal(first.action, [0, 1, 2, 3])
    np.testing.assert_array_equal(first.step_type, [1, 1, LAST, 1])
    np.testing.assert_array_equal(first.discount, [1, 1, 1, 1])
    np.testing.assert_array_equal(first.next_observation["time"], [1, 2, 3, 4])
    # The third step's own observation is not the next row's: an episode begins between them.
    np.testing.assert_array_equal(first.next_observation["text"][:, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(first.observation["text"][:, 0], [0, 0, 1, 0])
    np.testing.assert_array_equal(first.extras["version"], [7, 7, 7, 7])
    assert first.memory == 0 and found[7][0].memory == 4


def test_overlapping_trajectories_begin_every_period_with_their_own_memory():
    found = [x for x in cut(unroll=4, period=2, steps=8) if x]
    assert [x[0].observation["time"].tolist() for x in found] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert [int(x[0].memory) for x in found] == [0, 2, 4]


def test_periods_that_do_not_divide_the_unroll():
    found = [x for x in cut(unroll=5, period=3, steps=11) if x]
    assert [x[0].observation["time"].tolist() for x in found] == [
        [0, 1, 2, 3, 4],
        [3, 4, 5, 6, 7],
        [6, 7, 8, 9, 10],
    ]
    assert [int(x[0].memory) for x in found] == [0, 3, 6]


def test_no_rows_are_left_out():
    with pytest.raises(ValueError, match="period=5 and unroll=4"):
        TrajectoryCutter(4, 5)


def test_items_there_and_back():
    agent = counting_agent()
    spec = trajectory_spec(agent, Clock().observation_spec(), 4)
    shapes = signature(spec)
    assert shapes["observation/text"] == ((4, 2), "int32")
    assert shapes["memory"] == ((), "int32")
    assert shapes["extras/version"] == ((4,), "float32")
    trajectories = cut(4, 4, 4)[3]
    items = [to_item(trajectory, 5 + i) for i, trajectory in enumerate(trajectories)]
    for item in items:
        assert {name: (array.shape, array.dtype.name) for name, array in item.items()} == shapes
    data = {name: np.stack([item[name] for item in items]) for name in items[0]}
    batch, versions = from_items(spec, data)
    assert versions.tolist() == [5, 6]
    assert batch.observation["text"].shape == (4, 2, 2)
    for i, trajectory in enumerate(trajectories):
        jax.tree.map(
            np.testing.assert_array_equal,
            jax.tree.map(lambda x, i=i: x[:, i], batch._replace(memory=())),
            trajectory._replace(memory=()),
        )
        assert batch.memory[i] == trajectory.memory
    with pytest.raises(ValueError, match="no action"):
        from_items(spec, {name: array for name, array in data.items() if name != "action"})
    with pytest.raises(ValueError, match=r"reward has shape \(3,\)"):
        from_items(spec, {**data, "reward": data["reward"][:, :3]})


def test_leaf_names_go_with_the_leaves():
    tree = {"b": [1, 2], "a": State({"w": 3}, 4)}  # pyright: ignore[reportArgumentType]
    assert dict(zip(leaf_names(tree), jax.tree.leaves(tree))) == {
        "a/params/w": 3, "a/seen": 4, "b/0": 1, "b/1": 2
    }  # fmt: skip


def test_a_learner_updates_publishes_and_goes_on():
    agent = counting_agent()
    spec = trajectory_spec(agent, Clock().observation_spec(), 4)
    items = [to_item(trajectory, 0) for trajectory in cut(4, 4, 4)[3]]
    data = {name: np.stack([item[name] for item in items]) for name in items[0]}
    batch = Batch(data, np.array([0.5, 0.5]), 2)
    learner = Learner(agent, spec, seed=0)
    found = learner.pull(-1)
    assert found is not None and found[0] == 0 and found[1]["w"] == 0
    assert learner.pull(0) is None
    metrics, priorities, versions = learner.update(batch)
    mean = np.mean([[0, 1, 2, 3], [100, 101, 102, 103]])
    assert float(metrics["mean"]) == mean
    assert np.asarray(priorities).tolist() == [3.0, 3.0] and versions.tolist() == [0, 0]
    assert learner.pull(0) is None  # Not published yet.
    assert learner.publish() == 1
    version, params = learner.pull(0) or (None, None)
    assert version == 1 and params["w"] == mean
    other = Learner(agent, spec, seed=1, state=learner.state)
    assert other.updates == 1
    other.update(batch)
    other.publish()
    # One that is ahead of a learner that was thrown back gets its variables all the same.
    assert (other.pull(7) or (None,))[0] == 2


def test_importance_weights_by_hand():
    found = importance_weights(np.array([0.1, 0.4]), table_size=10, beta=0.5)
    np.testing.assert_allclose(found, [1.0, 0.5])  # (10 p)^-1/2 = 1 and 1/2.
    assert importance_weights(np.array([0.1, 0.4]), 10, 0.0).tolist() == [1.0, 1.0]
