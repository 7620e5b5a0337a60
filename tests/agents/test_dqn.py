import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.agents import (
    ALGORITHMS,
    EVALUATE,
    EXPLORE,
    CompiledConfig,
    DQNConfig,
    Trajectory,
    dqn,
    make_torso,
    train,
)
from limbeck.agents._exploration import epsilon_greedy
from limbeck.agents._value_based import ValueMemory, n_step_returns, priorities_of
from limbeck.agents.q_networks import q_head
from limbeck.envs import LAST, MID, make, restart


GRID = specs.BoundedArray((2,), np.int32, [0, 1], [3, 3], "xy")
ACTIONS = specs.DiscreteArray(3)
T, B = 7, 2


def trajectory(seed=0):
    """[7, 2] with a truncation and a termination in each stream, the last row of stream 1 a truncation."""
    rng = np.random.default_rng(seed)
    kind, discount = np.ones((T, B), np.int32), np.ones((T, B), np.float32)
    kind[2, 0], kind[4, 1], kind[5, 0], kind[1, 1], kind[6, 1] = 2, 2, 2, 2, 2
    discount[5, 0] = discount[1, 1] = 0

    def draw():
        return jnp.asarray(np.stack([rng.integers(0, 4, (T, B)), rng.integers(1, 4, (T, B))], -1), jnp.int32)

    return Trajectory(
        draw(), jnp.asarray(rng.integers(0, 3, (T, B)), jnp.int32),
        jnp.asarray(rng.normal(size=(T, B)), jnp.float32), jnp.asarray(discount), jnp.asarray(kind), draw(),
        (), ValueMemory((), jnp.full((B,), 0.5)),
    )  # fmt: skip


def returns_by_hand(t, next_values, gamma, n):
    out = np.zeros((T, B))
    for b in range(B):
        for i in range(T):
            total, factor = 0.0, 1.0
            for j in range(i, min(i + n, T)):
                total += factor * float(t.reward[j, b])
                factor *= gamma * float(t.discount[j, b])
                if t.step_type[j, b] == LAST:
                    break
            out[i, b] = total + factor * next_values[j, b]
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_returns_bootstrap_through_truncation_and_never_cross_an_end(n):
    t, values = trajectory(), np.random.default_rng(1).normal(size=(T, B)).astype(np.float32)
    np.testing.assert_allclose(
        n_step_returns(t, jnp.asarray(values), 0.9, n), returns_by_hand(t, values, 0.9, n), atol=1e-5
    )


def test_returns_by_hand_numbers():
    # Rewards 1, 2, 4 with gamma 1/2; the second row truncates at a state worth 8.
    column = lambda *x: jnp.asarray(x, jnp.float32)[:, None]  # noqa: E731
    t = Trajectory((), None, column(1, 2, 4), column(1, 1, 1), jnp.asarray([[MID], [LAST], [MID]]), ())
    next_values = column(10, 8, 6)
    assert n_step_returns(t, next_values, 0.5, 1)[:, 0].tolist() == [6, 6, 7]
    assert n_step_returns(t, next_values, 0.5, 2)[:, 0].tolist() == [4, 6, 7]
    over = t._replace(discount=column(1, 0, 1))
    assert n_step_returns(over, next_values, 0.5, 2)[:, 0].tolist() == [2, 2, 7]


def test_duelling_subtracts_the_mean_advantage():
    head = hk.without_apply_rng(hk.transform(q_head(3, (), True)))
    params = head.init(jax.random.key(0), jnp.zeros(2))
    params["value/~/linear_0"] = {"w": jnp.asarray([[1.0], [0.0]]), "b": jnp.asarray([5.0])}
    params["advantage/~/linear_0"] = {
        "w": jnp.asarray([[0.0, 0.0, 0.0], [1.0, 2.0, 6.0]]),
        "b": jnp.zeros(3),
    }
    # value 5 + 2, advantages 1, 2, 6 less their mean 3.
    np.testing.assert_allclose(head.apply(params, jnp.asarray([2.0, 1.0])), [5.0, 6.0, 10.0])


