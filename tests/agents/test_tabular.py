import itertools

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_env import specs
from limbeck.agents import (
    EVALUATE,
    EXPLORE,
    QLearningConfig,
    RMaxConfig,
    Trajectory,
    UCB1Config,
    q_learning,
    rmax,
    ucb1,
)  # fmt: skip
from limbeck.agents._tabular import choose, greedy, state_index, uniforms, write
from limbeck.agents.rmax import sweep
from limbeck.agents.ucb import UCB1Params, ucb_index


LINE = specs.BoundedArray((1,), np.int32, 0, 2, "cell")
TWO = specs.DiscreteArray(2)


def rows(*steps):
    """A trajectory [T, 1] of (s, a, r, discount, step_type, s')."""
    s, a, r, d, kind, after = (np.array(column)[:, None] for column in zip(*steps, strict=True))
    return Trajectory(
        jnp.asarray(s[..., None], jnp.int32), jnp.asarray(a, jnp.int32), jnp.asarray(r, jnp.float32),
        jnp.asarray(d, jnp.float32), jnp.asarray(kind, jnp.int32), jnp.asarray(after[..., None], jnp.int32),
    )  # fmt: skip


def act_many(agent, params, observation, mode, count=4000):
    timestep = dm_env.TimeStep(
        jnp.int32(1), jnp.float32(0), jnp.float32(1), jnp.asarray(observation, jnp.int32)
    )
    keys = jax.random.split(jax.random.key(1), count)
    return np.asarray(jax.vmap(lambda k: agent.act(params, (), k, timestep, mode)[0])(keys))


def test_states_are_numbered_like_nested_loops():
    spec = specs.BoundedArray((3,), np.int32, [0, 1, -1], [1, 3, 2])
    total, index = state_index(spec)
    ordered = list(itertools.product((0, 1), (1, 2, 3), (-1, 0, 1, 2)))
    assert total == 24
    assert [int(index(jnp.array(o))) for o in ordered] == list(range(24))


@pytest.mark.parametrize(
    "spec",
    [
        specs.Array((2,), np.float32),
        specs.BoundedArray((2,), np.float32, 0, 1),
        {"image": specs.Array((2,), np.int32)},
    ],
)
def test_untabular_observations_are_refused(spec):
    for algorithm in (q_learning, rmax):
        with pytest.raises(ValueError, match="bounded integer array"):
            algorithm(spec, TWO)
    with pytest.raises(ValueError, match="states, more than 1048576"):
        state_index(specs.BoundedArray((64, 64, 3), np.uint8, 0, 255))


