import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.agents import ALGORITHMS, CompiledConfig, make_agent, train, train_groups
from limbeck.envs import AdversarialBandit, DarkRoom, KeyToDoor


ROOM = DarkRoom(size=5, max_steps=20)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope="module")
def q_agent():
    return make_agent("q_learning", ROOM, epsilon_steps=600)


@pytest.mark.parametrize("unroll", [1, 5])
def test_streams_are_chronological(q_agent, unroll):
    history = train(q_agent, ROOM, jnp.array([3, 12]), keys(2), CompiledConfig(6, streams=3, unroll=unroll))
    assert history.reward.shape == (2, 3, 120) and history.observation.shape == (2, 3, 120, 2)
    last = np.asarray(history.step_type) == 2
    assert np.array_equal(last, np.broadcast_to(np.arange(120) % 20 == 19, last.shape))
    assert np.all(np.asarray(history.discount) == 1)
    xy, action, final = (
        np.asarray(x) for x in (history.observation, history.action, history.final_observation)
    )
    moves = np.array([(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)])
    led_to = np.clip(xy + moves[action], 0, 4)
    assert np.array_equal(led_to[:, :, :-1][~last[:, :, :-1]], xy[:, :, 1:][~last[:, :, :-1]])
    assert np.all(xy[:, :, ::20] == 2)
    assert np.array_equal(final[last], led_to[last]) and np.all(final[~last] == 0)
    goal = np.array([3, 12])[:, None, None]
    assert np.array_equal(
        np.asarray(history.reward), (led_to[..., 1] * 5 + led_to[..., 0] == goal).astype(np.float32)
    )


def test_a_run_depends_on_its_task_and_key_only(q_agent):
    config = CompiledConfig(4)
    tasks, run_keys = jnp.array([1, 7, 24, 3, 9]), keys(5)
    together = train(q_agent, ROOM, tasks, run_keys, config)
    assert same(together, train(q_agent, ROOM, tasks, run_keys, config))
    assert not same(together, train(q_agent, ROOM, tasks, keys(5, 1), config))
    alone = train(q_agent, ROOM, tasks[2:3], run_keys[2:3], config)
    assert same(alone, jax.tree.map(lambda x: x[2:3], together))
    groups = list(train_groups(q_agent, ROOM, tasks, run_keys, config, group_size=2))
    assert [number for number, _ in groups] == [0, 1, 2]
    assert same(jax.tree.map(lambda *x: np.concatenate(x), *(h for _, h in groups)), together)
    resumed = list(train_groups(q_agent, ROOM, tasks, run_keys, config, group_size=2, skip=(0, 1)))
    assert [number for number, _ in resumed] == [2] and same(resumed[0][1], groups[2][1])


def test_the_first_stream_starts_alike_beside_others(q_agent):
    # Before the first update nothing of one stream can depend on how many there are.
    one = train(q_agent, ROOM, jnp.array([3]), keys(1), CompiledConfig(2, streams=1, unroll=20))
    many = train(q_agent, ROOM, jnp.array([3]), keys(1), CompiledConfig(2, streams=4, unroll=20))
    assert np.array_equal(one.action[0, 0, :20], many.action[0, 0, :20])
    assert not np.array_equal(many.action[0, 0], many.action[0, 1])


LEARNERS = {
    "q_learning": (dict(epsilon_steps=600), 1, 1),
    "rmax": ({}, 1, 1),
    "a2c": (dict(hidden=(32, 32), learning_rate=5e-3), 16, 5),
    "ppo": (dict(hidden=(32, 32), learning_rate=5e-3), 16, 20),
}


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_learns_a_small_room(name):
    overrides, streams, unroll = LEARNERS[name]
    agent = make_agent(name, ROOM, **overrides)
    copies = 16 // streams
    tasks = jnp.repeat(jnp.array([0, 7, 12, 22]), copies)
    history = train(agent, ROOM, tasks, keys(4 * copies), CompiledConfig(60, streams, unroll))
    returns = np.asarray(history.reward).reshape(4, 16, 60, 20).sum(-1)
    # Optimal: 20 - d + 1 with the goal at distance d = 4, 1, 2 of the centre, 20 at the centre itself.
    optimal = np.array([17, 20, 20, 19])
    assert np.mean(returns[..., -5:].mean((1, 2)) / optimal) > 0.85
    assert returns[..., 0].mean() < 0.4 * optimal.mean()


def test_ucb1_finds_the_best_arm():
    bandit = AdversarialBandit(max_steps=100)
    tasks = jnp.array([[0.1, 0.9, 0.2, 0.3, 0.1, 0.2, 0.1, 0.4, 0.1, 0.2]] * 4)
    history = train(make_agent("ucb1", bandit, exploration=0.5), bandit, tasks, keys(4), CompiledConfig(3))
    assert history.reward.shape == (4, 1, 300)
    assert np.mean(np.asarray(history.action)[..., -100:] == 1) > 0.9


def test_the_markov_observation_teaches_and_stays_out_of_the_history():
    world = KeyToDoor(size=3, max_steps=20)
    tasks = jnp.array([[0, 8], [6, 2], [4, 4]])
    agent = make_agent("rmax", world, r_max=1.0)
    history = train(agent, world, tasks, keys(3), CompiledConfig(60))
    assert history.observation.shape == history.final_observation.shape == (3, 1, 1200, 2)
    returns = np.asarray(history.reward).reshape(3, 60, 20).sum(-1)
    assert returns[:, -10:].mean() > 1.9


def test_mistakes_are_named(q_agent):
    tasks = jnp.array([1, 2])
    with pytest.raises(ValueError, match="unroll must divide the 60 steps"):
        train(q_agent, ROOM, tasks, keys(2), CompiledConfig(3, unroll=7))
    with pytest.raises(ValueError, match="typed random keys"):
        train(q_agent, ROOM, tasks, jnp.zeros((2, 2), jnp.uint32), CompiledConfig(3))
    with pytest.raises(ValueError, match="one a run"):
        train(q_agent, ROOM, tasks, keys(3), CompiledConfig(3))
    with pytest.raises(ValueError, match="streams must be at least 1"):
        CompiledConfig(3, streams=0)
    with pytest.raises(ValueError, match="Did you mean 'q_learning'"):
        make_agent("qlearning", ROOM)
    with pytest.raises(ValueError, match="Did you mean 'gamma'"):
        make_agent("rmax", ROOM, gama=0.5)
    with pytest.raises(ValueError, match="group_size"):
        next(train_groups(q_agent, ROOM, tasks, keys(2), CompiledConfig(3), group_size=0))


def test_every_algorithm_has_a_page():
    import pathlib

    pages = pathlib.Path(__file__).parents[2] / "docs" / "algorithms"
    assert {page.stem for page in pages.glob("*.md")} >= set(ALGORITHMS)