def table_agent(**settings):
    """An agent whose values are a table: a linear layer without hidden ones over one-hot states."""
    config = DQNConfig(duelling=False, head=(), n_step=1, gamma=0.5, huber_delta=None, **settings)
    spec = specs.BoundedArray((1,), np.int32, 0, 2)
    agent = dqn(spec, specs.DiscreteArray(2), config, make_torso("mlp", spec, hidden=()))
    state = agent.init(jax.random.key(0))

    def table(values):
        (name,) = state.params.head
        return {name: {"w": jnp.asarray(values, jnp.float32), "b": jnp.zeros(2)}}

    return agent, state, table


@pytest.mark.parametrize("double, target", [(True, 1 + 0.5 * 3), (False, 1 + 0.5 * 7)])
def test_double_and_single_targets(double, target):
    agent, state, table = table_agent(double=double)
    # In state 1 the online network prefers action 1, which the target network gives 3; the target
    # network prefers action 0, to which it gives 7.
    params = state.params._replace(head=table([[0.25, 0], [1, 2], [0, 0]]))
    state = state._replace(params=params, target=(params.representation, table([[0, 0], [7, 3], [0, 0]])))
    row = Trajectory(
        jnp.asarray([[[0]]]), jnp.asarray([[0]]), jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.asarray([[MID]]),
        jnp.asarray([[[1]]]), (), ValueMemory((), jnp.zeros(1)),
    )  # fmt: skip
    _, metrics, priorities = agent.update(state, jax.random.key(0), row, jnp.ones(1))
    np.testing.assert_allclose(priorities, [target - 0.25], rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 0.5 * (target - 0.25) ** 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["return_mean"], target, rtol=1e-6)


def test_update_against_numpy():
    config = DQNConfig(hidden=(8,), head=(8,), gamma=0.9, n_step=3, huber_delta=0.5, priority_max=0.7)
    agent, t = dqn(GRID, ACTIONS, config), trajectory()
    state, other = agent.init(jax.random.key(0)), agent.init(jax.random.key(1))
    state = state._replace(target=(other.params.representation, other.params.head))

    def values(params, observations):
        """What `act` prefers cannot be read off, so the network is rebuilt from its parts."""
        one_hot = np.concatenate([np.eye(4)[observations[..., 0]], np.eye(3)[observations[..., 1] - 1]], -1)
        representation, head = jax.tree.map(np.asarray, (params[0], params[1]))
        (torso,) = representation.values()
        x = np.maximum(one_hot @ torso["w"] + torso["b"], 0)

        def mlp(name):
            first, second = head[f"{name}/~/linear_0"], head[f"{name}/~/linear_1"]
            return np.maximum(x @ first["w"] + first["b"], 0) @ second["w"] + second["b"]

        advantage = mlp("advantage")
        return mlp("value") + advantage - advantage.mean(-1, keepdims=True)

    def pick(v, a):
        return np.take_along_axis(v, np.asarray(a)[..., None], -1)[..., 0]

    online = (state.params.representation, state.params.head)
    chosen = values(online, np.asarray(t.next_observation)).argmax(-1)
    bootstrap = pick(values(state.target, np.asarray(t.next_observation)), chosen)
    error = returns_by_hand(t, bootstrap, 0.9, 3) - pick(values(online, np.asarray(t.observation)), t.action)
    size = np.abs(error)
    huber = np.where(size < 0.5, 0.5 * error**2, 0.5 * (size - 0.25))
    weights = np.array([0.5, 2.0])
    update = jax.jit(agent.update)
    _, metrics, priorities = update(state, jax.random.key(2), t, jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(metrics["loss"], (weights * huber).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], size.mean(), rtol=1e-4)
    np.testing.assert_allclose(priorities, 0.7 * size.max(0) + 0.3 * size.mean(0), rtol=1e-4)