def test_choice_is_uniform_over_the_candidates_only():
    candidates = jnp.array([True, False, True, True, False])
    draws = np.asarray(
        jax.vmap(lambda k: choose(uniforms(k, 1)[0], candidates))(jax.random.split(jax.random.key(0), 6000))
    )
    counts = np.bincount(draws, minlength=5) / 6000
    np.testing.assert_allclose(counts, [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.025)
    assert int(choose(jnp.float32(1 - 2**-24), candidates)) == 3


def test_write_and_greedy():
    np.testing.assert_array_equal(
        write(jnp.zeros((3, 2)), jnp.int32(1), jnp.array([4.0, 5.0])), [[0, 0], [4, 5], [0, 0]]
    )
    np.testing.assert_array_equal(greedy(jnp.array([1.0, 3.0, 3.0])), [False, True, True])


def test_q_update_by_hand():
    agent = q_learning(
        LINE, TWO, QLearningConfig(learning_rate=0.5, gamma=0.8, epsilon_steps=4, initial_value=1.0)
    )
    trajectory = rows(
        (0, 1, 2.0, 1.0, 1, 1),  # target 2 + .8 * 1 = 2.8: q = 1 + .5 * 1.8 = 1.9
        (1, 0, 0.0, 1.0, 2, 0),  # truncated: target .8 * 1.9 = 1.52: q = 1.26
        (2, 0, 3.0, 0.0, 2, 0),  # terminated: target 3: q = 2
    )
    state, metrics, priorities = agent.update(
        agent.init(jax.random.key(0)), jax.random.key(0), trajectory, jnp.ones(1)
    )
    np.testing.assert_allclose(state.params.values, [[1, 1.9], [1.26, 1], [2, 1]], rtol=1e-6)
    np.testing.assert_allclose(state.params.epsilon, 0.25, rtol=1e-6)
    np.testing.assert_allclose(priorities, [(1.8 + 0.52 + 2) / 3], rtol=1e-6)
    np.testing.assert_allclose(metrics["td_error"], (1.8 + 0.52 + 2) / 3, rtol=1e-6)


def test_q_explores_with_epsilon_and_evaluates_greedily():
    agent = q_learning(LINE, TWO, QLearningConfig(epsilon_start=0.4, epsilon_end=0.4))
    params = agent.init(jax.random.key(0)).params
    params = params._replace(values=params.values.at[1, 1].set(1.0))
    assert abs(np.mean(act_many(agent, params, [1], EXPLORE) == 0) - 0.2) < 0.025
    assert np.all(act_many(agent, params, [1], EVALUATE) == 1)
    assert abs(np.mean(act_many(agent, params, [0], EVALUATE)) - 0.5) < 0.03


def value_iteration(known, gamma, optimistic, states, actions):
    q = np.full((states, actions), optimistic)
    for _ in range(2000):
        new = np.full_like(q, optimistic)
        for (s, a), samples in known.items():
            new[s, a] = np.mean([r + gamma * d * q[after].max() for r, d, after in samples])
        q = new
    return q


@pytest.mark.parametrize("visits", [1, 2])
def test_rmax_values_are_those_of_value_iteration_on_what_is_known(visits):
    config = RMaxConfig(gamma=0.8, known_after=visits, r_max=1.0, sweeps=5)
    agent = rmax(LINE, TWO, config)
    seen = [(0, 0, 0.0, 1.0, 1, 0), (0, 1, 0.5, 1.0, 1, 1), (1, 1, 0.0, 1.0, 2, 2), (1, 0, 1.0, 0.0, 2, 2),
            (0, 0, 0.0, 1.0, 1, 1), (0, 1, 0.25, 1.0, 2, 0), (1, 1, 1.0, 1.0, 1, 0)]  # fmt: skip
    known = {}
    for s, a, r, d, _, after in seen:
        samples = known.setdefault((s, a), [])
        if len(samples) < visits:
            samples.append((r, d, after))
    known = {pair: samples for pair, samples in known.items() if len(samples) == visits}
    state, metrics, _ = agent.update(
        agent.init(jax.random.key(0)), jax.random.key(0), rows(*seen), jnp.ones(1)
    )
    assert float(metrics["known_fraction"]) == pytest.approx(len(known) / 6)
    assert int(metrics["new_pairs"]) == len(known)
    values = state.params
    for _ in range(200):
        values = sweep(values, state.model, config)
    np.testing.assert_allclose(values, value_iteration(known, 0.8, 5.0, 3, 2), rtol=1e-5)


def test_ucb1_index_by_hand_and_untried_arms_first():
    params = UCB1Params(jnp.array([4.0, 1.0, 0.0]), jnp.array([3.0, 0.0, 0.0]))
    expected = [0.75 + 2 * np.sqrt(np.log(5) / 4), 2 * np.sqrt(np.log(5)), np.inf]
    np.testing.assert_allclose(ucb_index(params, 2.0), expected, rtol=1e-6)
    agent = ucb1(LINE, specs.DiscreteArray(3), UCB1Config(2.0))
    assert np.all(act_many(agent, params, [0], EXPLORE, 50) == 2)
    tried = UCB1Params(jnp.array([4.0, 1.0, 4.0]), jnp.array([3.0, 0.0, 2.0]))
    assert np.all(act_many(agent, tried, [0], EXPLORE, 50) == 1)
    assert np.all(act_many(agent, tried, [0], EVALUATE, 50) == 0)


def test_ucb1_counts():
    agent = ucb1(LINE, TWO)
    trajectory = rows((0, 1, 1.0, 1.0, 1, 0), (0, 1, 0.0, 1.0, 1, 0), (0, 0, 1.0, 1.0, 2, 0))
    state, metrics, _ = agent.update(
        agent.init(jax.random.key(0)), jax.random.key(0), trajectory, jnp.ones(1)
    )
    np.testing.assert_array_equal(state.params.pulls, [1, 2])
    np.testing.assert_array_equal(state.params.reward, [1, 1])
    assert float(metrics["best_mean"]) == 1.0


@pytest.mark.parametrize(
    "bad",
    [lambda: QLearningConfig(learning_rate=0.0), lambda: QLearningConfig(epsilon_end=1.5),
     lambda: RMaxConfig(gamma=1.0),
     lambda: RMaxConfig(sweeps=0), lambda: UCB1Config(-1.0), lambda: QLearningConfig(epsilon_steps=0)],
)  # fmt: skip
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match="got"):
        bad()
