"""Beeping box: nothing that is seen tells which box beeps, what is heard does, and what pays."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from limbeck.envs import AutoReset, describe, make, make_hosted, render, sound, to_gymnasium
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Box
from minigrid.minigrid_env import MiniGridEnv


LEFT, RIGHT, FORWARD, OPEN = range(4)
FACING = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
BOX = [OBJECT_TO_IDX["box"], COLOR_TO_IDX["yellow"]]
EVERYTHING = ("image", "symbols", "direction", "audio")
ROOM = make("beeping_box", views=EVERYTHING)
COPIES = 256


@pytest.fixture(scope="module")
def reset():
    return jax.jit(jax.vmap(ROOM.reset))


@pytest.fixture(scope="module")
def step():
    def steps(tasks, states, actions):
        return jax.vmap(ROOM.step, (None, 0, 0, 0))(jax.random.key(0), tasks, states, actions)

    return jax.jit(steps)


@pytest.fixture(scope="module")
def begun(reset):
    """Tasks, states and first time-steps of COPIES episodes."""
    tasks = jnp.arange(COPIES, dtype=jnp.int32) % 8
    return tasks, *reset(jax.random.split(jax.random.key(0), COPIES), tasks)


def one(tree, i):
    return jax.tree.map(lambda x: np.asarray(x)[i], tree)


def boxes_of(state):
    """The boxes' cells (x, y) of an unbatched state."""
    symbols = np.array(ROOM.markov_observation(state)["symbols"])[7:, :8]
    return [tuple(cell) for cell in np.argwhere((symbols[..., :2] == BOX).all(-1)).tolist()]


def play(begun, step, policy):
    """Which episodes pay under `policy(observations, t) -> actions`; those that have ended are left alone."""
    tasks, states, timesteps = begun
    running, reached = np.ones(COPIES, bool), np.zeros(COPIES, bool)
    for t in range(ROOM.max_steps):
        actions = policy(timesteps.observation, t)
        states, timesteps = step(tasks, states, jnp.asarray(actions, jnp.int32))
        reached |= running & (np.asarray(timesteps.reward) == 1)
        running &= np.asarray(timesteps.step_type) != 2
    return reached


def paths(begun, choose):
    """A policy that walks to the box of `choose(state)` and opens it."""
    states = begun[1]
    walks = []
    for i in range(COPIES):
        state = one(states, i)
        walks.append(ROOM.demonstrate(state._replace(beeping=np.array(choose(state)))))
    return lambda _, t: [walk[t] if t < len(walk) else LEFT for walk in walks]


def test_episodes_begin_with_boxes_that_do_not_touch_and_one_of_them_beeps(begun):
    _, states, timesteps = begun
    spec = ROOM.observation_spec()
    assert list(spec) == list(EVERYTHING)
    middle = 0
    for i in range(COPIES):
        state = one(states, i)
        boxes, agent = boxes_of(state), tuple(state.world.position.tolist())
        assert len(boxes) == 4 and agent not in boxes and min(agent) >= 1 and max(agent) <= 6
        assert all(max(abs(a - c), abs(b - d)) > 1 for (a, b), (c, d) in itertools.combinations(boxes, 2))
        assert tuple(state.beeping.tolist()) in boxes
        middle += len(set(boxes) & {(x, y) for x in (3, 4) for y in (3, 4)})
    assert middle and set(states.world.direction.tolist()) == {0, 1, 2, 3}
    for name, part in spec.items():
        part.validate(np.asarray(timesteps.observation[name][0]))
    for name, part in ROOM.markov_spec().items():
        part.validate(np.asarray(ROOM.markov_observation(one(states, 0))[name]))
    assert not np.asarray(timesteps.reward).any() and np.all(np.asarray(timesteps.step_type) == 0)