def test_priorities():
    errors = jnp.asarray([[1.0, 0.0], [-3.0, 0.5]])
    np.testing.assert_allclose(priorities_of(errors, 0.9), [0.9 * 3 + 0.1 * 2, 0.9 * 0.5 + 0.1 * 0.25])


def test_importance_weights_scale_the_gradient_linearly():
    agent, t = dqn(GRID, ACTIONS, DQNConfig(hidden=(8,), head=(8,))), trajectory()
    state, update = agent.init(jax.random.key(0)), jax.jit(agent.update)

    def first_moment(weights):
        new, _, _ = update(state, jax.random.key(1), t, jnp.asarray(weights, jnp.float32))
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(new.opt_state[1][0].mu)])

    one, two = first_moment([0.1, 0.0]), first_moment([0.0, 0.1])
    np.testing.assert_allclose(first_moment([0.3, 0.0]), 3 * one, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(first_moment([0.2, 0.1]), 2 * one + two, rtol=1e-3, atol=1e-7)
    assert np.abs(one).max() > 1e-5 and np.abs(one - two).max() > 1e-5


def test_target_network_moves_by_period_and_rate():
    t = trajectory()

    def leaf(tree):
        return np.asarray(jax.tree.leaves(tree)[1])

    agent = dqn(GRID, ACTIONS, DQNConfig(hidden=(4,), head=(4,), target_period=2, target_rate=0.25))
    start, update = agent.init(jax.random.key(0)), jax.jit(agent.update)
    one, _, _ = update(start, jax.random.key(1), t, jnp.ones(B))
    np.testing.assert_array_equal(leaf(one.target), leaf(start.target))
    two, _, _ = update(one, jax.random.key(1), t, jnp.ones(B))
    online = (two.params.representation, two.params.head)
    np.testing.assert_allclose(leaf(two.target), 0.75 * leaf(start.target) + 0.25 * leaf(online), rtol=1e-5)
    assert int(two.updates) == 2


def test_epsilon_is_annealed_in_the_parameters_and_spread_over_streams():
    config = DQNConfig(
        hidden=(4,), head=(4,), epsilon_start=0.8, epsilon_end=0.2, epsilon_updates=2, ladder=7
    )
    agent = dqn(GRID, ACTIONS, config)
    state, update = agent.init(jax.random.key(0)), jax.jit(agent.update)
    seen = []
    for _ in range(4):
        seen.append(float(state.params.epsilon))
        state, _, _ = update(state, jax.random.key(1), trajectory(), jnp.ones(B))
    np.testing.assert_allclose(seen, [0.8, 0.5, 0.2, 0.2], rtol=1e-6)

    shown = restart(jnp.asarray([1, 2], jnp.int32))
    params = state.params._replace(epsilon=jnp.float32(0.5))
    act = jax.vmap(lambda memory, key: agent.act(params, memory, key, shown, EXPLORE))
    count = 4000
    memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), agent.initial_memory())
    _, _, memory = act(memory, jax.random.split(jax.random.key(3), count))
    rank = np.asarray(memory.rank)
    np.testing.assert_allclose(np.quantile(rank, [0, 0.25, 0.5, 1]), [0, 0.25, 0.5, 1], atol=0.03)
    action, _, after = act(memory, jax.random.split(jax.random.key(4), count))
    np.testing.assert_array_equal(after.rank, rank)
    greedy, _, _ = agent.act(params, agent.initial_memory(), jax.random.key(0), shown, EVALUATE)
    # A random action is another than the greedy one in two cases of three.
    other = np.asarray(action) != int(greedy)
    expected = 2 / 3 * 0.5 ** (1 + 7 * rank)
    low = rank < 0.3
    np.testing.assert_allclose(other[low].mean(), expected[low].mean(), atol=0.04)
    np.testing.assert_allclose(other[~low].mean(), expected[~low].mean(), atol=0.02)


