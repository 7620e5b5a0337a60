import functools
import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.agents import A2CConfig, CompiledConfig, a2c, train
from limbeck.envs import (
    FIRST,
    LAST,
    AutoReset,
    XLand,
    describe,
    environment_names,
    make,
    split_tasks,
    task_at,
    to_dm_env,
    to_gymnasium,
    xland_rules,
)
from limbeck.envs._xland_encoding import (
    GOAL_IDS,
    RULE_IDS,
    Condition,
    RuleSet,
    decode_rules,
    encode_goal,
    encode_rule,
    stack,
)


pytest.importorskip("xminigrid", reason="needs the extra xland")

FORWARD, RIGHT, LEFT, PICK_UP, PUT_DOWN, TOGGLE = range(6)
BALL, SQUARE, STAR = (3, 1), (4, 2), (12, 11)


def one(tasks, i):
    return jax.tree.map(lambda x: x[i], tasks)


def hand_made(goal, rules, tiles):
    encoded = [encode_rule(condition, product) for condition, product in rules]
    return RuleSet(
        encode_goal(goal),
        np.array(encoded, np.uint8).reshape(-1, 7),
        np.array(tiles, np.uint8).reshape(-1, 2),
    )


# --- Against xminigrid -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lockstep():
    """Random actions through Limbeck's environment and through xminigrid's own, side by side, unreset."""
    import xminigrid
    from xminigrid.types import RuleSet as Ruleset

    ours = make("xland", grid="R4-9x9", benchmark="small", num_tasks=6, max_steps=40, seed=1)
    theirs, params = xminigrid.make("XLand-MiniGrid-R4-9x9", max_steps=40)

    def run(key, task):
        reset_key, action_key = jax.random.split(key)
        params_ = params.replace(ruleset=Ruleset(*task))
        state, first = ours.reset(reset_key, task)
        reference = theirs.reset(params_, reset_key)

        def step(carry, action):
            state, reference = carry
            state, timestep = ours.step(action_key, task, state, action)
            reference = theirs.step(params_, reference, action)
            return (state, reference), (state, timestep, ours.markov_observation(state), reference)

        actions = jax.random.randint(action_key, (60,), 0, 6)
        return (state, first, reference), jax.lax.scan(step, (state, reference), actions)[1]

    tasks = task_at(ours, np.repeat(np.arange(6), 20))
    keys = jax.random.split(jax.random.key(0), 120)
    return ours, jax.device_get(jax.jit(jax.vmap(run))(keys, tasks))


def test_every_step_is_xminigrid_s_own(lockstep):
    environment, ((start, first, first_theirs), (state, timestep, _, reference)) = lockstep
    np.testing.assert_array_equal(start.grid, first_theirs.state.grid)
    np.testing.assert_array_equal(first.observation, first_theirs.observation)
    assert (first.step_type == FIRST).all() and (first.reward == 0).all() and (first.discount == 1).all()
    np.testing.assert_array_equal(state.grid, reference.state.grid)
    np.testing.assert_array_equal(state.position, reference.state.agent.position)
    np.testing.assert_array_equal(state.direction, reference.state.agent.direction)
    np.testing.assert_array_equal(state.pocket, reference.state.agent.pocket)
    np.testing.assert_array_equal(timestep.observation, reference.observation)
    np.testing.assert_array_equal(timestep.discount, reference.discount)
    np.testing.assert_allclose(timestep.reward, reference.reward, atol=1e-7)
    within = np.arange(60) < 40  # xminigrid would have reset after the horizon
    np.testing.assert_array_equal(timestep.step_type[:, within], reference.step_type[:, within])
    # The actions did something: rules made what was not there, and goals were reached.
    products = decode_rules(np.asarray(environment.tasks().rules).reshape(-1, 7))
    made = {product for _, product in products if (state.grid == product).all(-1).any()}
    assert len(made) > 3 and (state.pocket[..., 0] > 0).any() and (timestep.discount == 0).any()


def test_the_horizon_truncates_and_the_goal_terminates(lockstep):
    _, (_, (state, timestep, _, _)) = lockstep
    ended = timestep.discount == 0
    assert (timestep.step_type[:, 39] == LAST).all()
    assert (timestep.discount[:, 39] == ~ended[:, 39]).all()
    assert (timestep.step_type[:, :39] == LAST).tolist() == ended[:, :39].tolist()
    np.testing.assert_allclose(timestep.reward[ended], 1 - 0.9 * state.time[ended] / 40, atol=1e-6)
    assert (timestep.reward[~ended] == 0).all()


