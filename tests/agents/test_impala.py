import dm_env
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.agents import CompiledConfig, IMPALAConfig, Trajectory, impala, make_agent, train
from limbeck.agents.impala import IMPALAExtras, v_trace
from limbeck.envs import DarkRoom


GRID = specs.BoundedArray((2,), np.int32, 0, 3, "xy")
ACTIONS = specs.DiscreteArray(3)
T, B = 9, 3


def trajectory(seed=0):
    """[9, 3] with truncations and terminations in the middle, and one of each on the last row."""
    rng = np.random.default_rng(seed)
    kind, discount = np.ones((T, B), np.int32), np.ones((T, B), np.float32)
    for t, b, terminated in (
        (2, 0, False),
        (6, 0, True),
        (0, 1, True),
        (4, 1, False),
        (8, 1, True),
        (8, 2, False),
    ):
        kind[t, b], discount[t, b] = 2, 0.0 if terminated else 1.0
    first = np.concatenate([[[True, False, True]], kind[:-1] == 2])
    xy = rng.integers(0, 4, (2, T, B, 2)).astype(np.int32)
    # Inside an episode what a step led to is what the next row shows.
    xy[1, :-1][kind[:-1] != 2] = xy[0, 1:][kind[:-1] != 2]
    reward, log_prob = rng.normal(size=(2, T, B)).astype(np.float32)
    return Trajectory(
        xy[0], rng.integers(0, 3, (T, B)).astype(np.int32), reward, discount, kind, xy[1],
        IMPALAExtras(-1.1 + 0.3 * log_prob, first),
    )  # fmt: skip


def values_of(t, seed=1):
    """Values and next values [T, B] that agree inside episodes."""
    values, ahead = np.random.default_rng(seed).normal(size=(2, T, B)).astype(np.float32)
    inside = t.step_type[:-1] != 2
    ahead[:-1][inside] = values[1:][inside]
    return values, ahead


def paper(t, rho, values, ahead, gamma, rho_bar, c_bar=1.0):
    """Equation 1 as it stands: a sum over the rest of each row's own episode."""
    targets, advantages = np.zeros((2, T, B))
    for b in range(B):
        for s in range(T):
            total, factor = float(values[s, b]), 1.0
            for i in range(s, T):
                delta = t.reward[i, b] + gamma * t.discount[i, b] * ahead[i, b] - values[i, b]
                total += factor * min(rho_bar, rho[i, b]) * delta
                factor *= gamma * min(c_bar, rho[i, b])
                if t.step_type[i, b] == 2:
                    break
            targets[s, b] = total
        for s in range(T):
            follows = ahead[s, b] if s == T - 1 or t.step_type[s, b] == 2 else targets[s + 1, b]
            q = t.reward[s, b] + gamma * t.discount[s, b] * follows
            advantages[s, b] = min(1.0, rho[s, b]) * (q - values[s, b])
    return targets, advantages


@pytest.mark.parametrize("rho_bar", [1.0, 2.5])
def test_v_trace_against_the_papers_sum(rho_bar):
    t = trajectory()
    values, ahead = values_of(t)
    rho = np.exp(np.random.default_rng(5).normal(size=(T, B))).astype(np.float32)
    targets, advantages = paper(t, rho, values, ahead, 0.9, rho_bar)
    out = v_trace(t, rho, values, ahead, 0.9, clip_rho=rho_bar)
    np.testing.assert_allclose(out.error + values, targets, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.advantage, advantages, rtol=1e-4, atol=1e-5)


