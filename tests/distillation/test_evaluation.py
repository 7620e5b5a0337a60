"""Compiled evaluation: returns by hand, scripted agents against exact bounds, controls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.agents import Agent, optimal_agent, random_agent
from limbeck.distillation import evaluate
from limbeck.distillation.evaluation import episode_returns
from limbeck.envs import STAY, DarkRoom, task_at


ROOM = DarkRoom(size=5, max_steps=6)


def scripted(initial_memory, act):
    return Agent(lambda key: (), initial_memory, act, lambda *_: None)


def test_returns_by_hand():
    # Two streams of seven steps; the second one's episodes have unequal lengths.
    rewards = np.array([[1, 0], [2, 5], [3, 1], [4, 1], [5, 2], [6, 3], [7, 9]], np.float32)
    lasts = np.array([[0, 1], [0, 0], [1, 0], [0, 0], [0, 1], [1, 1], [0, 0]], bool)
    np.testing.assert_array_equal(
        episode_returns(rewards, lasts, 2), [[1 + 2 + 3, 4 + 5 + 6], [0, 5 + 1 + 1 + 2]]
    )
    np.testing.assert_array_equal(episode_returns(rewards, lasts, 3)[1], [0, 9, 3])


def test_the_optimal_agent_reaches_the_bound():
    task = 4
    steps = []
    tasks = task_at(ROOM, [task])
    out = evaluate(
        optimal_agent(ROOM, jnp.int32(task)),
        (),
        ROOM,
        tasks,
        np.array([task]),
        jax.random.key(0),
        12,
        2,
        progress=lambda done, total: steps.append((done, total)),
    )
    # From the centre (2, 2) to the corner (4, 0) are 4 moves; the 4th and the two after it pay.
    np.testing.assert_array_equal(out.returns, np.full((1, 2, 12), 3.0))
    np.testing.assert_array_equal(out.optimal, [3.0])
    assert out.task_ids.tolist() == [4] and steps == [(10, 12), (12, 12)]


def test_the_random_agent_has_its_exact_mean():
    ids = np.array([12, 7])
    out = evaluate(
        random_agent(ROOM.action_spec()), (), ROOM, task_at(ROOM, ids), ids, jax.random.key(1), 40, 50
    )
    assert out.returns.shape == (2, 50, 40) and out.returns.dtype == np.float32
    error = out.returns.std(axis=(1, 2)) / np.sqrt(2000)
    assert (np.abs(out.returns.mean(axis=(1, 2)) - out.random) < 4 * error).all()
    # Streams differ from each other.
    assert len(np.unique(out.returns[0], axis=0)) > 40


def test_equal_keys_give_equal_returns():
    ids = np.array([12, 7])

    def run(seed, seeds=2):
        agent = random_agent(ROOM.action_spec())
        return evaluate(agent, (), ROOM, task_at(ROOM, ids), ids, jax.random.key(seed), 12, seeds).returns

    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).any()


def rewarded_counter():
    """Stays and counts the steps on which it saw a reward; leaves for good once there were three."""

    def act(params, memory, key, timestep, mode):
        memory = memory + (timestep.reward > 0)
        return jnp.where(memory >= 3, 0, STAY).astype(jnp.int32), (), memory

    return scripted(lambda: jnp.int32(0), act)


def test_controls_by_a_probe():
    """The goal is the start cell: staying pays 1 a step, until three seen rewards make the probe go left."""
    ids = np.array([12])

    def returns(control):
        return evaluate(
            rewarded_counter(), (), ROOM, task_at(ROOM, ids), ids, jax.random.key(0), 4, 1, control
        ).returns[0, 0]

    # Seen after steps 1, 2 and 3; every later episode is left at once.
    np.testing.assert_array_equal(returns(None), [3, 0, 0, 0])
    # It never sees a reward, and the true ones are counted.
    np.testing.assert_array_equal(returns("rewards_zeroed"), [6, 6, 6, 6])
    # It forgets at every episode's end. The first step of the next still shows the last reward (which
    # ended the episode); the first episode left the goal before its end, so none is shown after it.
    np.testing.assert_array_equal(returns("context_cleared"), [3, 3, 3, 3])
    with pytest.raises(ValueError, match="rewards_zeroed"):
        returns("blindfold")


def test_unknown_bounds_are_nan():
    class Unbounded:
        def __init__(self, room):
            self._room = room

        def __getattr__(self, name):
            if name == "bounds":
                raise AttributeError(name)
            return getattr(self._room, name)

    ids = np.array([1, 2])
    out = evaluate(
        random_agent(ROOM.action_spec()),
        (),
        Unbounded(ROOM),
        task_at(ROOM, ids),
        ids,
        jax.random.key(0),
        2,
        1,
    )
    assert np.isnan(out.random).all() and np.isnan(out.optimal).all()