def test_specs_hold_and_the_markov_observation_is_the_whole_state(lockstep):
    environment, (_, (state, timestep, markov, _)) = lockstep
    for i in range(0, 120, 25):
        for t in range(0, 40, 7):
            environment.observation_spec().validate(timestep.observation[i, t])
            environment.reward_spec().validate(timestep.reward[i, t])
            environment.discount_spec().validate(timestep.discount[i, t])
            environment.markov_spec().validate(markov[i, t])
            view, cells, rest = np.split(markov[i, t], [50, 148])
            np.testing.assert_array_equal(view.reshape(5, 5, 2), timestep.observation[i, t])
            np.testing.assert_array_equal(cells.reshape(7, 7, 2), state.grid[i, t, 1:-1, 1:-1])
            assert rest[:5].tolist() == [*state.position[i, t], state.direction[i, t], *state.pocket[i, t]]
            assert 7 * rest[5] + rest[6] == state.time[i, t] == t + 1  # 40 steps: two digits to the base 7
    outer = state.grid[:, :, [0, -1]].reshape(-1, 2), state.grid[:, :, :, [0, -1]].reshape(-1, 2)
    assert (np.concatenate(outer) == (2, 6)).all()  # what the Markov observation leaves out never changes
    spec = environment.markov_spec()
    assert spec.shape == (155,) and spec.maximum[-2:].tolist() == [5, 6]
    for task in range(6):
        jax.tree.map(
            lambda s, x: s.validate(np.asarray(x)), environment.task_spec(), one(environment.tasks(), task)
        )


# --- By play ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """A 5x5 room (3x3 cells) with hand-made and generated rule sets, read from a file."""
    tile = {"hold": (BALL,), "near": (BALL,), "beside": (BALL, SQUARE)}
    goals = [
        hand_made(Condition(kind, side, tile[kind]), [], tile[kind]) for kind, side in GOAL_IDS
    ]  # every goal, on objects that are there
    rules = [
        hand_made(Condition("hold", "any", (STAR,)), [(Condition(kind, side, tile[kind]), STAR)], tile[kind])
        for kind, side in RULE_IDS
    ]  # every rule, on the way to one goal
    hopeless = [
        hand_made(Condition("hold", "any", (STAR,)), [], [BALL]),
        hand_made(
            Condition("hold", "any", (BALL,)), [(Condition("hold", "any", (BALL,)), STAR)], [BALL]
        ),
        hand_made(
            Condition("beside", "any", (BALL, SQUARE)),
            [(Condition("beside", "any", (BALL, SQUARE)), STAR)],
            [BALL, SQUARE],
        ),
    ]  # fmt: skip
    generated = xland_rules.generate("trivial", 6, seed=0)
    trivial = [
        RuleSet(generated.goal[i], np.zeros((1, 7), np.uint8), generated.init_tiles[i]) for i in range(6)
    ]
    generated = xland_rules.generate("small", 60, seed=0)
    few = np.flatnonzero((generated.init_tiles[:, :, 0] > 0).sum(axis=1) == 3)[:6]
    small = [RuleSet(*(part[i] for part in generated)) for i in few]
    path = str(tmp_path_factory.mktemp("xland") / "arena.npz")
    everything = [*goals, *rules, *hopeless, *trivial, *small]
    xland_rules.save_npz(path, stack(everything, 4, 6), {"what": "tests"})
    return XLand(grid="R1-5x5", benchmark=path, max_steps=100)


KIND_OF_TASK = {"goals": range(11), "rules": range(11, 22), "trivial": range(25, 31), "small": range(31, 37)}
HOPELESS = range(22, 25)


reset = jax.jit(lambda environment, key, task: environment.reset(key, task), static_argnums=0)
step = jax.jit(
    lambda environment, task, state, action: environment.step(jax.random.key(0), task, state, action),
    static_argnums=0,
)


@functools.partial(jax.jit, static_argnums=0)
def expand(environment, task, states):
    """All six steps from each of the states [B]: (states, discounts), [B * 6, …]."""
    size = len(states.time)
    states = jax.tree.map(lambda x: jnp.repeat(x, 6, axis=0), states)
    states, timesteps = jax.vmap(lambda s, a: environment.step(jax.random.key(0), task, s, a))(
        states, jnp.tile(jnp.arange(6), size)
    )
    return states._replace(time=jnp.zeros_like(states.time)), timesteps.discount


