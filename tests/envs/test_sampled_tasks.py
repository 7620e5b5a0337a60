"""An environment whose task is drawn at every reset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs import AutoReset, DarkRoom, SampledTasks


def test_tasks_are_drawn_from_the_list_and_kept_for_an_episode() -> None:
    room = DarkRoom(max_steps=5)
    world = AutoReset(SampledTasks(room, [7, 50]))
    goals = np.asarray(room.tasks())
    state, timestep = world.reset(jax.random.key(0), 0)

    def step(carry, key):
        state, timestep = carry
        state, led_to = world.step(key, 0, state, jnp.int32(4))
        return (state, led_to), (state.inner.drawn, led_to.last())

    _, (drawn, last) = jax.lax.scan(step, (state, timestep), jax.random.split(jax.random.key(1), 500))
    drawn, last = np.asarray(drawn), np.asarray(last)
    assert {tuple(np.ravel(goal)) for goal in drawn} == {tuple(np.ravel(goals[i])) for i in (7, 50)}
    changed = np.any(np.reshape(drawn[1:] != drawn[:-1], (499, -1)), axis=1)
    assert changed.any() and not changed[~last[1:]].any()
    share = np.mean([tuple(np.ravel(goal)) == tuple(np.ravel(goals[7])) for goal in drawn])
    assert 0.3 < share < 0.7


def test_rewards_are_those_of_the_drawn_task() -> None:
    room = DarkRoom(max_steps=20)
    world = SampledTasks(room)
    state, _ = world.reset(jax.random.key(3), 0)
    own, _ = room.reset(jax.random.split(jax.random.key(3))[1], state.drawn)
    for i in range(20):
        key, action = jax.random.key(i), jnp.int32(i % 5)
        state, led_to = world.step(key, 0, state, action)
        own, expected = room.step(key, state.drawn, own, action)
        jax.tree.map(np.testing.assert_array_equal, led_to, expected)


def test_equal_ones_are_equal_and_bad_tasks_are_refused() -> None:
    assert (
        SampledTasks(DarkRoom(), [1, 2]) == SampledTasks(DarkRoom(), [1, 2]) != SampledTasks(DarkRoom(), [1])
    )
    for tasks in ([], [81], [-1]):
        with pytest.raises(ValueError, match="0 to 80"):
            SampledTasks(DarkRoom(), tasks)