def test_which_box_beeps_cannot_be_seen_from_where_the_boxes_stand(reset):
    """Boxes that were drawn first tend to stand in the middle, or at a wall: the one that beeps does neither."""
    count = 20_000
    states = jax.jit(jax.vmap(lambda key: ROOM.reset(key, 0)[0]))(jax.random.split(jax.random.key(5), count))
    code = states.world.grid[0, states.beeping[0, 1], states.beeping[0, 0]]
    places = np.argwhere(np.asarray(states.world.grid == code)).reshape(count, 4, 3)[..., :0:-1]
    beeps = (places == np.asarray(states.beeping)[:, None]).all(-1)
    assert np.all(beeps.sum(axis=1) == 1)
    off = np.abs(places - 3.5).max(axis=-1)  # from the middle: 0.5, 1.5, or 2.5 beside a wall
    for distance in (0.5, 2.5):
        there = off == distance
        chance = there.mean(axis=1)
        deviation = np.sqrt((chance * (1 - chance)).sum())
        assert abs((there & beeps).sum() - chance.sum()) < 4 * deviation
    assert np.abs(beeps.sum(axis=0) - count / 4).max() < 4 * np.sqrt(count * 3 / 16)


def test_another_beeping_box_looks_the_same_and_sounds_otherwise(begun, step):
    tasks, states, _ = begun
    others = [boxes_of(one(states, i)) for i in range(COPIES)]
    beeping = np.asarray(states.beeping)
    moved = [
        next(box for box in boxes if box != tuple(b))
        for boxes, b in zip(others, beeping.tolist(), strict=True)
    ]
    twins = states._replace(beeping=jnp.asarray(moved, jnp.int32))
    rng, differ = np.random.default_rng(0), 0
    for _ in range(12):
        actions = jnp.asarray(rng.integers(0, 3, COPIES), jnp.int32)
        states, timesteps = step(tasks, states, actions)
        twins, theirs = step(tasks, twins, actions)
        for name in ("image", "symbols", "direction"):
            assert np.array_equal(timesteps.observation[name], theirs.observation[name])
        gap = np.abs(timesteps.observation["audio"] - theirs.observation["audio"]).max(axis=1)
        differ += np.mean(gap > 1e-3)
    assert differ > 11.5  # in nearly every step of every copy; two boxes may be alike to the ear for a moment
    pictures = render(timesteps.observation["symbols"])
    assert np.array_equal(pictures, timesteps.observation["image"])


class Copied(MiniGridEnv):
    """MiniGrid with the boxes and the agent of a state."""

    def __init__(self, state):
        self.given = state
        super().__init__(mission_space=MissionSpace(mission_func=lambda: ""), grid_size=8, max_steps=1000)

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for x, y in boxes_of(self.given):
            self.put_obj(Box("yellow"), x, y)
        self.agent_pos, self.agent_dir = (
            tuple(self.given.world.position.tolist()),
            int(self.given.world.direction),
        )


def test_it_steps_and_looks_as_minigrid_and_sounds_as_written_by_hand(begun, step):
    tasks, states, _ = begun
    rng = np.random.default_rng(1)
    worlds = [Copied(one(states, i)) for i in range(6)]
    beeping = np.asarray(states.beeping)
    silent = dict.fromkeys(range(6), False)
    for world in worlds:
        world.reset()
    bumps = opened = 0
    for _ in range(60):
        actions = rng.choice(4, COPIES, p=[0.2, 0.2, 0.55, 0.05])
        before = [(world.agent_pos, world.agent_dir) for world in worlds]
        fronts = [world.grid.get(*world.front_pos) for world in worlds]
        for i, front in enumerate(fronts):
            if front is not None and front.type == "box" and rng.random() < 0.3:
                actions[i] = OPEN
        states, timesteps = step(tasks, states, jnp.asarray(actions, jnp.int32))
        for i, world in enumerate(worlds):
            action = int(actions[i])
            theirs = world.step(5 if action == OPEN else action)[0]
            assert np.array_equal(timesteps.observation["symbols"][i], theirs["image"])
            assert int(timesteps.observation["direction"][i]) == theirs["direction"]
            frame = world.get_frame(agent_pov=True, tile_size=8)
            assert np.array_equal(timesteps.observation["image"][i], frame)

            opens = action == OPEN and fronts[i] is not None and fronts[i].type == "box"
            target = (before[i][0] + FACING[before[i][1]]).tolist() == beeping[i].tolist()
            silent[i] |= opens and target
            bump = action == FORWARD and fronts[i] is not None
            wave = np.zeros(800)
            heard = {"turn": action in (LEFT, RIGHT), "step": action == FORWARD and not bump, "bump": bump,
                     "open": opens, "success": opens and target}  # fmt: skip
            for name, happened in heard.items():
                wave += happened * sound.EVENT_SOUNDS[sound.EVENTS.index(name)]
            if not silent[i]:
                way = beeping[i] - world.agent_pos
                gain = 1 / (1 + np.hypot(*way) / 2)
                bright = (1 + way @ FACING[world.agent_dir] / np.hypot(*way)) / 2
                fundamental, overtones = sound.BEACON_SOUNDS[int(tasks[i])]
                wave += gain * (fundamental + bright * overtones)
            np.testing.assert_allclose(timesteps.observation["audio"][i], np.clip(wave, -1, 1), atol=2e-6)
            bumps, opened = bumps + bump, opened + opens
    assert bumps > 5 and opened > len(worlds) and any(silent.values())


