import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.agents import EXPLORE, optimal_agent, posterior_sampling, random_agent, reference_curve
from limbeck.agents.reference import _beta, stream_returns
from limbeck.envs import RIGHT, AutoReset, Environment, make, restart, task_at, transition


def simulate_posterior_sampling(told, episodes, streams, seed=0):
    """Mean returns by episode on Dark Room, written anew in NumPy: all goals, `streams` each."""
    rng = np.random.default_rng(seed)
    n = 81 * streams
    goal, rows = np.arange(n) % 81, np.arange(n)
    possible, found, means = np.ones((n, 81), bool), np.zeros(n, bool), []
    if told:
        found = goal == 40
        possible[:, 40] = False
    for _ in range(episodes):
        x, y, total, target = np.full(n, 4), np.full(n, 4), np.zeros(n), np.full(n, -1)
        for _ in range(20):
            redraw = np.flatnonzero((target < 0) | ~possible[rows, target])
            target[redraw] = np.where(possible[redraw], rng.random((len(redraw), 81)), -1).argmax(axis=1)
            target = np.where(found, goal, target)
            dx, dy = np.sign(target % 9 - x), np.sign(target // 9 - y)
            along_x = np.where((dx != 0) & (dy != 0), rng.random(n) < 0.5, dx != 0)
            x, y = x + dx * along_x, y + dy * ~along_x
            hit = 9 * y + x == goal
            total += hit
            found |= hit
            possible[rows, 9 * y + x] &= hit
        means.append(total.mean())
    return np.array(means)


def test_posterior_sampling_has_the_published_curve_on_dark_room():
    room = make("dark_room")
    returns = np.asarray(reference_curve(room, room.tasks(), "posterior_sampling", 12, 50, jax.random.key(0)))
    assert returns.shape == (81, 50, 12) and returns.dtype == np.float32
    mean = returns.mean(axis=(0, 1))
    error = np.sqrt((returns.var(axis=1, ddof=1) / 50).sum(axis=0)) / 81
    published = np.array([2.49, 5.76, 8.28, 10.21, 11.91, 15.11, 16.23, 16.54])
    at = [0, 1, 2, 3, 4, 7, 9, 11]
    # The published numbers are a simulation too, of unknown size: allow for an error as large as ours.
    assert (np.abs(mean[at] - published) < 4 * np.sqrt(2) * error[at] + 0.01).all()
    assert error.max() < 0.15
    again = simulate_posterior_sampling(True, 12, 50)
    assert (np.abs(mean - again) < 4 * np.sqrt(2) * error + 0.01).all()


def test_posterior_sampling_that_is_told_nothing_searches_the_start_too():
    room = make("dark_room")
    agent, keys = posterior_sampling(room), jax.random.split(jax.random.key(1), (81, 30))
    run = jax.vmap(lambda t, ks: jax.vmap(lambda k: stream_returns(room, agent, (), t, k, 12))(ks))
    returns = np.asarray(jax.jit(run)(room.tasks(), keys))
    error = np.sqrt((returns.var(axis=1, ddof=1) / 30).sum(axis=0)) / 81
    expected = simulate_posterior_sampling(False, 12, 30)
    assert (np.abs(returns.mean(axis=(0, 1)) - expected) < 4 * np.sqrt(2) * error + 0.02).all()
    np.testing.assert_allclose(returns[40, :, -1], 20)  # the centre is found as well


@pytest.mark.parametrize("name", ["dark_room", "dark_room_hard", "dark_key_to_door", "adversarial_bandit"])
def test_random_and_optimal_earn_the_bounds(name):
    environment = make(name)
    if environment.num_tasks is None:
        tasks = jax.vmap(environment.sample_task)(jax.random.split(jax.random.key(0), 60))
    else:
        tasks = task_at(environment, np.random.default_rng(0).integers(environment.num_tasks, size=60))
    bounds = dict(zip(("random", "optimal"), jax.vmap(environment.bounds)(tasks), strict=True))
    for which, bound in bounds.items():
        returns = np.asarray(reference_curve(environment, tasks, which, 4, 20, jax.random.key(1)))
        if which == "optimal" and name != "adversarial_bandit":
            np.testing.assert_allclose(
                returns, np.broadcast_to(bound[:, None, None], returns.shape), atol=1e-5
            )
        else:
            error = np.sqrt((returns.reshape(60, -1).var(axis=1) / 80).sum()) / 60
            assert returns.mean() == pytest.approx(float(np.mean(bound)), abs=float(4 * error + 1e-3))


def test_posterior_sampling_ends_at_the_optimum_of_key_to_door_and_never_forgets():
    environment = make("dark_key_to_door")
    tasks = task_at(environment, np.random.default_rng(1).integers(6561, size=40))
    returns = np.asarray(reference_curve(environment, tasks, "posterior_sampling", 16, 4, jax.random.key(0)))
    assert (returns[..., -1] == 2).all()
    solved = np.maximum.accumulate(returns == 2, axis=-1)
    assert (returns[solved] == 2).all()
    assert 0.4 < returns[..., 0].mean() < 0.9


def test_cells_seen_without_the_key_may_still_be_the_door():
    environment = make("dark_key_to_door")
    agent = posterior_sampling(environment)
    key = jax.random.key(0)
    step = lambda xy, reward: transition(jnp.array(xy), jnp.float32(reward), False, False)  # noqa: E731
    _, _, memory = agent.act((), agent.initial_memory(), key, restart(jnp.array([4, 4])), EXPLORE)
    passed = int(memory.landing)
    _, _, memory = agent.act((), memory, key, step([passed % 9, passed // 9], 0), EXPLORE)
    assert not memory.possible[0, passed] and memory.possible[1, passed]
    key_cell = int(memory.landing)
    _, _, memory = agent.act((), memory, key, step([key_cell % 9, key_cell // 9], 1), EXPLORE)
    assert memory.known.tolist() == [key_cell, -1] and int(memory.stage) == 1
    behind = int(memory.landing)
    _, _, memory = agent.act((), memory, key, step([behind % 9, behind // 9], 0), EXPLORE)
    assert not memory.possible[1, behind]
    ended = transition(jnp.array([0, 0]), jnp.float32(0), False, True)
    _, _, memory = agent.act((), memory, key, ended, EXPLORE)
    assert int(memory.stage) == 0 and int(memory.target) == key_cell  # a new episode: first the key again


def test_a_reward_that_ended_an_episode_counts():
    """The merged stream shows the next episode's start beside it, not the cell that paid."""
    room = make("dark_room")
    agent = optimal_agent(room, jnp.int32(41))
    action, _, _ = agent.act(
        (), agent.initial_memory(), jax.random.key(0), restart(jnp.array([4, 4])), EXPLORE
    )
    assert int(action) == RIGHT
    seeker = posterior_sampling(room)
    _, _, memory = seeker.act(
        (), seeker.initial_memory(), jax.random.key(0), restart(jnp.array([4, 4])), EXPLORE
    )
    landed = int(memory.landing)
    ended = transition(jnp.array([4, 4]), jnp.float32(1), False, True)
    _, _, memory = seeker.act((), memory, jax.random.key(1), ended, EXPLORE)
    assert memory.known.tolist() == [landed] and int(memory.target) == landed


def test_beta_samples_have_the_distribution_s_quantiles():
    rng = np.random.default_rng(0)
    for a, b in ((1, 1), (1, 30), (4, 2), (60, 41)):
        samples = np.asarray(_beta(jax.random.key(a), jnp.full(20000, float(a)), jnp.full(20000, float(b))))
        grid = np.quantile(rng.beta(a, b, 400000), np.linspace(0.02, 0.98, 49))
        below = (samples[:, None] <= grid).mean(axis=0)
        assert np.abs(below - np.linspace(0.02, 0.98, 49)).max() < 1.95 / np.sqrt(20000)  # Kolmogorov, 0.1 %


def test_thompson_sampling_earns_what_a_numpy_one_does():
    bandit = make("adversarial_bandit")
    task = jnp.linspace(0.05, 0.95, 10)
    returns = np.asarray(
        reference_curve(bandit, task[None], "posterior_sampling", 2, 300, jax.random.key(0))
    )[0]
    rng, payout = np.random.default_rng(0), np.asarray(task)
    wins, losses, expected = np.ones((300, 10)), np.ones((300, 10)), np.zeros((300, 2))
    for t in range(200):
        arm = rng.beta(wins, losses).argmax(axis=1)
        reward = rng.random(300) < payout[arm]
        wins[np.arange(300), arm] += reward
        losses[np.arange(300), arm] += ~reward
        expected[:, t // 100] += reward
    error = np.sqrt(returns.var(axis=0) / 300 + expected.var(axis=0) / 300)
    assert (np.abs(returns.mean(axis=0) - expected.mean(axis=0)) < 4 * error).all()


def test_an_agent_is_four_pure_functions_and_has_nothing_to_train():
    room = make("dark_room")
    for agent in (
        random_agent(room.action_spec()),
        optimal_agent(room, 3),
        posterior_sampling(AutoReset(room)),
    ):
        state = agent.init(jax.random.key(0))
        memory = agent.initial_memory()
        action, extras, after = agent.act(
            state.params, memory, jax.random.key(1), restart(jnp.array([4, 4])), EXPLORE
        )
        assert action.dtype == jnp.int32 and action.shape == () and extras == ()
        types = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
        assert types(memory) == types(after)
        new, metrics, priorities = agent.update(state, jax.random.key(0), None, jnp.ones(3))
        assert (new, metrics, priorities.shape) == (state, {}, (3,))


class TwoSteps:
    """An environment that has no references: terminates after two of five steps, pays 1 a step."""

    name, max_steps, num_tasks = "two_steps", 5, 1
    action_spec = staticmethod(make("dark_room").action_spec)

    def reset(self, key, task):
        return jnp.int32(0), restart(jnp.zeros(1))

    def step(self, key, task, state, action):
        return state + 1, transition(jnp.zeros(1), jnp.float32(1), state + 1 >= 2, False)


def test_episodes_that_end_early_end_the_return():
    environment: Environment = TwoSteps()
    np.testing.assert_array_equal(
        reference_curve(environment, jnp.zeros(1), "random", 3, 2, jax.random.key(0)), np.full((1, 2, 3), 2.0)
    )
    with pytest.raises(ValueError, match="no posterior for two_steps"):
        reference_curve(environment, jnp.zeros(1), "posterior_sampling", 3, 2, jax.random.key(0))


def test_curves_that_cannot_be_drawn_are_refused():
    room = make("dark_room")
    with pytest.raises(ValueError, match="no reference 'best'; known: random, optimal, posterior_sampling"):
        reference_curve(room, room.tasks(), "best", 1, 1, jax.random.key(0))
    with pytest.raises(ValueError, match="an episode and a seed"):
        reference_curve(room, room.tasks(), "random", 0, 1, jax.random.key(0))
