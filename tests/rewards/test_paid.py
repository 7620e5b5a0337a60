"""A reward model inside a compiled loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs import LAST, make, render
from limbeck.rewards import CosineHead, EncoderReward, RewardError
from limbeck.rewards.clip_reward import family_goals
from limbeck.rewards.paid import Paid, pay_by


class Colours:
    """Frames by their mean colours, goals by made-up directions."""

    fingerprint, name = "colours", "colours"

    def encode_frames(self, frames):
        return np.asarray(encode(jnp.asarray(frames)))

    def encode_goals(self, texts):
        vectors = np.random.default_rng(0).normal(size=(len(texts), 3)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def encode(frames):
    means = frames.astype(jnp.float32).mean((1, 2)) / 255 - jnp.array([0.2, 0.22, 0.21])
    return means / jnp.linalg.norm(means, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def room():
    return make("rooms", family="lift", objects=3, max_steps=12, views=("symbols", "text"), reward="none")


@pytest.fixture(scope="module")
def model():
    return EncoderReward(Colours(), CosineHead(), [goal.text() for goal in family_goals("lift")])


def walk(world, task: int, actions=None):
    """States and time-steps of one episode, of random actions if none are given."""
    step = jax.jit(world.step)
    state, timestep = world.reset(jax.random.key(1), jnp.int32(task))
    if actions is None:
        actions = np.random.default_rng(task).integers(0, 5, 12)
    seen = []
    for i, action in enumerate(actions):
        state, timestep = step(jax.random.key(i), jnp.int32(task), state, jnp.int32(action))
        seen.append((state, timestep))
    return seen


def test_compiled_rewards_are_the_models_own(room, model) -> None:
    """Frame by frame, of the observation after the action, those that `EncoderReward` gives on the host."""
    pay = pay_by(model, encode)
    for task in (2, 11):
        seen = walk(Paid(room, pay), task)
        frames = np.stack([np.asarray(render(timestep.observation["symbols"])) for _, timestep in seen])
        expected = model(frames, [model.goals[task]] * len(frames))
        np.testing.assert_allclose([timestep.reward for _, timestep in seen], expected, atol=1e-6)
        assert expected.std() > 0


def test_a_hit_ends_the_episode_and_the_truth_stays(room) -> None:
    """Paid by the truth it is the room's own reward; paid at once, it ends at once, whatever is true."""
    true = make("rooms", family="lift", objects=3, max_steps=12, views=("symbols", "text"))

    def truth(observation, goal, key):
        carried = observation["symbols"][3, 6]
        return (carried[0] == 5 + goal % 3) & (carried[1] == goal // 3)

    for task in (0, 7, 16):
        state, _ = true.reset(jax.random.key(1), jnp.int32(task))
        actions = true.demonstrate(state, task)
        paid, own = walk(Paid(room, truth), task, actions), walk(true, task, actions)
        assert [float(timestep.reward) for _, timestep in paid] == [0.0] * (len(actions) - 1) + [1.0]
        for (state, timestep), (_, expected) in zip(paid, own):
            assert float(state.true_reward) == float(expected.reward)
            for part in ("reward", "discount", "step_type"):
                assert float(getattr(timestep, part)) == float(getattr(expected, part)), part
    state, timestep = walk(Paid(room, lambda observation, goal, key: jnp.float32(1)), 0, [0])[0]
    assert (float(timestep.reward), float(timestep.discount), int(timestep.step_type)) == (1.0, 0.0, LAST)
    assert float(state.true_reward) == 0.0
    half = walk(Paid(room, lambda observation, goal, key: jnp.float32(0.5)), 0, [0])[0][1]
    assert float(half.reward) == 0.5 and int(half.step_type) != LAST


def test_it_works_vmapped_and_knows_its_task(room, model) -> None:
    world = Paid(room, pay_by(model, encode))
    tasks = jnp.arange(4)
    keys = jax.random.split(jax.random.key(0), 4)
    states, _ = jax.vmap(world.reset)(keys, tasks)
    _, together = jax.jit(jax.vmap(functools.partial(world.step)))(
        keys, tasks, states, jnp.zeros(4, jnp.int32)
    )
    for i in range(4):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        _, alone = world.step(keys[i], tasks[i], state, jnp.int32(0))
        np.testing.assert_allclose(alone.reward, together.reward[i], atol=1e-6)


def test_other_models_and_observations_are_refused(room, model) -> None:
    with pytest.raises(RewardError, match="EncoderReward, calibrated or not, got function"):
        pay_by(lambda frames, goals: None, encode)
    pay = pay_by(model, encode)
    with pytest.raises(RewardError, match="symbols"):
        pay({"text": jnp.zeros(8)}, jnp.int32(0), jax.random.key(0))
