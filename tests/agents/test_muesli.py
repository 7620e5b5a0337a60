import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.agents import ALGORITHMS, EXPLORE, CompiledConfig, MuesliConfig, Trajectory, muesli, train
from limbeck.agents._muesli_model import muesli_model, scalar_pair, unroll_model
from limbeck.agents._muesli_targets import alive, retrace_returns, shifted
from limbeck.agents.cmpo import cmpo_exact, cmpo_sampled, kl_from, no_moment, update_moment
from limbeck.agents.muesli import MuesliExtras
from limbeck.envs import LAST, make, restart


SPEC = specs.BoundedArray((1,), np.int32, 0, 4)
ACTIONS = specs.DiscreteArray(3)
T, B, A = 7, 2, 3


def trajectory(seed=0):
    """[7, 2] with a truncation and a termination in each stream."""
    rng = np.random.default_rng(seed)
    kind, discount = np.ones((T, B), np.int32), np.ones((T, B), np.float32)
    kind[2, 0] = kind[4, 1] = kind[5, 0] = kind[1, 1] = LAST
    discount[5, 0] = discount[1, 1] = 0
    return Trajectory(
        jnp.asarray(rng.integers(0, 5, (T, B, 1)), jnp.int32),
        jnp.asarray(rng.integers(0, A, (T, B)), jnp.int32),
        jnp.asarray(rng.normal(size=(T, B)), jnp.float32), jnp.asarray(discount), jnp.asarray(kind),
        jnp.asarray(rng.integers(0, 5, (T, B, 1)), jnp.int32),
        MuesliExtras(jnp.asarray(np.log(rng.uniform(0.2, 0.9, (T, B))), jnp.float32), ()),
    )  # fmt: skip


def test_cmpo_by_hand():
    # Prior 1/2, 1/4, 1/4; advantages 3 (clipped to 1), 0 and -1/2.
    target = cmpo_exact(jnp.log(jnp.asarray([0.5, 0.25, 0.25])), jnp.asarray([3.0, 0.0, -0.5]), 1.0)
    weights = [0.5 * math.e, 0.25, 0.25 * math.exp(-0.5)]
    expected = np.array(weights) / sum(weights)
    np.testing.assert_allclose(target.weight, expected, rtol=1e-6)
    np.testing.assert_allclose(target.log_prob, np.log(expected), rtol=1e-5)
    assert target.action.tolist() == [0, 1, 2]
    # KL to the uniform policy: log 3 less the entropy.
    np.testing.assert_allclose(
        kl_from(target, jnp.zeros(3)), math.log(3) + (expected * np.log(expected)).sum(), rtol=1e-5
    )


def test_sampled_weights_by_hand():
    prior = jnp.log(jnp.asarray([0.5, 0.25, 0.25]))
    target = cmpo_sampled(prior, jnp.asarray([0, 2, 0]), jnp.asarray([0.5, -2.0, 0.5]), 1.0)
    x, y = math.exp(0.5), math.exp(-1)
    normaliser = np.array([(1 + y + x) / 3, (1 + 2 * x) / 3, (1 + x + y) / 3])  # each without its own
    np.testing.assert_allclose(target.weight, np.array([x, y, x]) / normaliser / 3, rtol=1e-6)
    np.testing.assert_allclose(
        target.log_prob, np.log(np.array([0.5 * x, 0.25 * y, 0.5 * x]) / normaliser), rtol=1e-5
    )


@pytest.mark.parametrize("clip", [0.3, 1.0, 2.0])
def test_total_variation_is_at_most_tanh_of_half_the_clip(clip):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 4)) * rng.uniform(0, 5, (3000, 1))
    advantages = rng.normal(size=(3000, 4)) * 10.0 ** rng.uniform(-2, 3, (3000, 1))
    target = cmpo_exact(jnp.asarray(logits), jnp.asarray(advantages), clip)
    prior = np.asarray(jax.nn.softmax(logits))
    distance = 0.5 * np.abs(np.asarray(target.weight) - prior).sum(-1)
    assert distance.max() <= math.tanh(clip / 2) + 1e-6
    # It is reached where everything good had the probability 1 / (1 + e^c).
    good = 1 / (1 + math.exp(clip))
    worst = cmpo_exact(jnp.log(jnp.asarray([good, 1 - good])), jnp.asarray([9.0, -9.0]), clip)
    assert float(worst.weight[0]) - good == pytest.approx(math.tanh(clip / 2), rel=1e-5)


