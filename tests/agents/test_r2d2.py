import types

import dm_env
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
    R2D2Config,
    Trajectory,
    dqn,
    r2d2,
    train,
)
from limbeck.agents._representation import recurrent
from limbeck.agents.torsos import default_torso
from limbeck.envs import FIRST, LAST, MID, restart, transition


SPEC = specs.BoundedArray((1,), np.int32, 0, 3)
ACTIONS = specs.DiscreteArray(3)
T, B, H = 8, 2, 5
SETTINGS = dict(hidden=(6,), head=(6,), core=H, gamma=0.9, n_step=3)


def stream(agent, params, seed=0):
    """Acts through [8, 2] rows of a made-up stream, one row before them, and ends inside and at the end.

    Returns the trajectory with its stored memory, and every memory before a row [T + 1].
    """
    rng = np.random.default_rng(seed)
    kind, discount = np.ones((T + 1, B), np.int32), np.ones((T + 1, B), np.float32)
    kind[3, 0] = kind[4, 1] = kind[7, 0] = kind[T, 1] = LAST
    discount[3, 0] = 0  # terminations; the others are truncations
    reward = rng.normal(size=(T + 1, B)).astype(np.float32)
    observation = rng.integers(0, 4, (T + 2, B, 1)).astype(np.int32)
    final = rng.integers(0, 4, (T + 1, B, 1)).astype(np.int32)
    next_observation = np.where(kind[..., None] == LAST, final, observation[1:])

    act = jax.jit(jax.vmap(agent.act, (None, 0, 0, 0, None)), static_argnums=4)
    memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (B, *jnp.shape(x))), agent.initial_memory())
    shown = (np.full(B, FIRST), np.zeros(B, np.float32), np.ones(B, np.float32))
    actions, extras, memories = [], [], [memory]
    for t in range(T + 1):
        timestep = dm_env.TimeStep(*shown, observation[t])
        action, extra, memory = act(params, memory, jax.random.split(jax.random.key(t), B), timestep, EXPLORE)
        actions.append(action)
        extras.append(extra)
        memories.append(memory)
        shown = (kind[t], reward[t], discount[t])
    extras = jax.tree.map(lambda *x: jnp.stack(x[1:]), *extras)
    return Trajectory(
        jnp.asarray(observation[1:-1]), jnp.stack(actions[1:]), jnp.asarray(reward[1:]),
        jnp.asarray(discount[1:]), jnp.asarray(kind[1:]), jnp.asarray(next_observation[1:]), extras,
        memories[1],
    ), memories[1:]  # fmt: skip


@pytest.fixture(scope="module")
def setting():
    agent = r2d2(SPEC, ACTIONS, R2D2Config(**SETTINGS, burn_in=2, epsilon_start=1.0))
    state = agent.init(jax.random.key(0))
    return agent, state, *stream(agent, state.params)


@pytest.fixture(scope="module")
def network():
    return recurrent(SPEC, 3, default_torso(SPEC, (6,)), H)


def test_the_learner_sees_what_the_actor_saw(setting, network):
    agent, state, t, memories = setting
    for burn_in in (0, 2):
        features, _ = network.unroll(state.params.representation, t.memory.core, t.extras, t, burn_in)
        # The features are the LSTM's output, which its memory after each row holds as well.
        expected = jnp.stack([m.core.state.hidden for m in memories[1 + burn_in :]])
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    # Rows after an end begin with a clean state: they equal a run that begins there.
    fresh = jax.tree.map(jnp.zeros_like, t.memory.core)
    start = 4  # stream 1 has its end at row 3 of the trajectory
    tail = jax.tree.map(lambda x: x[start:], t._replace(memory=()))
    alone, _ = network.unroll(state.params.representation, fresh, tail.extras, tail, 0)
    together, _ = network.unroll(state.params.representation, t.memory.core, t.extras, t, 0)
    assert bool(t.extras.first[start, 1]) and not bool(t.extras.first[start, 0])
    np.testing.assert_allclose(alone[:, 1], together[start:, 1], rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(alone[0, 0] - together[start, 0]))) > 1e-3


