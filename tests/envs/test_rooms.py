"""Rooms: equal to MiniGrid step by step and to the pixel, true to their goals, and what demonstrates them."""

import itertools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from limbeck.agents import CompiledConfig, make_agent, train
from limbeck.envs import (
    OBJECTS,
    Goal,
    facts_of,
    is_true,
    make,
    make_hosted,
    minigrid,
    read_facts,
    render,
    to_facts,
    to_gymnasium,
)
from minigrid.core.constants import COLOR_TO_IDX, IDX_TO_COLOR, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Key
from minigrid.minigrid_env import MiniGridEnv
from minigrid.wrappers import RGBImgPartialObsWrapper


LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
THINGS = {OBJECT_TO_IDX["key"]: Key, OBJECT_TO_IDX["ball"]: Ball, OBJECT_TO_IDX["box"]: Box}
PLAIN = ("symbols", "direction", "text")


class Copied(MiniGridEnv):
    """MiniGrid with the grid, the agent and the hands of a state of rooms."""

    def __init__(self, symbols, position, direction):
        self.given = symbols, position, direction
        space = MissionSpace(mission_func=lambda: "")
        super().__init__(mission_space=space, grid_size=len(symbols), max_steps=10_000)

    def _gen_grid(self, width, height):
        symbols, position, self.agent_dir = self.given
        self.agent_pos, self.grid = tuple(int(part) for part in position), Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for x, y in itertools.product(range(width), range(height)):
            kind, color, _ = symbols[x, y].tolist()
            if kind in THINGS:
                self.put_obj(THINGS[kind](IDX_TO_COLOR[color]), x, y)


def copied(state, environment):
    """The state of a reset as a MiniGrid environment."""
    room = np.array(environment.markov_observation(state)["symbols"])[7:, : environment.size]
    x, y = (int(part) for part in state.world.position)
    assert room[x, y].tolist() == [OBJECT_TO_IDX["agent"], 0, int(state.world.direction)]
    room[x, y] = OBJECT_TO_IDX["empty"], 0, 0
    world = Copied(room, (x, y), int(state.world.direction))
    world.reset()
    return world


def handy_action(world, rng):
    """An action that mostly does something."""
    cell = world.grid.get(*world.front_pos)
    likely = FORWARD if cell is None else PICKUP if cell.can_pickup() else LEFT
    if cell is None and world.carrying and rng.random() < 0.3:
        likely = DROP
    return likely if rng.random() < 0.6 else int(rng.choice(7, p=[0.25, 0.25, 0.2, 0.1, 0.1, 0.02, 0.08]))


def facts_by_hand(world):
    """What the agent sees, from the grid of objects and MiniGrid's view coordinates."""
    seen = {}
    for x, y in itertools.product(range(world.width), range(world.height)):
        thing = world.grid.get(x, y)
        if thing is not None and thing.type in ("key", "ball", "box") and world.in_view(x, y):
            seen[x, y] = (thing.color, thing.type)
    pairs = {
        frozenset((a, b)) for (p, a), (q, b) in itertools.combinations(seen.items(), 2)
        if abs(p[0] - q[0]) + abs(p[1] - q[1]) == 1
    }  # fmt: skip
    front = world.grid.get(*world.front_pos)
    held = world.carrying and (world.carrying.color, world.carrying.type)
    visible = {*seen.values(), *([held] if held else [])}
    return held, front and (front.color, front.type), pairs, visible


@pytest.fixture(scope="module")
def compiled():
    """family, size -> (environment, batched reset, scan over actions); compiled once each."""
    made = {}

    def get(family, size=6, objects=5):
        if (family, size) not in made:
            environment = make(
                "rooms", family=family, size=size, objects=objects, max_steps=1000, reward="none"
            )

            def play(task, state, actions):
                def step(state, action):
                    state, timestep = environment.step(jax.random.key(0), task, state, action)
                    return state, (state, timestep)

                return jax.lax.scan(step, state, actions)[1]

            made[family, size] = environment, jax.jit(jax.vmap(environment.reset)), jax.jit(play)
        return made[family, size]

    return get


def padded(actions, length=40):
    """So that one compiled scan plays them all; what is added does nothing."""
    return jnp.asarray(np.concatenate([actions, np.full(length - len(actions), DONE)]), jnp.int32)


def first(tree, i=0):
    return jax.tree.map(lambda x: x[i], tree)