def plan(environment, task, state, batch=256):
    """A shortest list of actions to the goal, by breadth-first search in the environment itself; or None."""

    def rows(states):
        leaves = [np.asarray(leaf).reshape(len(states.time), -1) for leaf in states[:4]]
        return [row.tobytes() for row in np.concatenate(leaves, axis=1).astype(np.uint8)]

    frontier, paths = jax.tree.map(lambda x: np.asarray(x)[None], state), [()]
    seen = set(rows(frontier))
    while paths:
        fresh, found = [], []
        for begin in range(0, len(paths), batch):
            ids = np.minimum(np.arange(begin, begin + batch), len(paths) - 1)
            states, discount = jax.device_get(
                expand(environment, task, jax.tree.map(lambda x, i=ids: x[i], frontier))
            )
            for j, row in enumerate(rows(states)):
                path = (*paths[ids[j // 6]], j % 6)
                if discount[j] == 0:
                    return path
                if row not in seen:
                    seen.add(row)
                    fresh.append(jax.tree.map(lambda x, j=j: x[j], states))
                    found.append(path)
        paths = found
        frontier = jax.tree.map(lambda *x: np.stack(x), *fresh) if fresh else None
    return None


@pytest.mark.parametrize("kind", KIND_OF_TASK)
def test_what_is_called_solvable_is_solved_by_play(arena, kind):
    for number in KIND_OF_TASK[kind]:
        task = one(arena.tasks(), number)
        assert xland_rules.is_solvable(jax.tree.map(np.asarray, task))
        state, timestep = reset(arena, jax.random.key(number), task)
        actions = plan(arena, task, state)
        assert actions is not None, f"task {number}"
        before = state
        for action in actions:
            assert (int(timestep.step_type) != LAST, float(timestep.reward), float(timestep.discount)) == (
                True,
                0,
                1,
            )
            before, (state, timestep) = state, step(arena, task, state, jnp.int32(action))
        assert (int(timestep.step_type), float(timestep.discount)) == (LAST, 0)
        np.testing.assert_allclose(timestep.reward, 1 - 0.9 * len(actions) / 100, rtol=1e-6)
        # The goal at the very horizon is a termination still, and anything else there a truncation.
        last = before._replace(time=jnp.int32(99))
        _, timestep = step(arena, task, last, jnp.int32(actions[-1]))
        assert (int(timestep.step_type), float(timestep.discount)) == (LAST, 0)
        np.testing.assert_allclose(timestep.reward, 0.1, rtol=1e-5)
        _, timestep = step(arena, task, last, jnp.int32(TOGGLE))
        assert (int(timestep.step_type), float(timestep.discount), float(timestep.reward)) == (LAST, 1, 0)


def test_what_cannot_be_solved_is_refused_and_no_play_solves_it(arena):
    for number in HOPELESS:
        task = one(arena.tasks(), number)
        assert not xland_rules.is_solvable(jax.tree.map(np.asarray, task))
        assert plan(arena, task, reset(arena, jax.random.key(number), task)[0]) is None


# --- As one of Limbeck's environments ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def short():
    return make("xland", grid="R1-5x5", num_tasks=12, max_steps=8)


def test_a_stream_restarts_after_every_last_step_and_keeps_the_last_observation(short):
    world, task = AutoReset(short), one(short.tasks(), 3)

    @jax.jit
    def stream(key):
        state, first = world.reset(key, task)

        def body(carry, inputs):
            state, timestep = carry
            state, after = world.step(inputs[1], task, state, inputs[0])
            return (state, after), (timestep, after, state)

        actions = jax.random.randint(key, (200,), 0, 6)
        return jax.lax.scan(body, (state, first), (actions, jax.random.split(key, 200)))[1]

    before, after, state = jax.device_get(stream(jax.random.key(1)))
    last = after.step_type == LAST
    terminated = after.discount == 0
    assert terminated.any() and (last & ~terminated).any() and (last | ~terminated).all()
    assert (after.reward > 0).tolist() == terminated.tolist()
    np.testing.assert_array_equal(before.observation[1:], after.observation[:-1])
    assert (state.inner.time[last] == 0).all()
    np.testing.assert_array_equal(state.final_observation[~last], after.observation[~last])
    assert (state.final_observation[last] != after.observation[last]).any()
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], last])))
    assert lengths.max() == 8 and lengths.min() < 8
    assert (state.inner.pocket[last] == 0).all()


def test_adapters_show_the_same_episode(short):
    task = one(short.tasks(), 5)
    host, gym = to_dm_env(short, task=task, seed=4), to_gymnasium(short, task=task, seed=4)
    timestep, (observation, info) = host.reset(), gym.reset()
    np.testing.assert_array_equal(info["task"].goal, task.goal)
    for action in [RIGHT, FORWARD, PICK_UP, LEFT, FORWARD, PUT_DOWN, TOGGLE, RIGHT]:
        np.testing.assert_array_equal(timestep.observation, observation)
        assert gym.observation_space.contains(observation)
        if timestep.last():
            break
        timestep, (observation, reward, terminated, truncated, _) = host.step(action), gym.step(action)
        assert (timestep.reward, timestep.last()) == (reward, terminated or truncated)
        assert timestep.discount == (not terminated)
    assert timestep.last()
    with pytest.raises(ValueError, match="outside xland .goal"):
        to_dm_env(short, task=task._replace(goal=np.full(5, 99, np.uint8)))


