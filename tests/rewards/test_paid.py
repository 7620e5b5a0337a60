"""A reward model inside a compiled loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs import LAST, SampledTasks, make, render
from limbeck.rewards import CachedEncoder, CosineHead, EncoderReward, RewardError
from limbeck.rewards.clip_reward import family_goals
from limbeck.rewards.paid import HostPay, Paid, pay_by


class Colours:
    """Frames by their mean colours, goals by made-up directions, all in NumPy."""

    fingerprint, name = "colours", "colours"

    def __init__(self):
        self.encoded = []

    def encode_frames(self, frames):
        self.encoded.extend(frames)
        means = frames.astype(np.float32).mean((1, 2)) / 255 - np.array([0.2, 0.22, 0.21], np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

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


def test_frames_encoded_on_the_host_are_paid_the_same_and_encoded_once(room) -> None:
    """In a compiled, vmapped random walk of many episodes; of every picture that came, one was encoded."""
    encoder = Colours()
    model = EncoderReward(encoder, CosineHead(), [goal.text() for goal in family_goals("lift")])
    host = HostPay(model)
    worlds = [SampledTasks(Paid(room, pay), [1, 5, 9]) for pay in (host, pay_by(model, encode))]

    def walks(world, keys):
        def one(key):
            first, timestep = world.reset(key, 0)

            def step(state, key):
                action = jax.random.randint(key, (), 0, 5)
                state, timestep = world.step(key, 0, state, action)
                return state, (timestep.reward, timestep.observation["symbols"])

            return jax.lax.scan(step, first, jax.random.split(key, 12))[1]

        return jax.jit(jax.vmap(one))(keys)

    keys = jax.random.split(jax.random.key(3), 16)
    (paid, symbols), (expected, _) = (walks(world, keys) for world in worlds)
    np.testing.assert_allclose(paid, expected, atol=1e-6)
    assert np.std(expected) > 0.01
    seen = np.unique(np.asarray(symbols).reshape(-1, 147), axis=0)
    assert len(encoder.encoded) == len(seen) == host.stats().made < 16 * 12
    assert host.stats().hit_rate == pytest.approx(1 - len(seen) / (16 * 12))
    walks(worlds[0], keys)
    assert len(encoder.encoded) == len(seen)
    few = HostPay(model, capacity=20)
    np.testing.assert_allclose(walks(SampledTasks(Paid(room, few), [1, 5, 9]), keys)[0], expected, atol=1e-6)
    assert few.stats().held == 20 and few.stats().evictions > 0


def test_an_encoder_in_jax_is_not_called_from_a_compiled_loop(model) -> None:
    class InJax(Colours):
        def frames_fn(self, params, frames):
            return encode(frames)

    for encoder in (InJax(), CachedEncoder(InJax())):
        with pytest.raises(RewardError, match="give an OpenClip"):
            HostPay(EncoderReward(encoder, CosineHead(), model.goals))
    with pytest.raises(RewardError, match="HostPay takes an EncoderReward"):
        HostPay(lambda frames, goals: None)


def test_other_models_and_observations_are_refused(room, model) -> None:
    with pytest.raises(RewardError, match="EncoderReward, calibrated or not, got function"):
        pay_by(lambda frames, goals: None, encode)
    pay = pay_by(model, encode)
    with pytest.raises(RewardError, match="symbols"):
        pay({"text": jnp.zeros(8)}, jnp.int32(0), jax.random.key(0))
