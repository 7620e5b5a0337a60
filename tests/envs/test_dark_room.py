import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs import DOWN, LAST, LEFT, MID, RIGHT, STAY, UP, DarkRoom, make


def dynamic_programming(size, horizon, once):
    """(random, optimal) returns by goal, by backward induction over explicit (x, y), one goal at a time."""
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)]
    cells = [(x, y) for y in range(size) for x in range(size)]
    index = {cell: i for i, cell in enumerate(cells)}
    limit = lambda v: min(max(v, 0), size - 1)  # noqa: E731
    after = np.array([[index[limit(x + dx), limit(y + dy)] for dx, dy in moves] for x, y in cells])
    start = index[size // 2, size // 2]
    returns = []
    for goal in range(len(cells)):
        row = []
        for best in (False, True):
            value = np.zeros((2, len(cells)))  # [already paid, cell]
            for _ in range(horizon):
                new = np.zeros_like(value)
                for paid in (0, 1):
                    reward = (after == goal) * (0 if once and paid else 1)
                    future = np.where(after == goal, value[1][after], value[paid][after])
                    new[paid] = (reward + future).max(1) if best else (reward + future).mean(1)
                value = new
            row.append(value[0, start])
        returns.append(row)
    return np.array(returns).T


@pytest.mark.parametrize(
    ("name", "size", "once", "random_mean", "optimal_mean"),
    [("dark_room", 9, False, 20 / 81, 16.543), ("dark_room_hard", 17, True, 0.0373, 1.0)],
)
def test_bounds_are_the_golden_numbers(name, size, once, random_mean, optimal_mean):
    environment = make(name)
    random, optimal = jax.jit(jax.vmap(environment.bounds))(environment.tasks())
    expected = dynamic_programming(size, 20, once)
    np.testing.assert_allclose(random, expected[0], atol=1e-6)
    np.testing.assert_allclose(optimal, expected[1], atol=1e-6)
    assert np.mean(random) == pytest.approx(random_mean, abs=5e-5)
    assert np.mean(optimal) == pytest.approx(optimal_mean, abs=5e-4)


def test_optimum_is_20_at_the_centre_and_13_in_the_corners():
    environment = make("dark_room")
    optimal = np.asarray(jax.vmap(environment.bounds)(environment.tasks())[1])
    assert optimal[40] == optimal.max() == 20
    assert optimal.min() == 13
    np.testing.assert_array_equal(np.flatnonzero(optimal == 13), [0, 8, 72, 80])


def play(environment, task, actions):
    state, first = environment.reset(jax.random.key(0), task)
    timesteps = [first]
    for action in actions:
        state, timestep = environment.step(jax.random.key(1), task, state, jnp.int32(action))
        timesteps.append(timestep)
    return state, timesteps


def test_moves_go_where_their_names_say_and_walls_stop_them():
    room = DarkRoom(size=3)
    _, timesteps = play(room, jnp.int32(0), [LEFT, LEFT, UP, UP, RIGHT, DOWN, STAY])
    xy = [tuple(t.observation.tolist()) for t in timesteps]
    assert xy == [(1, 1), (0, 1), (0, 1), (0, 0), (0, 0), (1, 0), (1, 1), (1, 1)]


def test_dark_room_pays_every_step_on_the_goal_and_hard_once():
    actions = [RIGHT, STAY, LEFT, RIGHT]  # onto the goal, stay, off, on
    goal = jnp.int32(41)
    _, timesteps = play(DarkRoom(), goal, actions)
    assert [float(t.reward) for t in timesteps] == [0, 1, 1, 0, 1]
    state, timesteps = play(DarkRoom(once=True), goal, actions)
    assert [float(t.reward) for t in timesteps] == [0, 1, 0, 0, 0]
    np.testing.assert_array_equal(DarkRoom(once=True).markov_observation(state), [5, 4, 1])


def test_a_goal_under_the_start_pays_from_the_first_step_on():
    _, timesteps = play(DarkRoom(), jnp.int32(40), [STAY, STAY])
    assert [float(t.reward) for t in timesteps] == [0, 1, 1]


def test_the_horizon_truncates():
    _, timesteps = play(DarkRoom(max_steps=3), jnp.int32(0), [STAY] * 3)
    assert [int(t.step_type) for t in timesteps[1:]] == [MID, MID, LAST]
    assert [float(t.discount) for t in timesteps] == [1, 1, 1, 1]


def test_timesteps_keep_one_tree_of_types():
    environment = make("dark_room")
    state, first = environment.reset(jax.random.key(0), jnp.int32(3))
    _, later = environment.step(jax.random.key(0), jnp.int32(3), state, jnp.int32(0))
    types = lambda t: jax.tree.map(lambda x: (x.shape, x.dtype.name), t)  # noqa: E731
    assert types(first) == types(later)


@pytest.mark.parametrize("arguments", [{"size": 8}, {"size": 1}, {"max_steps": 0}])
def test_impossible_rooms_are_refused(arguments):
    with pytest.raises(ValueError, match="Dark Room needs"):
        DarkRoom(**arguments)