def test_a_compiled_learner_runs_and_its_history_is_whole(short):
    agent = a2c(short.markov_spec(), short.action_spec(), A2CConfig(hidden=(16,)))
    config = CompiledConfig(num_episodes=3, streams=2, unroll=4)
    tasks, keys = task_at(short, [0, 7]), jax.random.split(jax.random.key(0), 2)
    history = jax.device_get(train(agent, short, tasks, keys, config))
    assert history.observation.shape == (2, 2, 24, 5, 5, 2) and history.observation.dtype == np.int32
    assert np.isfinite(history.reward).all() and history.observation.max() > 0
    assert ((history.reward > 0) == (history.discount == 0)).all()
    ended = history.step_type == LAST
    assert ended.any() and (history.final_observation[~ended] == 0).all()


def test_tasks_have_ids_and_are_split(short):
    split = split_tasks(short.num_tasks, held_out=3, seed=0)
    tasks = task_at(short, split.train)
    assert tasks.goal.shape == (9, 5)
    generated = xland_rules.generate("trivial", 12, seed=0)
    np.testing.assert_array_equal(tasks.init_tiles, generated.init_tiles[list(split.train)])
    drawn = jax.vmap(short.sample_task)(jax.random.split(jax.random.key(0), 100))
    rows = {tuple(row) for row in np.asarray(drawn.init_tiles).reshape(100, -1).tolist()}
    assert rows <= {tuple(row) for row in generated.init_tiles.reshape(12, -1).tolist()} and len(rows) > 8
    assert np.isnan(short.bounds(one(short.tasks(), 0))).all()


def test_it_is_registered_and_described():
    assert "xland" in environment_names()
    about = json.loads(json.dumps(describe("xland")))
    assert (about["max_steps"], about["num_tasks"]) == (243, 1000)
    assert about["specs"]["observation"] == {
        "name": "view", "shape": [5, 5, 2], "dtype": "int32", "minimum": 0, "maximum": [12, 11]
    }  # fmt: skip
    assert about["specs"]["action"]["num_values"] == 6
    assert make("xland", **about["arguments"]) == make("xland")


def test_equal_settings_make_equal_environments(arena, tmp_path):
    assert make("xland", seed=1) == XLand(seed=1, max_steps=243)
    hash_of = {
        hash(make("xland", **kwargs)) for kwargs in ({}, {"seed": 1}, {"num_tasks": 5}, {"view_size": 7})
    }
    assert len(hash_of) == 4
    # A file is known by what it holds.
    xland_rules.save_npz(tmp_path / "copy.npz", jax.tree.map(np.asarray, arena.tasks()), {"what": "a copy"})
    copy = XLand(grid="R1-5x5", benchmark=str(tmp_path / "copy.npz"), max_steps=100)
    assert copy == arena and hash(copy) == hash(arena)
    fewer = XLand(grid="R1-5x5", benchmark=str(tmp_path / "copy.npz"), max_steps=100, num_tasks=4)
    assert fewer != arena and fewer.num_tasks == 4
    np.testing.assert_array_equal(fewer.tasks().goal, arena.tasks().goal[:4])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"view_size": 4}, "odd view_size"),
        ({"max_steps": 0}, "max_steps of at least 1"),
        ({"num_tasks": 0}, "num_tasks of at least 1"),
        ({"grid": "9x9"}, "rooms and size such as R1-9x9"),
        ({"grid": "R1-4x9"}, "5 to 255"),
        ({"grid": "R9-9x9"}, "xminigrid has no grid R9-9x9; known: .*R9-16x16"),
        ({"grid": "R1-5x5", "benchmark": "medium"}, "up to 10 objects .* the 9 free cells of R1-5x5"),
        ({"benchmark": "large"}, "one of trivial, small, medium or the path of a file, got 'large'"),
        ({"benchmark": "xminigrid:trivial-21k"}, "unpickles nothing.*load_benchmark"),
        ({"seed": -1}, "seed of rule sets"),
    ],
)
def test_bad_settings_are_answered_with_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        make("xland", **arguments)


def test_a_file_has_no_seed_and_no_more_tasks_than_it_holds(arena):
    with pytest.raises(ValueError, match="leave it at 0"):
        XLand(benchmark=arena.benchmark, seed=3)
    with pytest.raises(ValueError, match="holds 37 rule sets, fewer than num_tasks=38"):
        XLand(benchmark=arena.benchmark, num_tasks=38)


def test_without_the_extra_the_others_work_and_the_error_names_it(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "xminigrid"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "xminigrid", None)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "xminigrid" else find_spec(name, *rest),
    )
    assert "xland" not in environment_names() and "dark_room" in environment_names()
    with pytest.raises(ImportError, match=r"pip install 'limbeck\[xland\]'"):
        make("xland")
