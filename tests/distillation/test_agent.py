"""The distilled agent: stepping it is the network over the whole stream."""

import functools

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.agents import EVALUATE, EXPLORE
from limbeck.distillation import Inputs, ModelConfig, in_context_agent
from limbeck.distillation.model import make_network
from limbeck.encoders import TransformerConfig


SPEC = specs.BoundedArray((2,), np.int32, 0, 3, "xy")
ACTIONS = specs.DiscreteArray(3, name="action")
FIRST, MID, LAST = 0, 1, 2
W, T, EPISODE = 4, 26, 5


class Played:
    """An agent that has stepped through a random stream of observations and rewards."""

    def __init__(self, context, tokens=1):
        positions = "learned" if context == "recomputed" else "rotary"
        trunk = TransformerConfig(num_layers=2, d_model=16, num_heads=2, feed_forward=16, positions=positions)
        self.config = ModelConfig(trunk, window=W, tokens_per_step=tokens, context=context)
        self.network = make_network(self.config, SPEC, 3, EPISODE)
        self.agent = in_context_agent(self.config, SPEC, ACTIONS, EPISODE)
        params = self.agent.init(jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(params)))
        leaves = [
            p + 0.2 * jax.random.normal(k, p.shape)
            for p, k in zip(jax.tree.leaves(params), keys, strict=True)
        ]
        self.params = jax.tree.unflatten(jax.tree.structure(params), leaves)
        rng = np.random.default_rng(0)
        self.observation = rng.integers(0, 4, (3, T, 2)).astype(np.int32)
        self.reward = rng.normal(size=(3, T)).astype(np.float32)
        # In the merged stream an episode's first step says LAST, except the very first.
        self.kind = np.where(np.arange(T) % EPISODE == 0, LAST, MID).astype(np.int32)
        self.kind[0] = FIRST
        self.keys = jax.random.split(jax.random.key(2), (3, T))

    def timesteps(self, i):
        return dm_env.TimeStep(self.kind, self.reward[i], np.ones(T, np.float32), self.observation[i])

    @functools.partial(jax.jit, static_argnums=0)
    def play(self, memory, keys, timesteps):
        def body(memory, x):
            action, extras, memory = self.agent.act(self.params, memory, *x, EVALUATE)
            return memory, (action, extras["logits"])

        memory, (actions, logits) = jax.lax.scan(body, memory, (keys, timesteps))
        return memory, actions, logits

    @functools.cached_property
    def single(self):
        return self.play(self.agent.initial_memory(), self.keys[0], self.timesteps(0))

    def inputs(self, i, actions):
        return Inputs(
            self.observation[i],
            np.concatenate([[3], actions[:-1]]).astype(np.int32),
            np.where(np.arange(T) == 0, 0, self.reward[i]).astype(np.float32),
            (np.arange(T) % EPISODE).astype(np.int32),
        )


@pytest.fixture(scope="module")
def cached():
    return Played("cached")


@pytest.fixture(scope="module")
def recomputed():
    return Played("recomputed")


def assert_is_the_cached_stream(played):
    _, actions, logits = played.single
    expected = played.network.logits(played.params, None, played.inputs(0, np.asarray(actions)))
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    assert np.std(expected, axis=0).min() > 1e-2


def test_cached_steps_are_the_logits_of_the_whole_stream(cached):
    assert_is_the_cached_stream(cached)


def test_three_tokens_a_step_are_the_logits_of_the_whole_stream():
    assert_is_the_cached_stream(Played("cached", tokens=3))


def test_recomputed_steps_are_a_forward_of_the_last_window(recomputed):
    _, actions, logits = recomputed.single
    inputs = recomputed.inputs(0, np.asarray(actions))
    for t in range(T):
        window = jax.tree.map(lambda x, t=t: x[max(0, t - W + 1) : t + 1], inputs)
        expected = recomputed.network.logits(recomputed.params, None, window)[-1]
        np.testing.assert_allclose(logits[t], expected, atol=2e-5)


@pytest.mark.parametrize("form", ["cached", "recomputed"])
def test_streams_that_step_together_are_single_ones(form, request):
    played = request.getfixturevalue(form)
    axes = played.agent.memory_axes
    memory = jax.vmap(lambda _: played.agent.initial_memory(), out_axes=axes)(jnp.arange(3))
    play = jax.vmap(played.play.__wrapped__, in_axes=(None, axes, 0, 0), out_axes=(axes, 0, 0))
    timesteps = jax.tree.map(lambda *x: np.stack(x), *(played.timesteps(i) for i in range(3)))
    _, actions, logits = jax.jit(play, static_argnums=0)(played, memory, played.keys, timesteps)
    for i in range(3):
        _, one, its = played.play(played.agent.initial_memory(), played.keys[i], played.timesteps(i))
        np.testing.assert_array_equal(actions[i], one)
        np.testing.assert_allclose(logits[i], its, atol=2e-5)


@pytest.mark.parametrize("form", ["cached", "recomputed"])
def test_a_cleared_memory_is_an_empty_one(form, request):
    played = request.getfixturevalue(form)
    full = played.single[0]
    fresh = played.play(played.agent.initial_memory(), played.keys[1], played.timesteps(1))
    cleared = played.play(played.agent.clear(full, jnp.bool_(True)), played.keys[1], played.timesteps(1))
    np.testing.assert_array_equal(cleared[1], fresh[1])
    np.testing.assert_allclose(cleared[2], fresh[2], atol=2e-5)
    kept = played.play(played.agent.clear(full, jnp.bool_(False)), played.keys[1], played.timesteps(1))
    plain = played.play(full, played.keys[1], played.timesteps(1))
    np.testing.assert_array_equal(kept[2], plain[2])
    assert np.abs(kept[2][0] - fresh[2][0]).max() > 1e-3


def test_temperature(cached):
    timestep = jax.tree.map(lambda x: x[0], cached.timesteps(0))
    keys = jax.random.split(jax.random.key(3), 4000)

    def draw(temperature):
        agent = in_context_agent(cached.config, SPEC, ACTIONS, EPISODE, temperature)
        return jax.vmap(lambda k: agent.act(cached.params, agent.initial_memory(), k, timestep, EXPLORE)[:2])(
            keys
        )

    actions, extras = draw(0.0)
    logits = np.asarray(extras["logits"][0], np.float64)
    np.testing.assert_array_equal(actions, np.argmax(logits))
    for temperature in (0.5, 2.0):
        expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        shares = np.bincount(draw(temperature)[0], minlength=3) / 4000
        # Four standard errors of a share are at most 0.032.
        np.testing.assert_allclose(shares, expected, atol=0.032)
    with pytest.raises(ValueError, match="temperature"):
        in_context_agent(cached.config, SPEC, ACTIONS, EPISODE, -1.0)


def test_weights_are_frozen(cached):
    state, metrics, priorities = cached.agent.update(cached.params, jax.random.key(0), None, jnp.ones(6))
    assert state is cached.params and metrics == {}
    np.testing.assert_array_equal(priorities, np.zeros(6))