def test_inputs_of_a_row_are_those_of_the_row_before(setting):
    _, _, t, _ = setting
    np.testing.assert_array_equal(t.extras.first[1:], t.step_type[:-1] == LAST)
    np.testing.assert_array_equal(t.extras.action[1:], t.action[:-1])
    np.testing.assert_array_equal(t.extras.reward[1:], t.reward[:-1])


def test_next_features_go_on_within_the_episode(setting, network):
    _, state, t, memories = setting
    features, ahead = network.unroll(state.params.representation, t.memory.core, t.extras, t, 0)
    inside = np.asarray(t.step_type[:-1]) == MID
    np.testing.assert_allclose(ahead[:-1][inside], features[1:][inside], rtol=1e-5, atol=1e-6)
    # At an end: one step of the core from the state there, as if the episode went on to its last observation.
    for row, b in ((2, 0), (3, 1), (7, 1)):
        assert t.step_type[row, b] == LAST
        memory = jax.tree.map(lambda x, b=b: x[b], memories[row + 1].core)
        timestep = dm_env.TimeStep(MID, t.reward[row, b], t.discount[row, b], t.next_observation[row, b])
        expected, _, _ = network.step(state.params.representation, memory, timestep)
        np.testing.assert_allclose(ahead[row, b], expected, rtol=1e-5, atol=1e-6)


def h(x):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x


def h_inverse(y):
    """By bisection: h rises."""
    low, high = np.full_like(y, -1e4), np.full_like(y, 1e4)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = np.where(h(middle) < y, middle, low), np.where(h(middle) < y, high, middle)
    return low


def test_update_against_numpy(setting, network):
    agent, state, t, _ = setting
    other = agent.init(jax.random.key(5))
    state = state._replace(target=(other.params.representation, other.params.head))

    def values(params, head):
        def mlp(x, name):
            first, second = head[f"{name}/~/linear_0"], head[f"{name}/~/linear_1"]
            return np.maximum(x @ first["w"] + first["b"], 0) @ second["w"] + second["b"]

        both = []
        for x in network.unroll(params, t.memory.core, t.extras, t, 2):
            x = np.asarray(x, np.float64)
            advantage = mlp(x, "advantage")
            both.append(np.asarray(mlp(x, "value") + advantage - advantage.mean(-1, keepdims=True)))
        return both

    here, ahead = values(state.params.representation, state.params.head)
    _, target_ahead = values(*state.target)
    bootstrap = h_inverse(np.take_along_axis(target_ahead, ahead.argmax(-1)[..., None], -1)[..., 0])
    rows = T - 2
    errors = np.zeros((rows, B))
    for b in range(B):
        for i in range(rows):
            total, factor = 0.0, 1.0
            for j in range(i, min(i + 3, rows)):
                total += factor * float(t.reward[2 + j, b])
                factor *= 0.9 * float(t.discount[2 + j, b])
                if t.step_type[2 + j, b] == LAST:
                    break
            errors[i, b] = h(total + factor * bootstrap[j, b]) - here[i, b, t.action[2 + i, b]]
    weights = np.array([0.3, 1.5])
    _, metrics, priorities = jax.jit(agent.update)(
        state, jax.random.key(0), t, jnp.asarray(weights, jnp.float32)
    )
    np.testing.assert_allclose(metrics["loss"], (weights * 0.5 * errors**2).mean(), rtol=1e-3)
    np.testing.assert_allclose(
        priorities, 0.9 * np.abs(errors).max(0) + 0.1 * np.abs(errors).mean(0), rtol=1e-3
    )


def test_no_gradient_flows_into_the_burn_in(setting, network):
    _, state, t, _ = setting
    observation = jax.nn.one_hot(t.observation[..., 0], 4)  # floats, so that a gradient can be asked for
    plain = recurrent(specs.Array((4,), np.float32), 3, default_torso(specs.Array((4,), np.float32), (6,)), H)
    params, _ = plain.init(jax.random.key(1))

    def total(shown):
        features, _ = plain.unroll(params, t.memory.core, t.extras, t._replace(
            observation=shown, next_observation=observation), 2)  # fmt: skip
        return jnp.sum(features)

    gradient = np.abs(jax.grad(total)(observation)).sum((1, 2))
    assert (gradient[:2] == 0).all() and (gradient[2:] > 0).all()


