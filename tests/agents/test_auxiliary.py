"""Losses that ride on a torso's features."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import TimeStep, specs
from limbeck.agents import ALGORITHMS, Trajectory, make_agent_for, with_auxiliary


def features(params, x):
    """tanh(a x), with (b - 3)^2 beside it at weight 0.5."""
    return with_auxiliary(jnp.tanh(params["a"] * x), jnp.square(params["b"] - 3.0), 0.5)


def test_the_gradient_is_of_both() -> None:
    params, x = {"a": jnp.float32(0.3), "b": jnp.float32(1.0)}, jnp.ones(4)
    np.testing.assert_array_equal(features(params, x), jnp.tanh(0.3 * x))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(features(p, x)))))(params)
    # d/da sum tanh(a)^2 = 4 * 2 tanh(a) (1 - tanh(a)^2); 0.5 * d/db (b - 3)^2 = b - 3.
    t = np.tanh(0.3)
    np.testing.assert_allclose(gradient["a"], 8 * t * (1 - t**2), rtol=1e-5)
    np.testing.assert_allclose(gradient["b"], -2.0, rtol=1e-6)


def test_it_is_paid_where_the_features_are_differentiated_and_nowhere_else() -> None:
    params, x = {"a": jnp.float32(0.3), "b": jnp.float32(1.0)}, jnp.ones(4)

    def loss(p):
        target = jax.lax.stop_gradient(jnp.sum(features(p, x)))
        chosen = jnp.argmax(features(p, x))
        return jnp.sum(features(p, x)[chosen]) * target

    np.testing.assert_allclose(jax.grad(loss)(params)["b"], -2.0, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, entry in ALGORITHMS.items() if entry.replay])
def test_every_agent_descends_on_it(name) -> None:
    """A parameter that no output depends on moves towards where its own loss is least."""
    observed = specs.BoundedArray((3,), np.float32, -1.0, 1.0)

    def torso(observation):
        own = hk.get_parameter("own", (), init=jnp.zeros)
        return with_auxiliary(hk.Linear(8)(observation), jnp.square(own - 1.0))

    burn_in = {"burn_in": 2} if name == "r2d2" else {}
    agent = make_agent_for(name, observed, specs.DiscreteArray(2), torso, **burn_in)
    state, rows, batch = agent.init(jax.random.key(0)), 8, 4
    memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *jnp.shape(x))), agent.initial_memory())

    def row(memory, key):
        shown = TimeStep(jnp.int32(1), jnp.float32(0), jnp.float32(1), jax.random.normal(key, (3,)))
        action, extras, memory = agent.act(state.params, memory, key, shown, "explore")
        return memory, (shown.observation, action, extras)

    keys = jax.random.split(jax.random.key(1), (batch, rows))
    _, (observations, actions, extras) = jax.vmap(lambda m, k: jax.lax.scan(row, m, k))(memory, keys)
    observations, actions, extras = jax.tree.map(
        lambda x: jnp.swapaxes(x, 0, 1), (observations, actions, extras)
    )
    ones = jnp.ones((rows, batch))
    trajectory = Trajectory(
        observation=observations, action=actions, reward=ones, discount=ones,
        step_type=jnp.ones((rows, batch), jnp.int32), next_observation=observations, extras=extras, memory=memory,
    )  # fmt: skip
    after, _, _ = agent.update(state, jax.random.key(2), trajectory, jnp.ones(batch))

    def own(state):
        leaves = jax.tree_util.tree_leaves_with_path(state.params)
        return [float(leaf) for path, leaf in leaves if "'own'" in str(path)][0]

    assert own(state) == 0.0 and own(after) > 0.0
