import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.agents import ALGORITHMS, A2CConfig, PPOConfig, Trajectory, a2c, ppo
from limbeck.agents._returns import cut_at_episode_ends
from limbeck.agents.networks import encoder, policy_and_value
from limbeck.agents.ppo import PPOExtras, advantages_of
from limbeck.agents.torsos import default_torso


GRID = specs.BoundedArray((2,), np.int32, [0, 1], [3, 3], "xy")
ACTIONS = specs.DiscreteArray(3)
T, B = 7, 2


def trajectory(seed=0):
    """[7, 2] with a truncation and a termination in each stream."""
    rng = np.random.default_rng(seed)
    kind = np.ones((T, B), np.int32)
    discount = np.ones((T, B), np.float32)
    kind[2, 0], kind[4, 1], kind[5, 0], kind[1, 1] = 2, 2, 2, 2
    discount[5, 0] = discount[1, 1] = 0

    def draw():
        return jnp.asarray(np.stack([rng.integers(0, 4, (T, B)), rng.integers(1, 4, (T, B))], -1), jnp.int32)

    return Trajectory(
        draw(), jnp.asarray(rng.integers(0, 3, (T, B)), jnp.int32),
        jnp.asarray(rng.normal(size=(T, B)), jnp.float32),
        jnp.asarray(discount), jnp.asarray(kind), draw(),
    )  # fmt: skip


def lambda_returns(t, next_values, gamma, lam):
    out = np.zeros((T, B))
    for b in range(B):
        for i in reversed(range(T)):
            ahead = next_values[i, b]
            if i + 1 < T and t.step_type[i, b] != 2:
                ahead = (1 - lam) * next_values[i, b] + lam * out[i + 1, b]
            out[i, b] = t.reward[i, b] + gamma * t.discount[i, b] * ahead
    return out


def test_one_hot_per_axis():
    features = encoder(GRID)(jnp.array([[2, 1], [0, 3]]))
    np.testing.assert_array_equal(features, [[0, 0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 1]])


def test_other_observations_are_flattened_and_scaled():
    image = encoder(specs.BoundedArray((1, 2), np.uint8, 0, 255))(jnp.array([[[0, 255]]], jnp.uint8))
    np.testing.assert_allclose(image, [[0, 1]])
    np.testing.assert_allclose(encoder(specs.Array((2,), np.float32))(jnp.array([3.0, -1.0])), [3, -1])
    with pytest.raises(ValueError, match="spec of one array"):
        encoder({"image": GRID})
    with pytest.raises(ValueError, match="more than 4096"):
        encoder(specs.BoundedArray((1,), np.int32, 0, 10**6))


def test_a2c_loss_and_gradient_step_against_numpy():
    config = A2CConfig(hidden=(8,), gamma=0.9, lambda_=0.7, entropy_cost=0.05, value_cost=0.3)
    agent, t = a2c(GRID, ACTIONS, config), trajectory()
    state = agent.init(jax.random.key(0))
    _, apply = policy_and_value(GRID, 3, default_torso(GRID, (8,)))
    logits, values = (np.asarray(x, np.float64) for x in apply(state.params, t.observation))
    next_values = np.asarray(apply(state.params, t.next_observation)[1], np.float64)
    returns = lambda_returns(t, next_values, 0.9, 0.7)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_p, np.asarray(t.action)[..., None], -1)[..., 0]
    entropy = -(np.exp(log_p) * log_p).sum(-1)
    policy, value = -(chosen * (returns - values)).mean(), 0.5 * ((returns - values) ** 2).mean()
    new, metrics, priorities = agent.update(state, jax.random.key(1), t, jnp.ones(B))
    np.testing.assert_allclose(metrics["policy_loss"], policy, rtol=1e-4)
    np.testing.assert_allclose(metrics["value_loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], entropy.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], policy - 0.05 * entropy.mean() + 0.3 * value, rtol=1e-4)
    np.testing.assert_allclose(priorities, np.abs(returns - values).mean(0), rtol=1e-4)
    # Adam's first step is the learning rate in every direction that has a gradient.
    moved = max(
        float(jnp.max(jnp.abs(a - b)))
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(new.params))
    )
    assert moved == pytest.approx(config.learning_rate, rel=1e-2)


def test_returns_do_not_cross_episode_ends():
    t = trajectory()
    reward, discount = cut_at_episode_ends(t, jnp.full((T, B), 10.0), 0.5)
    assert float(reward[2, 0] - t.reward[2, 0]) == pytest.approx(5.0)  # truncated: bootstraps
    assert float(reward[5, 0] - t.reward[5, 0]) == 0.0  # terminated: does not
    np.testing.assert_array_equal(discount == 0, t.step_type == 2)


def test_gae_against_a_loop():
    t, rng = trajectory(), np.random.default_rng(3)
    values, next_values = rng.normal(size=(2, T, B)).astype(np.float32)
    # Inside an episode the next row's value is the value of what the step led to.
    inside = np.asarray(t.step_type[:-1]) != 2
    next_values[:-1][inside] = values[1:][inside]
    expected = np.zeros((T, B))
    for b in range(B):
        running = 0.0
        for i in reversed(range(T)):
            delta = t.reward[i, b] + 0.9 * t.discount[i, b] * next_values[i, b] - values[i, b]
            running = delta + (0.0 if t.step_type[i, b] == 2 else 0.9 * 0.8 * running)
            expected[i, b] = running
    np.testing.assert_allclose(
        advantages_of(t, values, next_values, 0.9, 0.8), expected, rtol=1e-4, atol=1e-5
    )


def test_ppo_clips_the_ratio():
    config = PPOConfig(hidden=(8,), epochs=1, minibatches=1, clip=0.2)
    agent, t = ppo(GRID, ACTIONS, config), trajectory()
    state = agent.init(jax.random.key(0))
    _, apply = policy_and_value(GRID, 3, default_torso(GRID, (8,)))
    logits, values = apply(state.params, t.observation)
    log_p = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(t.action)[..., None], -1)[
        ..., 0
    ]
    old = log_p + np.random.default_rng(1).normal(size=(T, B)).astype(np.float32) * 0.3
    _, next_values = apply(state.params, t.next_observation)
    advantages = np.asarray(advantages_of(t, values, next_values, config.gamma, config.lambda_))
    normal = (advantages - advantages.mean()) / advantages.std()
    ratio = np.exp(log_p - old)
    expected = -np.minimum(ratio * normal, np.clip(ratio, 0.8, 1.2) * normal).mean()
    given = t._replace(extras=PPOExtras(jnp.asarray(old), values))
    _, metrics, _ = agent.update(state, jax.random.key(1), given, jnp.ones(B))
    np.testing.assert_allclose(metrics["policy_loss"], expected, rtol=1e-3)
    np.testing.assert_allclose(metrics["clip_fraction"], (np.abs(ratio - 1) > 0.2).mean(), rtol=1e-6)