def test_burn_in_must_leave_rows(setting):
    _, state, t, _ = setting
    agent = r2d2(SPEC, ACTIONS, R2D2Config(**SETTINGS, burn_in=T))
    with pytest.raises(ValueError, match="burn_in must be below the 8 rows"):
        agent.update(state, jax.random.key(0), t, jnp.ones(B))


def test_action_and_reward_before_are_inputs_where_wanted(setting):
    _, _, t, memories = setting
    for wanted in (True, False):
        settings = R2D2Config(**SETTINGS, previous_action=wanted, previous_reward=wanted)
        agent = r2d2(SPEC, ACTIONS, settings)
        params = agent.init(jax.random.key(0)).params

        def hidden(kind, action, reward, agent=agent, params=params):
            memory = jax.tree.map(lambda x: x[0], memories[0])
            memory = memory._replace(core=memory.core._replace(action=jnp.int32(action)))
            timestep = dm_env.TimeStep(kind, reward, 1.0, np.asarray([1], np.int32))
            return agent.act(params, memory, jax.random.key(0), timestep, EVALUATE)[2].core.state.hidden

        base = hidden(MID, 0, 0.0)
        assert bool(jnp.any(hidden(MID, 1, 0.0) != base)) == wanted
        assert bool(jnp.any(hidden(MID, 0, 1.0) != base)) == wanted
        # A new episode forgets them both, and the state.
        np.testing.assert_array_equal(hidden(LAST, 1, 1.0), hidden(FIRST, 0, 0.0))


class Recall:
    """Shows 1 or 2 at first and 0 after; the third action is paid where it is the number less one."""

    name, max_steps, num_tasks = "recall", 3, 1
    observation_spec = markov_spec = staticmethod(lambda: specs.BoundedArray((1,), np.int32, 0, 2))
    action_spec = staticmethod(lambda: specs.DiscreteArray(2))

    def reset(self, key, task):
        cue = jax.random.randint(key, (), 0, 2)
        return types.SimpleNamespace(cue=cue, time=0).__dict__, restart(jnp.asarray([cue + 1], jnp.int32))

    def step(self, key, task, state, action):
        time = state["time"] + 1
        paid = (time == 3) & (action == state["cue"])
        return {"cue": state["cue"], "time": time}, transition(
            jnp.zeros(1, jnp.int32), paid, time >= 3, False
        )

    def markov_observation(self, state):
        return jnp.where(state["time"] == 0, state["cue"] + 1, 0)[None].astype(jnp.int32)


def test_remembers_what_a_feed_forward_network_cannot():
    shared = dict(
        hidden=(16,), head=(16,), epsilon_updates=100, epsilon_end=0.02, target_period=10, gamma=0.9,
        learning_rate=5e-3, eps=1e-5,
    )  # fmt: skip
    environment = Recall()
    agents = {
        "r2d2": r2d2(environment.markov_spec(), environment.action_spec(),
                     R2D2Config(**shared, core=16, burn_in=0, n_step=2)),
        "dqn": dqn(environment.markov_spec(), environment.action_spec(), DQNConfig(**shared, n_step=2)),
    }  # fmt: skip
    last = {}
    for name, agent in agents.items():
        history = train(agent, environment, jnp.zeros(1, jnp.int32), jax.random.split(jax.random.key(0), 1),
                        CompiledConfig(num_episodes=300, streams=16, unroll=6))  # fmt: skip
        last[name] = float(np.asarray(history.reward)[0].reshape(16, 300, 3).sum(-1)[:, -100:].mean())
    assert last["r2d2"] > 0.9
    assert 0.4 < last["dqn"] < 0.6


@pytest.mark.parametrize("setting", [dict(core=0), dict(burn_in=-1), dict(gamma=2.0)])
def test_settings_are_checked(setting):
    with pytest.raises(ValueError, match="must"):
        R2D2Config(**setting)


def test_the_plan_leaves_rows_after_the_burn_in():
    plan = ALGORITHMS["r2d2"].replay
    assert plan.unroll - R2D2Config().burn_in == plan.period  # each row is learned from once per pass