def test_sampled_regulariser_and_its_gradient_agree_with_the_exact_one():
    rng = np.random.default_rng(1)
    prior, logits = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    advantages = jnp.asarray([2.0, 0.5, -0.7, -3.0])
    exact, gradient = jax.value_and_grad(lambda x: kl_from(cmpo_exact(prior, advantages, 1.0), x))(logits)
    drawn = jax.random.categorical(jax.random.key(0), prior, shape=(40, 20_000))

    def sampled(x):
        targets = cmpo_sampled(jnp.broadcast_to(prior, (40, 4)), drawn, advantages[drawn], 1.0)
        return jnp.mean(kl_from(targets, jnp.broadcast_to(x, (40, 4))))

    estimate, estimated = jax.value_and_grad(sampled)(logits)
    np.testing.assert_allclose(estimate, exact, atol=4e-3)
    np.testing.assert_allclose(estimated, gradient, atol=4e-3)


def test_second_moment_by_hand():
    moment = update_moment(no_moment(), jnp.asarray([3.0, -1.0]), 0.99)
    assert float(moment.value) == pytest.approx(5.0, rel=1e-4)  # one update: no bias left
    moment = update_moment(moment, jnp.asarray([[1.0]]), 0.99)
    # (0.99 * 0.01 * 5 + 0.01 * 1) / (1 - 0.99^2)
    assert float(moment.value) == pytest.approx((0.99 * 0.05 + 0.01) / (1 - 0.9801), rel=1e-4)


def test_retrace_against_a_loop():
    t, rng = trajectory(), np.random.default_rng(2)
    q, expected, ahead = rng.normal(size=(3, T, B)).astype(np.float32)
    trace = rng.uniform(0, 1, (T, B)).astype(np.float32)
    wanted = np.zeros((T, B))
    for b in range(B):
        for i in reversed(range(T)):
            if i == T - 1 or t.step_type[i, b] == LAST:
                value = ahead[i, b]
            else:
                value = expected[i + 1, b] + trace[i + 1, b] * (wanted[i + 1, b] - q[i + 1, b])
            wanted[i, b] = t.reward[i, b] + 0.9 * t.discount[i, b] * value
    np.testing.assert_allclose(retrace_returns(t, q, expected, ahead, trace, 0.9), wanted, rtol=1e-4)


def test_rows_ahead():
    kind = jnp.asarray([1, 1, 2, 1, 1])[:, None]
    mask = alive(kind, 3)[..., 0]
    assert mask.astype(int).tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert shifted(jnp.arange(4), 3).tolist() == [[0, 1, 2, 3], [1, 2, 3, 3], [2, 3, 3, 3]]


def test_the_model_unrolled_is_the_model_step_by_step():
    model = muesli_model(A, (8,), 6, 11)
    features = jax.random.normal(jax.random.key(1), (T, B, 4))
    params = model.init(jax.random.key(0), features[0, 0])
    params = jax.tree.map(lambda x: x + 0.3, params)  # the heads begin at zero
    actions = jax.random.randint(jax.random.key(2), (3, T, B), 0, A)
    together = unroll_model(model, params, model.start(params, features), actions)
    for t, b in ((0, 0), (4, 1)):
        state = model.start(params, features[t, b])
        for k in range(3):
            state, said = model.advance(params, state, actions[k, t, b])
            jax.tree.map(
                lambda x, y, at=(k, t, b): np.testing.assert_allclose(x[at], y, rtol=1e-4, atol=1e-6),
                together, said,
            )  # fmt: skip


def test_numbers_survive_their_two_hot_form():
    pair = scalar_pair(30.0, 61)
    numbers = jnp.asarray([[-40.0, -1.0, 0.0, 0.3, 1.0, 700.0]])
    np.testing.assert_allclose(jnp.sum(pair.apply(numbers), -1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(pair.apply_inv(pair.apply(numbers)), numbers, rtol=1e-3, atol=1e-4)


SMALL = MuesliConfig(
    hidden=(6,), head=(6,), model=5, bins=9, max_transformed=4.0, model_steps=2, gamma=0.9, lambda_=0.8,
    moment_decay=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def small():
    """(a first state, the compiled update) of an agent with all actions."""
    agent = muesli(SPEC, ACTIONS, SMALL)
    return jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)


def scattered(state):
    """Parameters far from their start, the target network's apart from the others: heads begin at zero."""

    def scatter(tree, key):
        leaves, shape = jax.tree.flatten(tree)
        keys = jax.random.split(key, len(leaves))
        return shape.unflatten([x + 0.7 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])

    return state._replace(
        params=scatter(state.params, jax.random.key(8)), target=scatter(state.target, jax.random.key(9))
    )


def by_hand(config, state, t, weights):
    """Every loss of one update by loops over rows, and the priorities, with all actions."""
    model = muesli_model(A, config.head, config.model, config.bins)
    pair = scalar_pair(config.max_transformed, config.bins)
    apply = jax.jit(lambda f, p, x: getattr(model, f)(p, *x), static_argnums=0)
    two_hot = jax.jit(lambda x: pair.apply(x[None])[0])
    number = jax.jit(lambda x: pair.apply_inv(jax.nn.softmax(x[None]))[0])
    log_softmax_of = jax.jit(jax.nn.log_softmax)

    def scalar(logits):
        return float(number(logits))

    def features(params, observation):
        (torso,) = params.representation.values()
        return np.maximum(np.asarray(torso["w"])[int(observation[0])] + np.asarray(torso["b"]), 0)

    def log_softmax(x):
        return np.asarray(log_softmax_of(x), np.float64)

    old, new = state.target, state.params
    names = ("value", "ahead", "q", "prior", "mean_q", "trace")
    est = {name: np.zeros((T, B, A) if name in ("q", "prior") else (T, B)) for name in names}
    for i in range(T):
        for b in range(B):
            seen = features(old, t.observation[i, b])
            logits, value = apply("root", old.network, (seen,))
            est["prior"][i, b], est["value"][i, b] = log_softmax(logits), scalar(value)
            _, value = apply("root", old.network, (features(old, t.next_observation[i, b]),))
            est["ahead"][i, b] = scalar(value)
            start = apply("start", old.network, (seen,))
            for a in range(A):
                _, said = apply("advance", old.network, (start, jnp.int32(a)))
                est["q"][i, b, a] = scalar(said.reward) + config.gamma * scalar(said.value)
            est["mean_q"][i, b] = np.exp(est["prior"][i, b]) @ est["q"][i, b]
            mu = np.exp(t.extras.log_prob[i, b])
            est["trace"][i, b] = config.lambda_ * min(1, np.exp(est["prior"][i, b, t.action[i, b]]) / mu)
    action = np.asarray(t.action)
    q_taken = np.take_along_axis(est["q"], action[..., None], -1)[..., 0]
    returns, target_value, next_value = np.zeros((T, B)), np.zeros((T, B)), np.zeros((T, B))
    for b in range(B):
        for i in reversed(range(T)):
            end = i == T - 1 or t.step_type[i, b] == LAST
            next_value[i, b] = t.discount[i, b] * (est["ahead"][i, b] if end else target_value[i + 1, b])
            returns[i, b] = t.reward[i, b] + config.gamma * next_value[i, b]
            target_value[i, b] = est["mean_q"][i, b] + est["trace"][i, b] * (returns[i, b] - q_taken[i, b])
    advantage = returns - est["value"]
    scale = np.sqrt((advantage**2).mean())  # the first update, without bias
    clipped = np.clip((est["q"] - est["value"][..., None]) / scale, -config.clip, config.clip)
    cmpo = np.exp(est["prior"] + clipped)
    cmpo /= cmpo.sum(-1, keepdims=True)

    def cross_entropy(logits, wanted):
        return -float(np.asarray(two_hot(jnp.float32(wanted))) @ log_softmax(logits))

    sums = {name: [] for name in ("policy_loss", "cmpo_kl", "model_policy_kl", "reward_loss", "value_loss")}
    for b in range(B):
        for i in range(T):
            w = weights[b]
            seen = features(new, t.observation[i, b])
            logits, value = apply("root", new.network, (seen,))
            log_pi = log_softmax(logits)
            chosen = log_pi[action[i, b]]
            ratio = min(1, np.exp(chosen - float(t.extras.log_prob[i, b])))
            sums["policy_loss"].append(-w * ratio * chosen * advantage[i, b] / scale)
            sums["cmpo_kl"].append(w * (cmpo[i, b] * (np.log(cmpo[i, b]) - log_pi)).sum())
            sums["value_loss"].append(w * cross_entropy(value, target_value[i, b]))
            model_state, j = apply("start", new.network, (seen,)), i
            for _ in range(config.model_steps):
                model_state, said = apply("advance", new.network, (model_state, t.action[j, b]))
                sums["reward_loss"].append(w * cross_entropy(said.reward, t.reward[j, b]))
                sums["value_loss"].append(w * cross_entropy(said.value, next_value[j, b]))
                if j == T - 1 or t.step_type[j, b] == LAST:
                    break
                j += 1
                there = log_softmax(said.policy)
                sums["model_policy_kl"].append(w * (cmpo[j, b] * (np.log(cmpo[j, b]) - there)).sum())
    losses = {name: np.mean(x) for name, x in sums.items()}
    losses["loss"] = (
        losses["policy_loss"] + losses["cmpo_kl"] + losses["model_policy_kl"] + losses["reward_loss"]
        + 0.25 * losses["value_loss"]
    )  # fmt: skip
    return losses, np.abs(advantage).mean(0), scale


def test_update_against_loops(small):
    (state, update), t = small, trajectory()
    state = scattered(state)
    weights = np.array([0.5, 1.5])
    losses, priorities, scale = by_hand(SMALL, state, t, weights)
    new, metrics, given = update(state, jax.random.key(0), t, jnp.asarray(weights, jnp.float32))
    for name, value in losses.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-3, err_msg=name)
    np.testing.assert_allclose(given, priorities, rtol=1e-3)
    np.testing.assert_allclose(metrics["advantage_scale"], scale, rtol=1e-3)
    # The target network moves a tenth of the way.
    at = [np.asarray(jax.tree.leaves(x)[1]) for x in (state.target, new.params, new.target)]
    np.testing.assert_allclose(at[2], 0.9 * at[0] + 0.1 * at[1], rtol=1e-5)


def test_an_untrained_network_has_no_preferences(small):
    """Else noise, divided by its own scale, would move the policy before the first reward was seen."""
    state, update = small
    t = trajectory()._replace(reward=jnp.zeros((T, B)))
    _, metrics, priorities = update(state, jax.random.key(0), t, jnp.ones(B))
    np.testing.assert_allclose(priorities, 0)
    assert float(metrics["policy_loss"]) == 0 and float(metrics["cmpo_kl"]) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(metrics["entropy"], math.log(A), rtol=1e-6)


def test_many_samples_agree_with_all_actions(small):
    """With as many samples the sampled estimates come near the exact ones; nothing else differs."""
    (state, update), t, weights = small, trajectory(), jnp.ones(B)
    state = scattered(state)
    sampled = muesli(SPEC, ACTIONS, dataclasses.replace(SMALL, samples=4000))
    _, one, _ = update(state, jax.random.key(1), t, weights)
    _, other, _ = jax.jit(sampled.update)(state, jax.random.key(1), t, weights)
    for name in ("policy_loss", "cmpo_kl", "model_policy_kl", "value_loss", "advantage_scale"):
        np.testing.assert_allclose(one[name], other[name], rtol=0.05, atol=5e-3, err_msg=name)


def test_acts_and_learns_with_a_core_at_a_falling_rate():
    agent = muesli(SPEC, ACTIONS, dataclasses.replace(SMALL, core=4, decay_updates=2))
    state, memory = scattered(jax.jit(agent.init)(jax.random.key(0))), agent.initial_memory()
    shown = restart(jnp.asarray([2], jnp.int32))
    action, extras, after = agent.act(state.params, memory, jax.random.key(1), shown, EXPLORE)
    assert bool(extras.inputs.first) and int(after.action) == int(action)
    assert 0 < float(jnp.exp(extras.log_prob)) < 1
    row = Trajectory(
        shown.observation, action, jnp.float32(1), jnp.float32(1), jnp.int32(1), shown.observation, extras
    )
    rows = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, 1, *jnp.shape(x))), row)
    rows = rows._replace(memory=jax.tree.map(lambda x: x[None], memory))
    update, moved = jax.jit(agent.update), []
    for _ in range(3):
        before = state.params.representation["core"]
        state, metrics, _ = update(state, jax.random.key(2), rows, jnp.ones(1))
        assert all(np.isfinite(x) for x in metrics.values())
        change = jax.tree.map(
            lambda x, y: jnp.max(jnp.abs(x - y)), before, state.params.representation["core"]
        )
        moved.append(float(max(jax.tree.leaves(change))))
    # The rate falls to nothing over two updates, and the third does not move.
    assert moved[0] > moved[1] > 0 and moved[2] == 0


def test_learns_a_dark_room():
    environment = make("dark_room", size=5, max_steps=8)
    config = MuesliConfig(hidden=(32,), head=(32,), model=16, model_steps=2, learning_rate=3e-3, gamma=0.9)
    agent = muesli(environment.observation_spec(), environment.action_spec(), config)
    history = train(
        agent, environment, jnp.asarray([2 * 5 + 3]), jax.random.split(jax.random.key(0), 1),
        CompiledConfig(num_episodes=120, streams=8, unroll=8),
    )  # fmt: skip
    returns = np.asarray(history.reward)[0].reshape(8, 120, 8).sum(-1).mean(0)
    assert returns[:5].mean() < 3 and returns[-20:].mean() > 6.5  # 8 is the optimum


@pytest.mark.parametrize(
    "setting, message",
    [
        (dict(clip=0.0), "positive"),
        (dict(samples=-1), "at least 0"),
        (dict(lambda_=2.0), r"\[0, 1\]"),
        (dict(target_rate=0.0), r"\(0, 1\]"),
        (dict(moment_decay=1.0), r"\[0, 1\)"),
        (dict(model_steps=0), "at least 1"),
        (dict(bins=1), "at least 2"),
        (dict(decay_updates=0), "None"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ValueError, match=message):
        MuesliConfig(**setting)


def test_registry():
    assert ALGORITHMS["muesli"].replay.kind == "uniform"