def test_ppo_does_not_blow_small_advantages_up():
    """Below the floor the surrogate is in proportion to the advantages; above it only their order counts."""
    agent = ppo(
        GRID, ACTIONS, PPOConfig(hidden=(8,), epochs=1, minibatches=1, lambda_=0.0, advantage_floor=0.1)
    )
    state, update = agent.init(jax.random.key(0)), jax.jit(agent.update)
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))  # Every value is 0.
    reward = np.random.default_rng(2).normal(size=(T, B)).astype(np.float32)
    extras = PPOExtras(jnp.full((T, B), -1.3), jnp.zeros((T, B)))

    def surrogate(scale):
        t = trajectory()._replace(reward=jnp.asarray(scale * reward), extras=extras)
        return float(update(state, jax.random.key(1), t, jnp.ones(B))[1]["policy_loss"])

    assert surrogate(0.002) == pytest.approx(2 * surrogate(0.001), rel=1e-3)
    assert surrogate(2.0) == pytest.approx(surrogate(1.0), rel=1e-3)
    assert surrogate(1.0) == pytest.approx(surrogate(0.001) * 100 / reward.std(), rel=1e-3)


def test_ppo_refuses_minibatches_that_do_not_divide():
    agent = ppo(GRID, ACTIONS, PPOConfig(hidden=(8,), minibatches=4))
    t = trajectory()._replace(extras=PPOExtras(jnp.zeros((T, B)), jnp.zeros((T, B))))
    with pytest.raises(ValueError, match="14 rows"):
        agent.update(agent.init(jax.random.key(0)), jax.random.key(1), t, jnp.ones(B))


def test_paper_settings():
    config = A2CConfig.paper()
    assert (config.learning_rate, config.hidden, config.eps) == (1e-4, (128, 128, 128), 1e-6)


VIEW = {
    "direction": specs.BoundedArray((), np.int32, 0, 3),
    "symbols": specs.BoundedArray((7, 7, 3), np.uint8, 0, 255),
}


def views(rng):
    return {
        "direction": jnp.asarray(rng.integers(0, 4, (T, B)), jnp.int32),
        "symbols": jnp.asarray(rng.integers(0, 3, (T, B, 7, 7, 3)), jnp.uint8),
    }


@pytest.mark.parametrize("name", ["a2c", "impala", "ppo"])
def test_dictionaries_and_what_ends_an_episode(name):
    """What a step led to counts where it was truncated and not where it was terminated."""
    config = ALGORITHMS[name].config(
        hidden=(16,), **({"minibatches": 1, "epochs": 1} if name == "ppo" else {})
    )
    agent = ALGORITHMS[name].constructor(VIEW, ACTIONS, config)
    state, rng = jax.jit(agent.init)(jax.random.key(0)), np.random.default_rng(0)
    shown = views(rng)
    step = dm_env.TimeStep(trajectory().step_type, jnp.zeros((T, B)), jnp.ones((T, B)), shown)
    act = jax.vmap(jax.vmap(lambda s: agent.act(state.params, (), jax.random.key(1), s, "explore")))
    action, extras, _ = jax.jit(act)(step)
    t = trajectory()._replace(observation=shown, action=action, extras=extras, next_observation=views(rng))
    update = jax.jit(agent.update)
    new, metrics, priorities = update(state, jax.random.key(2), t, jnp.ones(B))
    assert priorities.shape == (B,) and all(np.isfinite(x) for x in metrics.values())
    for path, leaf in jax.tree_util.tree_leaves_with_path(new.params):
        assert not np.array_equal(leaf, _at(state.params, path)), path

    def value_loss(row, stream):
        symbols = t.next_observation["symbols"].at[row, stream].set(9)
        changed = t._replace(next_observation={**t.next_observation, "symbols": symbols})
        return update(state, jax.random.key(2), changed, jnp.ones(B))[1]["value_loss"]

    assert abs(float(value_loss(2, 0) - metrics["value_loss"])) > 1e-6  # truncated
    assert float(value_loss(5, 0)) == pytest.approx(float(metrics["value_loss"]), rel=1e-6)  # terminated


def _at(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree
