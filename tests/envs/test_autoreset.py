import copy

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.envs import FIRST, LAST, MID, RIGHT, STAY, AutoReset, DarkRoom, make


def stream(environment, task, actions, key):
    wrapped = AutoReset(environment)
    state, first = wrapped.reset(key, task)

    def step(carry, inputs):
        state, timestep = carry
        action, key = inputs
        state, after = wrapped.step(key, task, state, action)
        return (state, after), (timestep, after, state.final_observation)

    keys = jax.random.split(key, len(actions))
    return first, jax.jit(lambda: jax.lax.scan(step, (state, first), (actions, keys))[1])()


def test_an_ended_episode_shows_the_next_one_s_start_and_keeps_its_last_observation():
    room = DarkRoom(max_steps=3)
    actions = jnp.array([RIGHT, RIGHT, STAY, STAY, RIGHT, RIGHT, RIGHT])
    first, (before, after, final) = stream(room, jnp.int32(42), actions, jax.random.key(0))
    assert int(first.step_type) == FIRST
    assert before.step_type.tolist() == [FIRST, MID, MID, LAST, MID, MID, LAST]
    assert after.step_type.tolist() == [MID, MID, LAST, MID, MID, LAST, MID]
    assert after.reward.tolist() == [0, 1, 1, 0, 0, 1, 0]
    assert before.observation[:, 0].tolist() == [4, 5, 6, 4, 4, 5, 4]
    assert final[:, 0].tolist() == [5, 6, 6, 4, 5, 6, 5]
    assert after.discount.tolist() == [1] * 7


def test_every_observation_acted_on_is_the_one_shown_before_and_episodes_are_equally_long():
    environment = make("dark_key_to_door")
    task = jnp.array([3, 70])
    actions = jax.random.randint(jax.random.key(2), (300,), 0, 5)
    first, (before, after, final) = stream(environment, task, actions, jax.random.key(1))
    np.testing.assert_array_equal(before.observation[1:], after.observation[:-1])
    np.testing.assert_array_equal(np.flatnonzero(after.step_type == LAST), np.arange(49, 300, 50))
    moved = np.abs(np.asarray(final) - np.asarray(before.observation)).sum(axis=1)
    assert moved.max() == 1  # `final` is where the action led, never the next episode's start
    inside = np.asarray(after.step_type) != LAST
    np.testing.assert_array_equal(np.asarray(final)[inside], np.asarray(after.observation)[inside])
    starts = np.asarray(after.observation)[~inside]
    assert len(np.unique(starts, axis=0)) > 1  # fresh random starts


def test_a_vmapped_stream_equals_each_single_one():
    environment = AutoReset(DarkRoom(max_steps=2))
    tasks, actions = jnp.arange(4), jnp.array([0, 1, 2, 3])
    keys = jax.random.split(jax.random.key(0), 4)
    states, _ = jax.vmap(environment.reset)(keys, tasks)
    for _ in range(3):
        new_states, batched = jax.vmap(environment.step)(keys, tasks, states, actions)
        for i in range(4):
            state = jax.tree.map(lambda x, i=i: x[i], states)
            _, single = environment.step(keys[i], tasks[i], state, actions[i])
            jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda x, i=i: x[i], batched), single)
        states = new_states


def test_the_rest_is_the_environment_s_own():
    environment = make("dark_room_hard")
    wrapped = AutoReset(environment)
    assert (wrapped.name, wrapped.num_tasks, wrapped.unwrapped) == ("dark_room_hard", 289, environment)
    state, _ = wrapped.reset(jax.random.key(0), jnp.int32(0))
    np.testing.assert_array_equal(wrapped.markov_observation(state), [8, 8, 0])
    assert copy.deepcopy(wrapped).name == "dark_room_hard"
