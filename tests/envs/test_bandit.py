import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs import LAST, AdversarialBandit, make


@pytest.mark.parametrize(("split", "side"), [("train", 1), ("held_out", 0)])
def test_the_split_decides_which_side_is_favoured(split, side):
    bandit = make("adversarial_bandit", split=split)
    tasks = np.asarray(jax.vmap(bandit.sample_task)(jax.random.split(jax.random.key(0), 4000)))
    assert tasks.shape == (4000, 10)
    favoured, other = tasks[:, side::2], tasks[:, 1 - side :: 2]
    usual = favoured.min(axis=1) >= 0.5
    assert usual.mean() == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 4000))
    assert (other[usual] < 0.5).all()
    assert (favoured[~usual] < 0.5).all() and (other[~usual] >= 0.5).all()
    assert tasks[:, side].mean() == pytest.approx(0.95 * 0.75 + 0.05 * 0.25, abs=0.02)


def test_payouts_and_bounds():
    bandit = AdversarialBandit()
    task = jnp.linspace(0.0, 1.0, 10)
    random, optimal = jax.jit(bandit.bounds)(task)
    assert float(random) == pytest.approx(50)
    assert float(optimal) == pytest.approx(100)
    state, _ = bandit.reset(jax.random.key(0), task)
    keys = jax.random.split(jax.random.key(1), 9000)
    arms = jnp.arange(9000) % 10
    rewards = jax.vmap(lambda k, a: bandit.step(k, task, state, a)[1].reward)(keys, arms)
    assert set(np.unique(rewards)) == {0.0, 1.0}
    means = np.reshape(rewards, (-1, 10)).mean(axis=0)
    np.testing.assert_allclose(means, task, atol=4 * 0.5 / np.sqrt(900))


def test_an_episode_is_a_hundred_trials_then_cut():
    bandit = AdversarialBandit()
    task = jnp.full((10,), 0.5)
    state, first = bandit.reset(jax.random.key(0), task)

    def step(state, key):
        state, timestep = bandit.step(key, task, state, jnp.int32(0))
        return state, timestep

    _, timesteps = jax.lax.scan(step, state, jax.random.split(jax.random.key(0), 100))
    np.testing.assert_array_equal(np.flatnonzero(timesteps.step_type == LAST), [99])
    np.testing.assert_array_equal(timesteps.discount, np.ones(100))
    np.testing.assert_array_equal(timesteps.observation, np.zeros((100, 1)))
    assert first.observation.dtype == jnp.int32


def test_tasks_cannot_be_listed():
    bandit = AdversarialBandit()
    assert bandit.num_tasks is None
    with pytest.raises(ValueError, match="sample_task"):
        bandit.tasks()


@pytest.mark.parametrize("arguments", [{"num_arms": 1}, {"max_steps": 0}, {"bias": 1.5}, {"split": "test"}])
def test_impossible_bandits_are_refused(arguments):
    with pytest.raises(ValueError, match="adversarial bandit"):
        AdversarialBandit(**arguments)