@pytest.mark.parametrize(("family", "size"), [("place", 6), ("find", 8), ("lift", 6)])
def test_rooms_step_as_minigrid_does_and_know_what_is_true(compiled, family, size):
    environment, reset, play = compiled(family, size)
    rng = np.random.default_rng(0)
    for seed in range(2):
        key = jax.random.split(jax.random.key(seed), 1)
        states, timesteps = reset(key, jnp.full(1, seed + 4, jnp.int32))
        world, goal = copied(first(states), environment), environment.goals[seed + 4]
        frames, actions = [], []
        towards = environment.demonstrate(first(states), seed + 4).tolist()
        for _ in range(300):
            actions.append(towards.pop(0) if towards else handy_action(world, rng))
            theirs = world.step(actions[-1])[0]
            picture = world.get_frame(agent_pov=True, tile_size=8) if rng.random() < 0.2 else None
            carried = world.carrying.encode() if world.carrying else (1, 0, 0)
            frames.append(
                (theirs["image"], theirs["direction"], picture, carried, world.grid.encode(), world.agent_pos,
                 facts_by_hand(world), facts_of(world))
            )  # fmt: skip
        played, timesteps = jax.device_get(play(jnp.int32(seed + 4), first(states), jnp.array(actions)))
        markov = jax.vmap(environment.markov_observation)(played)["symbols"]
        ours = read_facts(timesteps.observation["symbols"])
        for t, (symbols, direction, picture, carried, grid, place, by_hand, facts) in enumerate(frames):
            assert np.array_equal(timesteps.observation["symbols"][t], symbols)
            assert timesteps.observation["direction"][t] == direction
            assert tuple(symbols[3, 6]) == carried and tuple(played.world.position[t]) == place
            if picture is not None:
                assert np.array_equal(timesteps.observation["image"][t], picture)
            room = np.array(markov[t])[7:, :size]
            assert room[place].tolist() == [OBJECT_TO_IDX["agent"], 0, direction]
            room[place] = 1, 0, 0
            assert np.array_equal(room, grid)
            assert to_facts(first(ours, t)) == facts
            pairs = {frozenset(pair) for pair in facts.pairs}
            assert (facts.holding, facts.facing, pairs, facts.visible) == by_hand
            assert played.true_reward[t] == is_true(goal, facts)
        assert np.array_equal(played.reached, np.cumsum(played.true_reward) > 0)
        assert (
            not timesteps.reward.any()
            and np.all(timesteps.discount == 1)
            and np.all(timesteps.step_type == 1)
        )
        assert played.reached[-1]


@pytest.mark.parametrize("family", ["find", "lift", "place"])
def test_episodes_begin_with_the_goal_s_objects_and_the_goal_not_true(compiled, family):
    environment, reset, _ = compiled(family)
    tasks = jnp.arange(400, dtype=jnp.int32) % environment.num_tasks
    states, timesteps = jax.device_get(reset(jax.random.split(jax.random.key(0), 400), tasks))
    grid = jax.vmap(environment.markov_observation)(states)["symbols"][:, 7:, :6]
    for i, room in enumerate(np.asarray(grid)):
        places = [tuple(place) for place in np.argwhere(np.isin(room[..., 0], list(THINGS)))]
        found = {
            place: (IDX_TO_COLOR[room[place][1]], THINGS[room[place][0]].__name__.lower()) for place in places
        }
        assert len(found) == len(set(found.values())) == 5
        goal = environment.goals[tasks[i]]
        assert set(goal.objects) <= set(found.values())
        assert not is_true(goal, to_facts(first(read_facts(timesteps.observation["symbols"]), i)))
        if family == "place":
            a, b = (place for place, thing in found.items() if thing in goal.objects)
            assert abs(a[0] - b[0]) + abs(a[1] - b[1]) > 1
        environment.task_spec().validate(np.asarray(tasks[i]))
        jax.tree.map(
            lambda spec, value: spec.validate(value),
            environment.observation_spec(),
            first(timesteps.observation, i),
        )
    assert len({tuple(place) for place in states.world.position.tolist()}) == 16
    assert set(states.world.direction.tolist()) == {0, 1, 2, 3}
    held = {tuple(cell) for cell in np.asarray(grid)[..., :2].reshape(-1, 2).tolist() if cell[0] in THINGS}
    assert len(held) == len(OBJECTS)