def facing(state, box):
    """The state with the agent in front of a box, looking at it."""
    for turn, (dx, dy) in enumerate(FACING.tolist()):
        place = (box[0] - dx, box[1] - dy)
        if state.world.grid[place[1], place[0]] == state.world.grid[tuple(state.world.position[::-1])]:
            world = state.world._replace(position=np.array(place, np.int32), direction=np.int32(turn))
            return state._replace(world=world)
    raise AssertionError("no way to the box")


def test_what_pays_and_what_ends_an_episode(begun):
    _, states, _ = begun
    step = jax.jit(ROOM.step)
    state = one(states, 0)
    beeping = tuple(state.beeping.tolist())
    silent = next(box for box in boxes_of(state) if box != beeping)
    late = np.int32(ROOM.max_steps - 1)
    table = [  # box in front, action, steps taken -> reward, step type, discount, success
        (beeping, OPEN, 0, 1, 2, 0, True),
        (silent, OPEN, 0, 0, 2, 0, False),
        (beeping, OPEN, late, 1, 2, 0, True),
        (silent, OPEN, late, 0, 2, 0, False),
        (beeping, FORWARD, 0, 0, 1, 1, False),
        (beeping, LEFT, 0, 0, 1, 1, False),
        (beeping, FORWARD, late, 0, 2, 1, False),
    ]
    for box, action, time, reward, kind, discount, success in table:
        start = facing(state, box)._replace(time=np.int32(time))
        after, timestep = step(jax.random.key(0), jnp.int32(0), start, jnp.int32(action))
        assert (float(timestep.reward), int(timestep.step_type), float(timestep.discount)) == (
            reward,
            kind,
            discount,
        )
        assert bool(ROOM.success(after)) == success and len(boxes_of(one(after, ...))) == 4 - (action == OPEN)
        marked = np.array(ROOM.markov_observation(after)["symbols"])[7:, :8, 2] == 1
        marked &= np.array(ROOM.markov_observation(after)["symbols"])[7:, :8, 0] == OBJECT_TO_IDX["box"]
        assert np.argwhere(marked).tolist() == ([] if success else [list(beeping)])
    # Who steps on beyond the end is paid for the beeping box once.
    found, _ = step(jax.random.key(0), jnp.int32(0), facing(state, beeping), jnp.int32(OPEN))
    _, timestep = step(jax.random.key(0), jnp.int32(0), facing(one(found, ...), silent), jnp.int32(OPEN))
    assert float(timestep.reward) == 0 and int(timestep.step_type) == 2


def test_who_knows_wins_always_and_who_only_sees_by_chance(begun, step):
    assert play(begun, step, paths(begun, lambda state: state.beeping)).all()
    rng = np.random.default_rng(0)
    share = play(begun, step, paths(begun, lambda state: rng.permutation(boxes_of(state))[0])).mean()
    assert abs(share - 1 / 4) < 3 * np.sqrt(3 / 16 / COPIES)


