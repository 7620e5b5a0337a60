import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.envs import LAST, LEFT, MID, RIGHT, STAY, KeyToDoor, make


def random_returns(size, horizon):
    """Returns of the random policy `[key, door]`: backward induction over cells and phases, every pair."""
    cells = [(x, y) for y in range(size) for x in range(size)]
    n = len(cells)
    walk = np.zeros((n, n))
    for i, (x, y) in enumerate(cells):
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
            j = (min(max(x + dx, 0), size - 1), min(max(y + dy, 0), size - 1))
            walk[i, cells.index(j)] += 0.2
    is_door = np.eye(n)  # [cell, door]
    with_key = np.zeros((n, n))  # [cell, door]
    without = np.zeros((n, n, n))  # [cell, key, door]
    diagonal = np.arange(n)
    for _ in range(horizon):
        entered = without.copy()  # value on arriving in a cell
        entered[diagonal, diagonal] = 1 + with_key  # arriving on the key
        without = np.tensordot(walk, entered, 1)
        with_key = walk @ np.where(is_door == 1, 1.0, with_key)  # the door pays and nothing does after it
    return without.mean(axis=0)  # random start


def test_bounds_are_the_golden_numbers():
    environment = make("dark_key_to_door")
    random, optimal = jax.jit(jax.vmap(environment.bounds))(environment.tasks())
    expected = random_returns(9, 50)
    np.testing.assert_allclose(np.reshape(random, (81, 81)), expected, atol=1e-6)
    assert np.asarray(random, np.float64).mean() == pytest.approx(0.2513, abs=5e-5)
    np.testing.assert_allclose(optimal, 2.0, atol=1e-6)


def test_optimum_under_a_short_horizon_is_that_of_brute_force():
    size, horizon = 3, 3
    room = KeyToDoor(size=size, max_steps=horizon)
    table = room.transitions
    best = np.zeros((9, 9))
    for key in range(9):
        for door in range(9):
            for start in range(9):
                top = 0
                for plan in np.ndindex(*(5,) * horizon):
                    cell, has_key, opened = start, False, False
                    for action in plan:
                        cell = table[cell, action]
                        if has_key and cell == door:
                            opened = True
                        has_key = has_key or cell == key
                    top = max(top, int(has_key) + int(opened))
                    if top == 2:
                        break
                best[key, door] += top / 9
    optimal = jax.vmap(room.bounds)(room.tasks())[1]
    np.testing.assert_allclose(np.reshape(optimal, (9, 9)), best, atol=1e-6)


def play(environment, task, cell, actions):
    task = jnp.asarray(task, jnp.int32)
    state, _ = environment.reset(jax.random.key(0), task)
    state = state._replace(cell=jnp.int32(cell))
    timesteps, flags = [], []
    for action in actions:
        state, timestep = environment.step(jax.random.key(1), task, state, jnp.int32(action))
        timesteps.append(timestep)
        flags.append(environment.markov_observation(state).tolist())
    return [float(t.reward) for t in timesteps], timesteps, flags


def test_key_then_door_pay_once_each_and_nothing_ends():
    rewards, timesteps, flags = play(KeyToDoor(), (1, 2), 2, [STAY, LEFT, STAY, RIGHT, STAY, LEFT, RIGHT])
    assert rewards == [0, 1, 0, 1, 0, 0, 0]  # the door before the key pays nothing
    assert {int(t.step_type) for t in timesteps} == {MID}
    assert flags[0] == [2, 0, 0, 0]
    assert flags[1] == [1, 0, 1, 0]
    assert flags[3] == [2, 0, 1, 1]


def test_a_shared_cell_pays_on_two_steps():
    rewards, _, _ = play(KeyToDoor(), (5, 5), 5, [STAY, STAY, STAY])
    assert rewards == [1, 1, 0]


def test_the_horizon_truncates():
    _, timesteps, _ = play(KeyToDoor(max_steps=2), (0, 0), 5, [STAY, STAY])
    assert int(timesteps[-1].step_type) == LAST
    assert float(timesteps[-1].discount) == 1


def test_starts_are_uniform_and_task_ids_are_key_major():
    environment = make("dark_key_to_door")
    keys = jax.random.split(jax.random.key(0), 8100)
    cells = jax.vmap(lambda k: environment.reset(k, jnp.zeros(2, jnp.int32))[0].cell)(keys)
    counts = np.bincount(cells, minlength=81)
    assert ((counts - 100) ** 2 / 100).sum() < 80 + 4 * np.sqrt(160)  # chi-squared, 80 degrees of freedom
    tasks = np.asarray(environment.tasks())
    assert tasks.shape == (6561, 2)
    np.testing.assert_array_equal(tasks[7 * 81 + 5], [7, 5])


@pytest.mark.parametrize("arguments", [{"size": 1}, {"max_steps": 0}])
def test_impossible_rooms_are_refused(arguments):
    with pytest.raises(ValueError, match="Key-to-Door needs"):
        KeyToDoor(**arguments)