def test_a_true_goal_pays_one_and_terminates_and_the_horizon_truncates():
    environment = make("rooms", family="lift", max_steps=7, views=PLAIN)
    step = jax.jit(environment.step)
    for seed in range(30):
        state, timestep = environment.reset(jax.random.key(seed), jnp.int32(2))
        actions = environment.demonstrate(state, 2)
        if len(actions) <= 7:
            break
    assert set(timestep.observation) == set(PLAIN) and timestep.observation["text"].tolist()[:4] == [
        3,
        1,
        6,
        14,
    ]
    begin = state
    for action in actions:
        assert timestep.step_type < 2 and timestep.reward == 0
        state, timestep = step(jax.random.key(0), jnp.int32(2), state, action)
    assert (timestep.step_type, timestep.reward, timestep.discount) == (2, 1, 0)
    assert state.reached and environment.success(state)
    state = begin
    for _ in range(7):
        state, timestep = step(jax.random.key(0), jnp.int32(2), state, DONE)
    assert (timestep.step_type, timestep.reward, timestep.discount) == (2, 0, 1)
    assert not state.reached


@pytest.mark.parametrize("family", ["find", "lift", "place"])
def test_demonstrations_reach_their_goal_and_near_misses_another(compiled, family):
    environment, reset, play = compiled(family)
    numbers = np.arange(10) * 13 % environment.num_tasks
    states, _ = jax.device_get(
        reset(jax.random.split(jax.random.key(3), 10), jnp.asarray(numbers, jnp.int32))
    )
    misses = 0
    for i, number in enumerate(numbers):
        state, task = first(states, i), jnp.int32(number)
        actions = environment.demonstrate(state, number)
        played, _ = play(task, state, padded(actions))
        true = np.asarray(played.true_reward)[: len(actions)]
        assert true[-1] == 1 and not true[:-1].any()
        goal = environment.goals[number]
        for miss, actions in environment.near_misses(state, number):
            played, timesteps = jax.device_get(play(task, state, padded(actions)))
            assert not played.true_reward[: len(actions)].any()
            frames = [
                to_facts(first(read_facts(timesteps.observation["symbols"]), t)) for t in range(len(actions))
            ]
            hits = [is_true(miss, facts) for facts in frames]
            assert hits[-1] and not any(hits[:-1])
            differ = [a != b for x, y in zip(miss.objects, goal.objects) for a, b in zip(x, y)]
            assert sum(differ) == 1
            misses += 1
    assert misses >= 3


def test_no_shorter_actions_reach_the_goal(compiled):
    environment, reset, play = compiled("lift")
    many = jax.jit(
        jax.vmap(lambda task, state, actions: play(task, state, actions)[0].reached, (None, None, 0))
    )
    sequences = jnp.array(list(itertools.product(range(5), repeat=5)), jnp.int32)
    states, _ = jax.device_get(
        reset(jax.random.split(jax.random.key(8), 30), jnp.arange(30, dtype=jnp.int32) % 18)
    )
    lengths = set()
    for i in range(30):
        actions = environment.demonstrate(first(states, i), i % 18)
        reached = np.asarray(many(jnp.int32(i % 18), first(states, i), sequences))
        first_hit = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 6).min()
        assert first_hit == min(len(actions), 6)
        lengths.add(len(actions))
    assert len(lengths) > 3


def test_an_object_in_the_way_is_moved_and_an_absent_one_is_told(compiled):
    environment, reset, play = compiled("find")
    states, _ = jax.device_get(reset(jax.random.split(jax.random.key(0), 1), jnp.zeros(1, jnp.int32)))
    state = first(states)
    red_key, grey_ball, wall = (_code(*name) for name in (("red", "key"), ("grey", "ball"), ("grey", "wall")))
    grid = np.array(state.world.grid)
    grid[1:-1, 1:-1] = wall
    grid[1, 1:5] = _code("red", "empty"), grey_ball, _code("red", "empty"), red_key
    world = state.world._replace(grid=grid, position=np.array([1, 1], np.int32), direction=np.int32(0))
    state = state._replace(world=world)
    actions = environment.demonstrate(state, 0)
    assert actions.tolist() == [PICKUP, FORWARD, FORWARD]
    assert play(jnp.int32(0), state, padded(actions))[0].true_reward[:3].tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="'facing a red ball' cannot be reached"):
        environment.demonstrate(state, 1)


def _code(color, kind):
    return (OBJECT_TO_IDX[kind] * 6 + COLOR_TO_IDX[color]) * 3