def test_on_policy_targets_are_returns():
    t = trajectory()
    values, ahead = values_of(t)
    expected = np.zeros((T, B))
    for b in range(B):
        running = ahead[-1, b]
        for i in reversed(range(T)):
            running = ahead[i, b] if t.step_type[i, b] == 2 else running
            running = expected[i, b] = t.reward[i, b] + 0.9 * t.discount[i, b] * running
    out = v_trace(t, jnp.ones((T, B)), values, ahead, 0.9)
    np.testing.assert_allclose(out.error + values, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.advantage, expected - values, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def recurrent():
    return impala(GRID, ACTIONS, IMPALAConfig(core="lstm", core_width=8, hidden=(8,), max_gradient_norm=1e9))


def step_by_step(agent, params, t):
    """What `act` does along the stream: log pi(a_t) [T, B] and the memory before every row."""
    memory = jax.tree.map(lambda x: 1.0 + jnp.zeros((B, *x.shape)), agent.initial_memory())
    act = jax.jit(jax.vmap(lambda m, s: agent.act(params, m, jax.random.key(0), s, "evaluate"), (0, 0)))
    firsts, memories = [], [memory]
    for i in range(T):
        shown = np.where(t.extras.first[i], 2, 1).astype(np.int32)  # LAST beside a first observation.
        zeros = jnp.zeros(B)
        _, extras, memory = act(memory, dm_env.TimeStep(jnp.asarray(shown), zeros, zeros, t.observation[i]))
        firsts.append(extras.first)
        memories.append(memory)
    return np.stack(firsts), memories


def test_the_unroll_equals_acting_step_by_step(recurrent):
    """With log mu taken from `act` along the same stream the ratio is 1 everywhere: the states agree."""
    t = trajectory()
    params = recurrent.init(jax.random.key(0)).params
    # Heads that tell states apart.
    params["policy"]["w"] = jax.random.normal(jax.random.key(9), params["policy"]["w"].shape)
    state = recurrent.init(jax.random.key(0))._replace(params=params)
    firsts, memories = step_by_step(recurrent, params, t)
    np.testing.assert_array_equal(firsts, t.extras.first)
    act = jax.vmap(lambda m, o, f, k: recurrent.act(params, m, k, dm_env.TimeStep(f, 0.0, 1.0, o), "explore"))
    actions, log_probs = [], []
    for i in range(T):
        shown = jnp.where(t.extras.first[i], 2, 1)
        action, extras, after = act(
            memories[i], t.observation[i], shown, jax.random.split(jax.random.key(i), B)
        )
        actions.append(action)
        log_probs.append(extras.log_prob)
        np.testing.assert_allclose(after.hidden, memories[i + 1].hidden, rtol=1e-5, atol=1e-6)
    lived = t._replace(
        action=jnp.stack(actions),
        extras=IMPALAExtras(jnp.stack(log_probs), t.extras.first),
        memory=memories[0],
    )
    update = jax.jit(recurrent.update)
    _, metrics, _ = update(state, jax.random.key(0), lived, jnp.ones(B))
    assert abs(float(metrics["kl"])) < 1e-6
    # Without the resets, or from another memory where the stream does not begin afresh, it is not 1.
    never = lived._replace(extras=lived.extras._replace(first=np.zeros((T, B), bool)))
    other = lived._replace(memory=jax.tree.map(jnp.zeros_like, memories[0]))
    for wrong in (never, other):
        assert abs(float(update(state, jax.random.key(0), wrong, jnp.ones(B))[1]["kl"])) > 1e-5


def test_bootstraps_with_the_memory_that_the_rows_left():
    """Without rewards, discounts or ends every on-policy target is what the last step led to is worth."""
    agent = impala(
        GRID,
        ACTIONS,
        IMPALAConfig(core="lstm", core_width=8, hidden=(8,), gamma=1.0, lambda_=1.0, reward_clip=1),
    )
    state, xy = agent.init(jax.random.key(0)), trajectory().observation
    state.params["value"]["b"] += 3.0  # Values that are all positive.

    def act(memory, shown):
        step = dm_env.TimeStep(1, 0.0, 1.0, shown)
        return agent.act(state.params, memory, jax.random.key(0), step, "explore")[2]

    ones, zeros, memory = jnp.ones((T, B)), jnp.zeros((T, B)), jnp.zeros((B, 8))
    rows = dict(action=zeros.astype(int), reward=zeros, step_type=ones.astype(int))
    t = Trajectory(
        xy, discount=ones, next_observation=np.roll(xy, -1, 0), memory=hk.LSTMState(memory, memory + 1), **rows,
        extras=IMPALAExtras(jnp.full((T, B), -50.0), zeros.astype(bool)),
    )  # fmt: skip
    update = jax.jit(agent.update)
    target = update(state, jax.random.key(0), t, jnp.ones(B))[1]["target_mean"]
    after = t.memory
    for i in range(T):
        after = jax.vmap(act)(after, xy[i])
    # One row that terminates without a reward has the target 0: its error is minus its value.
    end = jax.tree.map(lambda x: x[:1], t._replace(memory=()))._replace(
        observation=t.next_observation[-1:],
        discount=zeros[:1],
        step_type=2 * ones[:1].astype(int),
        memory=after,
    )
    values = update(state, jax.random.key(0), end, jnp.ones(B))[2]
    np.testing.assert_allclose(target, values.mean(), rtol=1e-4)


def test_first_and_last_reset_the_memory_and_mid_does_not(recurrent):
    params = recurrent.init(jax.random.key(0)).params
    full = jax.tree.map(jnp.ones_like, recurrent.initial_memory())

    def after(memory, step_type):
        step = dm_env.TimeStep(jnp.int32(step_type), 0.0, 1.0, jnp.array([1, 2]))
        return recurrent.act(params, memory, jax.random.key(0), step, "evaluate")[2].hidden

    fresh = after(recurrent.initial_memory(), 1)
    for step_type in (0, 2):
        np.testing.assert_array_equal(after(full, step_type), fresh)
    assert not np.allclose(after(full, 1), fresh)


def test_losses_and_clipped_rewards_against_numpy():
    t = trajectory()
    config = IMPALAConfig(
        hidden=(8,), gamma=0.9, lambda_=1.0, reward_clip=0.5, entropy_cost=0.05, value_cost=0.3
    )
    agent = impala(GRID, ACTIONS, config)
    state = agent.init(jax.random.key(0))
    state.params["policy"]["w"] = jax.random.normal(jax.random.key(9), (8, 3))

    def outputs(observation):
        bits = np.concatenate([np.eye(4)[observation[..., i]] for i in range(2)], -1)
        p = jax.tree.map(np.asarray, state.params)
        features = np.maximum(bits @ p["mlp/~/linear_0"]["w"] + p["mlp/~/linear_0"]["b"], 0)
        logits = features @ p["policy"]["w"] + p["policy"]["b"]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return log_p, (features @ p["value"]["w"] + p["value"]["b"])[..., 0]

    log_p, values = outputs(t.observation)
    _, ahead = outputs(t.next_observation)
    chosen = np.take_along_axis(log_p, t.action[..., None], -1)[..., 0]
    rho = np.exp(chosen - t.extras.log_prob)
    clipped = t._replace(reward=np.clip(t.reward, -0.5, 0.5))
    targets, advantages = paper(clipped, rho, values, ahead, 0.9, 1.0)
    entropy = -(np.exp(log_p) * log_p).sum(-1)
    weights = np.array([1.0, 0.5, 2.0])
    policy, value = -(weights * chosen * advantages).mean(), 0.5 * (weights * (targets - values) ** 2).mean()
    _, metrics, priorities = agent.update(state, jax.random.key(1), t, jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(metrics["policy_loss"], policy, rtol=1e-4)
    np.testing.assert_allclose(metrics["value_loss"], value, rtol=1e-4)
    loss = policy - 0.05 * (weights * entropy).mean() + 0.3 * value
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["rho_clipped"], (rho > 1).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["target_mean"], targets.mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(priorities, np.abs(targets - values).mean(0), rtol=1e-4)


@pytest.mark.parametrize("core, optimiser", [("none", "rmsprop"), ("lstm", "adam")])
def test_learns_a_small_room(core, optimiser):
    room = DarkRoom(size=5, max_steps=20)
    agent = make_agent(
        "impala", room, hidden=(32,), core=core, core_width=32, optimiser=optimiser, learning_rate=5e-3
    )
    keys = jax.random.split(jax.random.key(0), 2)
    history = train(agent, room, jnp.array([0, 22]), keys, CompiledConfig(60, streams=16, unroll=10))
    returns = np.asarray(history.reward).reshape(2, 16, 60, 20).sum(-1).mean(1)
    # Optimal: 20 - d + 1 with the goal at distance d = 4 and 2.
    assert (returns[:, -5:].mean(1) / np.array([17, 19]) > 0.85).all(), returns[:, -5:].mean(1)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"core": "gru"}, "core must be one of none, lstm"),
        ({"optimiser": "sgd"}, "optimiser must be one of"),
        ({"reward_clip": -1.0}, "reward_clip"),
        ({"clip_rho": 0.0}, "clip_rho must be positive"),
        ({"gamma": 1.5}, "gamma must lie in"),
        ({"core_width": 0}, "core_width"),
    ],
)
def test_settings_are_checked(changes, match):
    with pytest.raises(ValueError, match=match):
        IMPALAConfig(**changes)