def test_who_only_hears_finds_the_box(begun, step):
    """Hill-climbing by ear, knowing nothing of the grid: turn until it is bright, go while it is not beside."""
    tasks = np.asarray(begun[0])
    readers = [np.linalg.pinv(np.concatenate([sound.EVENT_SOUNDS, beacon]).T.astype(float))
               for beacon in sound.BEACON_SOUNDS]  # fmt: skip
    rng = np.random.default_rng(0)
    detour = np.zeros(COPIES, int)

    def policy(observation, t):
        waves, actions = np.asarray(observation["audio"], float), []
        for i, wave in enumerate(waves):
            levels = readers[tasks[i]] @ wave
            if levels[-2] < 0.01:  # the episode is over
                actions.append(LEFT)
                continue
            distance, cosine = 2 * (1 / levels[-2] - 1), 2 * levels[-1] / levels[-2] - 1
            if levels[2] > 0.5:
                detour[i] = 2  # it bumped into another box or a wall: a turn at random, and a step
            if abs(distance - 1) < 0.1 and cosine > 0.9:
                actions.append(OPEN)
            elif detour[i]:
                detour[i] -= 1
                actions.append(FORWARD if detour[i] == 0 else rng.choice([LEFT, RIGHT]))
            else:
                actions.append(FORWARD if cosine > 0.7 else LEFT)
        return actions

    share = play(begun, step, policy).mean()
    assert share > 0.8, share


def test_it_runs_vmapped_behind_autoreset_and_hosted():
    room = make("beeping_box", size=6, boxes=2, max_steps=3, views=("direction", "audio"))
    wrapped = AutoReset(room)

    @jax.jit
    def run(key):
        tasks = jnp.arange(5, dtype=jnp.int32)
        states, _ = jax.vmap(wrapped.reset)(jax.random.split(key, 5), tasks)

        def one_step(states, key):
            actions = jax.random.randint(key, (5,), 0, 3)
            return jax.vmap(wrapped.step)(jax.random.split(key, 5), tasks, states, actions)

        return jax.lax.scan(one_step, states, jax.random.split(key, 9))[1]

    timesteps = run(jax.random.key(0))
    assert timesteps.observation["audio"].shape == (9, 5, 800)
    assert np.array_equal(timesteps.step_type[:, 0] == 2, np.arange(9) % 3 == 2) and np.all(
        timesteps.discount == 1
    )
    hosted = make_hosted("beeping_box", seed=3, task=2, views="symbols,audio")
    first = hosted.reset()
    assert set(first.observation) == {"symbols", "audio"} and hosted.task == 2


# gymnasium wants Discrete observations to be int64; `direction` is int32 like every integer that JAX is given.
@pytest.mark.filterwarnings("ignore:.*environment not having a spec")
@pytest.mark.filterwarnings("ignore:.*should be an int or np.int64")
def test_gymnasium_takes_it():
    check_env(to_gymnasium(make("beeping_box"), task=0), skip_render_check=True)


def test_what_it_says_of_itself_and_refuses():
    about = describe("beeping_box")
    assert about["num_tasks"] == 8 and about["specs"]["action"]["num_values"] == 4
    assert about["specs"]["observation"]["audio"]["shape"] == [800]
    assert np.isnan(ROOM.bounds(jnp.int32(0))).all()
    assert make("beeping_box") == make("beeping_box") != make("beeping_box", boxes=3)
    for settings, match in (
        ({"boxes": 5}, "room of 8 cells a side 2 to 4 boxes stand apart, got 5"),
        ({"boxes": 1}, "got 1"),
        ({"size": 5, "boxes": 2}, "room of 5 cells a side"),
        ({"max_steps": 0}, "max_steps of at least 1, got 0"),
        ({"views": ("audio", "smell")}, "views are one or more of"),
    ):
        with pytest.raises(ValueError, match=match):
            make("beeping_box", **settings)