@pytest.mark.parametrize(
    "id", ["MiniGrid-KeyCorridorS3R2-v0", "MiniGrid-LavaGapS5-v0", "BabyAI-GoToLocal-v0"]
)
def test_pictures_of_symbols_are_minigrid_s(id):
    environment = RGBImgPartialObsWrapper(gymnasium.make(id, disable_env_checker=True), tile_size=8)
    environment.reset(seed=0)
    rng, symbols, pictures = np.random.default_rng(0), [], []
    for _ in range(60):
        observation, *_ = environment.step(int(rng.integers(6)))
        symbols.append(environment.unwrapped.gen_obs()["image"])
        pictures.append(observation["image"])
    drawn = jax.jit(render)(jnp.asarray(np.stack(symbols)).reshape(6, 10, 7, 7, 3))
    assert drawn.dtype == np.uint8
    assert np.array_equal(np.asarray(drawn).reshape(60, 56, 56, 3), np.stack(pictures))


def test_pictures_of_another_shape_are_refused_and_other_sizes_drawn():
    environment = minigrid("MiniGrid-Fetch-5x5-N2-v0", seed=0, image="agent", tile_size=5, agent_view_size=3)
    observation = environment.reset().observation
    assert np.array_equal(render(jnp.asarray(observation["symbols"]), 5), observation["image"])
    with pytest.raises(ValueError, match=r"\[\.\.\., V, V, 3\], got the shape \[7, 6, 3\]"):
        render(jnp.zeros((7, 6, 3), jnp.uint8))


def test_a_hosted_room_tells_success():
    settings = {"family": "find", "max_steps": 20, "views": "symbols"}
    hosted, pure = make_hosted("rooms", seed=5, task=3, **settings), make("rooms", **settings)
    assert hosted.success() is False
    key, reset_key = jax.random.split(jax.random.key(5))
    state, _ = pure.reset(reset_key, jnp.int32(3))
    timestep = hosted.reset()
    assert set(timestep.observation) == {"symbols"}
    for action in pure.demonstrate(state, 3):
        assert not timestep.last()
        timestep = hosted.step(action)
    assert timestep.last() and timestep.reward == 1.0 and hosted.success() is True
    while not (timestep := hosted.step(DONE)).last():
        assert hosted.success() is True
    assert timestep.discount == 1.0 and hosted.success() is False


# gymnasium wants Discrete observations to be int64; `direction` is int32 like every integer that JAX is given.
@pytest.mark.filterwarnings("ignore:.*environment not having a spec")
@pytest.mark.filterwarnings("ignore:.*should be an int or np.int64")
def test_gymnasium_takes_rooms():
    check_env(to_gymnasium(make("rooms", views=PLAIN), task=0), skip_render_check=True)


def test_a_compiled_run_learns_from_what_is_markov():
    environment = make("rooms", max_steps=8, views="symbols")
    agent = make_agent("a2c", environment, hidden=(8,))
    history = train(
        agent, environment, jnp.array([0, 7]), jax.random.split(jax.random.key(0)), CompiledConfig(2, 2, 8)
    )
    assert history.reward.shape == (2, 2, 16) and history.observation["symbols"].shape == (2, 2, 16, 7, 7, 3)
    assert np.array_equal(history.reward > 0, np.asarray(history.discount) == 0)


def test_goals_and_tasks():
    find, place = make("rooms"), make("rooms", family="place")
    assert (find.num_tasks, make("rooms", family="lift").num_tasks, place.num_tasks) == (18, 18, 153)
    assert [goal.objects[0] for goal in find.goals] == list(OBJECTS)
    assert len({frozenset(goal.objects) for goal in place.goals}) == 153
    backwards = Goal("next_to", "grey", "box", "red", "key")
    assert set(place.goals[place.task_of(backwards)].objects) == set(backwards.objects)
    with pytest.raises(ValueError, match="The family find has goals with face"):
        find.task_of(backwards)
    assert make("rooms", views=["text", "image"]) == make("rooms", views=("image", "text")) != find


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "push"}, "one of find, lift, place, got 'push'"),
        ({"size": 4}, "at least 5 cells a side, walls included, got 4"),
        ({"family": "place", "objects": 1}, "2 to 15 objects and the agent, got 1"),
        ({"size": 8, "objects": 19}, "1 to 18 objects"),
        ({"max_steps": 0}, "max_steps of at least 1"),
        ({"views": ("pixels",)}, "one or more of image, symbols"),
        ({"reward": "vlm"}, "'true' or 'none', got 'vlm'"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        make("rooms", **settings)


def test_a_hosted_room_says_its_goal() -> None:
    room = make_hosted("rooms", seed=3, family="lift", task=4)
    assert getattr(room, "goal") == make("rooms", family="lift").goals[4].text()  # noqa: B009
    assert not hasattr(make_hosted("dark_room"), "goal")