def test_epsilon_greedy_frequencies():
    keys = jax.random.split(jax.random.key(0), 6000)
    draw = jax.vmap(functools.partial(epsilon_greedy, values=jnp.asarray([0.0, 2.0, 1.0]), epsilon=0.3))
    np.testing.assert_allclose(np.bincount(draw(keys)) / 6000, [0.1, 0.8, 0.1], atol=0.02)


def test_one_fixed_table_of_transitions_is_learned_from_replay():
    """A chain 0 -> 1 -> 2 -> end that pays 1 at its end; a wrong action ends it. Sampled in random order."""
    agent, state, _ = table_agent(learning_rate=0.05, target_period=5)
    rows = [
        (s, a, float(s == 2 and a), float(a and s < 2), min(s + 1, 2)) for s in range(3) for a in range(2)
    ]
    update, rng = jax.jit(agent.update), np.random.default_rng(0)
    for i in range(300):
        s, a, r, d, s_t = (np.asarray([x]) for x in zip(*(rows[j] for j in rng.integers(0, 6, 8))))
        batch = Trajectory(
            s[..., None].astype(np.int32), a.astype(np.int32), r.astype(np.float32), d.astype(np.float32),
            np.where(d == 0, LAST, MID).astype(np.int32), s_t[..., None].astype(np.int32), (),
            ValueMemory((), np.zeros(8, np.float32)),
        )  # fmt: skip
        state, _, _ = update(state, jax.random.key(i), batch, np.ones(8, np.float32))
    (head,) = state.params.head.values()
    np.testing.assert_allclose(head["w"] + head["b"], [[0, 0.25], [0, 0.5], [0, 1]], atol=0.02)


def test_learns_a_dark_room():
    environment = make("dark_room", size=5, max_steps=8)
    config = DQNConfig(
        hidden=(32,), head=(32,), learning_rate=3e-3, gamma=0.9, epsilon_updates=150, epsilon_end=0.05,
        target_period=20,
    )  # fmt: skip
    agent = dqn(environment.observation_spec(), environment.action_spec(), config)
    goal = 2 * 5 + 3  # one cell to the right of the centre
    history = train(
        agent, environment, jnp.asarray([goal]), jax.random.split(jax.random.key(0), 1),
        CompiledConfig(num_episodes=150, streams=8, unroll=4),
    )  # fmt: skip
    returns = np.asarray(history.reward)[0].reshape(8, 150, 8).sum(-1).mean(0)
    assert returns[:10].mean() < 3 and returns[-20:].mean() > 6.5  # 8 is the optimum


def test_a_dictionary_is_observed_through_a_torso():
    spec = {"symbols": specs.BoundedArray((7, 7, 3), np.uint8, 0, 9), "direction": specs.DiscreteArray(4)}
    agent = dqn(spec, ACTIONS, DQNConfig(hidden=(8,), head=(8,)))
    observation = {"symbols": jnp.ones((7, 7, 3), jnp.uint8), "direction": jnp.int32(2)}
    state, seen = agent.init(jax.random.key(0)), restart(observation)
    action, extras, memory = agent.act(state.params, agent.initial_memory(), jax.random.key(1), seen, EXPLORE)
    assert extras == () and action.dtype == jnp.int32 and 0 <= float(memory.rank) < 1


@pytest.mark.parametrize(
    "setting, message",
    [
        (dict(learning_rate=0), "positive"),
        (dict(gamma=1.5), r"\[0, 1\]"),
        (dict(n_step=0), "at least 1"),
        (dict(target_rate=0), r"\(0, 1\]"),
        (dict(huber_delta=-1.0), "None"),
        (dict(ladder=-1), "at least 0"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ValueError, match=message):
        DQNConfig(**setting)


def test_registry():
    assert ALGORITHMS["dqn"].replay.kind == "prioritised"
