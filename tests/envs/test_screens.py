"""Screens: what every action does, demonstrations held against a search, near misses, and what learns on it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from limbeck.agents import CompiledConfig, make_agent, train
from limbeck.envs import (
    APPS,
    AppGoal,
    SampledTasks,
    is_open,
    make,
    make_hosted,
    read_screen_facts,
    render_screens,
    to_gymnasium,
    tokenize_app,
)
from limbeck.envs._screen_symbols import APP, HOME, RECENTS, unpack
from limbeck.envs.screen_facts import NO_APP, NO_PAGE
from limbeck.envs.screen_goals import APP_WORDS


LEFT, RIGHT, BACK, TO_HOME = 12, 13, 14, 15
PHONE = make("screens", apps="diverse")
SMALL = make("screens", apps="diverse", pages=2, installed=14)
reset = functools.cache(lambda environment: jax.jit(environment.reset))
step = functools.cache(lambda environment: jax.jit(environment.step))


@functools.cache
def walks(episodes=300, steps=40):
    """Random walks on: states and observations before and after, actions; leaves `[episodes, steps, …]`."""

    def one(key):
        of_task, of_reset, of_walk = jax.random.split(key, 3)
        task = PHONE.sample_task(of_task)
        state, first = PHONE.reset(of_reset, task)

        def move(carry, key):
            state, seen = carry
            # Taps and the others alike, so that a walk comes about.
            choice = jax.random.randint(key, (), 0, 32)
            action = jnp.where(choice < 12, choice, 12 + choice % 4)
            after, timestep = PHONE.step(key, task, state, action)
            return (after, timestep.observation), (state, seen, action, after, timestep)

        _, rows = jax.lax.scan(move, (state, first.observation), jax.random.split(of_walk, steps))
        return state, rows

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), episodes)))


def test_actions_do_what_they_say():
    _, (before, seen, actions, after, timestep) = walks()
    old, new = unpack(seen["symbols"]), unpack(timestep.observation["symbols"])
    pages, tap, cell = after.phone.page, actions < 12, np.minimum(actions, 11)
    target = np.take_along_axis(old.apps.reshape(*actions.shape, 12), cell[..., None], -1)[..., 0]
    free = old.dialog == 0

    opens = free & tap & (target != NO_APP)
    assert opens.sum() > 500 and (new.mode[opens] == APP).all() and (new.opened[opens] == target[opens]).all()
    for mode in (HOME, APP, RECENTS):
        assert (opens & (old.mode == mode)).sum() >= 10  # How many depends on JAX's random numbers.
    leaves = free & (actions >= BACK)
    assert (new.mode[leaves] == HOME).all() and (pages == before.phone.page)[leaves & (actions == BACK)].all()
    assert (pages[free & (actions == TO_HOME)] == 0).all()
    for action, way in ((LEFT, 1), (RIGHT, -1)):
        swipes = free & (old.mode == HOME) & (actions == action)
        np.testing.assert_array_equal(pages[swipes], (old.page[swipes] + way).clip(0, 2))
    # Whatever is left changes neither the page nor the mode, but inside an app perhaps its content.
    rest = ~opens & ~(free & ((actions >= BACK) | ((old.mode == HOME) & (actions >= LEFT))))
    for one, other in ((old.mode, new.mode), (before.phone.page, pages), (old.opened, new.opened)):
        np.testing.assert_array_equal(one[rest], other[rest])
    content = (old.looks == new.looks).all((-1, -2))
    scrolls = (
        free & (old.mode == APP) & ~opens & ((tap & (cell >= 4)) | (actions == LEFT) | (actions == RIGHT))
    )
    assert not content[scrolls].any() and content[rest & ~scrolls].all()
    assert (old.layout == new.layout)[scrolls & tap].all() and (old.layout != new.layout)[
        scrolls & ~tap
    ].any()


def test_dialogs_end_by_a_tap_on_their_buttons_alone():
    _, (_, seen, actions, _, timestep) = walks()
    old, new = unpack(seen["symbols"]), unpack(timestep.observation["symbols"])
    covered, buttons = old.dialog > 0, (old.dialog - 1) % 2 + 1
    pressed = covered & (actions < 12) & (actions // 4 == buttons)
    assert pressed.sum() > 200 and (new.dialog[pressed] == 0).all() and (new.asking[pressed] == NO_APP).all()
    kept = covered & ~pressed
    for name in ("dialog", "asking", "mode", "opened", "apps", "looks"):
        np.testing.assert_array_equal(getattr(old, name)[kept], getattr(new, name)[kept])
    begun = ~covered & (new.dialog > 0)
    assert 0.04 < begun.sum() / (~covered).sum() < 0.09 and set(np.unique(new.dialog)) == set(range(7))


def test_labels_are_the_words_of_what_can_be_touched():
    _, (_, seen, *_) = walks()
    fields = unpack(seen["symbols"])
    words = np.concatenate([[tokenize_app(app) for app in range(60)], np.zeros((1, 2), int)])
    covered = fields.dialog > 0
    apps = fields.apps.reshape(*covered.shape, 12)
    np.testing.assert_array_equal(seen["labels"][~covered], words[apps[~covered]])
    deny, allow = (APP_WORDS.index(word) + 1 for word in ("deny", "allow"))
    for labels, dialog in zip(seen["labels"][covered], fields.dialog[covered], strict=True):
        expected = np.zeros((12, 2), int)
        row = ((dialog - 1) % 2 + 1) * 4
        expected[row : row + 2, 0], expected[row + 2 : row + 4, 0] = deny, allow
        np.testing.assert_array_equal(labels, expected)


def test_truth_is_what_the_symbols_show_and_the_goal_is_often_seen_without_being_open():
    start, (_, _, _, after, timestep) = walks()
    facts = read_screen_facts(timestep.observation["symbols"])
    task = np.asarray(start.task)[:, None]
    true = is_open(task, facts)
    np.testing.assert_array_equal(after.true_reward, true.astype(np.float32))
    np.testing.assert_array_equal(after.reached, np.maximum.accumulate(true, 1))
    np.testing.assert_array_equal(timestep.reward, true.astype(np.float32))
    np.testing.assert_array_equal(timestep.discount == 0, true)
    # Under a dialog the app may be there and is not open.
    held = (after.phone.opened == task) & (after.phone.mode == APP)
    assert (held & ~true).sum() > 10 and (held >= true).all()
    fields = unpack(timestep.observation["symbols"])
    inside = (fields.apps == task[..., None, None]).any((-1, -2)) & (fields.mode == APP)
    for shown in (inside & ~true, fields.notified == task, fields.asking == task):
        assert 0.01 < shown.mean() < 0.3
    assert ((facts.page == NO_PAGE) == (fields.mode != HOME)).all()


@pytest.mark.parametrize("pages, installed", [(1, 4), (3, 36), (6, 60)])
def test_an_episode_begins_with_the_goals_app_installed_and_not_open(pages, installed):
    phone = make("screens", apps="diverse", pages=pages, installed=installed)
    tasks = jnp.tile(phone.tasks(), 10)
    keys = jax.random.split(jax.random.key(1), len(tasks))
    state, timestep = jax.device_get(jax.jit(jax.vmap(phone.reset))(keys, tasks))
    icons = state.phone.icons.reshape(len(tasks), -1)
    for row, task in zip(icons, tasks, strict=True):
        present = row[row != NO_APP]
        assert len(set(present.tolist())) == len(present) == installed and task in present
    assert not is_open(np.asarray(tasks), read_screen_facts(timestep.observation["symbols"])).any()
    assert set(np.unique(state.phone.page)) == set(range(pages))
    modes = np.bincount(unpack(timestep.observation["symbols"]).mode) / len(tasks)
    np.testing.assert_allclose(modes, [0.6, 0.25, 0.15], atol=0.06)
    # The goal's app lies in every cell alike.
    places = np.argwhere(icons == np.asarray(tasks)[:, None])[:, 1]
    assert len(places) == len(tasks)
    assert (
        np.abs(np.bincount(places, minlength=icons.shape[1]) / len(tasks) - 1 / icons.shape[1]).max() < 0.08
    )
    cards = state.phone.cards
    assert (np.sort(cards, 1)[:, 1:] != np.sort(cards, 1)[:, :-1]).all()
    assert (cards[..., None] == icons[:, None]).any(-1).all()


def run(environment, state, task, actions):
    """The truth about `task` after every action."""
    truths = []
    for action in actions:
        state, _ = step(environment)(jax.random.key(9), task, state, action)
        truths.append(bool(is_open(task, environment.facts(state))))
    return truths


@functools.cache
def _children(environment):
    def every(task, state):
        after, _ = jax.vmap(lambda action: environment.step(jax.random.key(0), task, state, action))(
            jnp.arange(16)
        )
        return after, jax.vmap(environment.facts)(after)

    return jax.jit(jax.vmap(every, (None, 0)))


def fewest(environment, state, task, most):
    """Steps to the goal by breadth-first search over all that any action leads to; None beyond `most`."""
    level, known = [jax.device_get(state)], set()
    for depth in range(1, most + 1):
        following = []
        for first in range(0, len(level), 64):
            part = level[first : first + 64]
            stacked = jax.tree.map(lambda *x: np.stack(x), *part, *[part[0]] * (64 - len(part)))
            after, facts = jax.device_get(_children(environment)(task, stacked))
            if is_open(task, facts)[: len(part)].any():
                return depth
            for i, j in np.ndindex(len(part), 16):
                child = jax.tree.map(lambda x: x[i, j], after)  # noqa: B023
                if (key := b"".join(np.asarray(x).tobytes() for x in child.phone)) not in known:
                    known.add(key)
                    following.append(child)
        level = following
    return None


def test_demonstrations_are_the_shortest_of_all_paths():
    lengths = []
    for seed in range(40):
        task = seed % 60
        state, _ = reset(SMALL)(jax.random.key(seed), task)
        actions = SMALL.demonstrate(state, task)
        assert actions.dtype == np.int32 and len(actions) >= 1
        truths = run(SMALL, state, task, actions)
        assert truths[-1] and not any(truths[:-1])
        if len(actions) <= 4:
            assert fewest(SMALL, state, task, len(actions)) == len(actions)
            lengths.append(len(actions))
    assert set(lengths) == {1, 2, 3, 4}


def test_demonstrations_of_other_apps_and_of_one_that_is_open():
    state, _ = reset(PHONE)(jax.random.key(0), 5)
    installed = set(np.asarray(state.phone.icons).ravel().tolist())
    for app in (4, 11, 30, 59):
        if app in installed:
            assert run(PHONE, state, app, PHONE.demonstrate(state, app))[-1]
    for action in PHONE.demonstrate(state, 5):
        state, _ = step(PHONE)(jax.random.key(0), 5, state, action)
    assert run(PHONE, state, 5, PHONE.demonstrate(state, 5))[-1]
    absent = min(set(range(60)) - installed)
    with pytest.raises(ValueError, match="cannot be reached: the app is not installed"):
        PHONE.demonstrate(state, absent)
    assert PHONE.near_misses(state, absent) == []


def test_near_misses_open_a_neighbour_and_never_the_goal():
    counts = []
    for seed in range(12):
        task = 5 * seed
        state, _ = reset(PHONE)(jax.random.key(100 + seed), task)
        icons = np.asarray(state.phone.icons).reshape(3, 3, 4)
        page, row, column = np.argwhere(icons == task)[0]
        misses = PHONE.near_misses(state, task)
        for goal, actions in misses:
            other_page, y, x = np.argwhere(icons == goal.app)[0]
            assert other_page == page and abs(y - row) + abs(x - column) == 1
            assert not any(run(PHONE, state, task, actions)) and run(PHONE, state, goal.app, actions)[-1]
        counts.append(len(misses))
        assert len(misses) == sum(map(int, (row > 0, row < 2, column > 0, column < 3)))
    assert min(counts) >= 2
    # Where the goal lies under a dialog, the way to a neighbour would show it.
    hidden = state._replace(
        phone=state.phone._replace(mode=np.int32(APP), opened=np.int32(task), dialog=np.int32(1))
    )
    assert PHONE.near_misses(hidden, task) == []


@pytest.mark.parametrize("apps", ["common", "diverse"])
def test_a_random_policy_rarely_succeeds_and_demonstrations_always_do(apps):
    phone = make("screens", apps=apps)

    def one(key):
        of_task, of_reset, of_walk = jax.random.split(key, 3)
        task = phone.sample_task(of_task)
        state, _ = phone.reset(of_reset, task)
        actions = jax.random.randint(of_walk, (phone.max_steps,), 0, 16)
        state, _ = jax.lax.scan(lambda s, a: (phone.step(of_walk, task, s, a)[0], None), state, actions)
        return task, phone.success(state)

    task, success = jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), 3000)))
    assert 0.04 < success.mean() < 0.1 and set(task.tolist()) == set(range(10 if apps == "common" else 60))
    for seed in range(30):
        task = seed % phone.num_tasks
        state, _ = reset(phone)(jax.random.key(seed), task)
        assert len(phone.demonstrate(state, task)) <= phone.max_steps


def test_what_happens_is_known_to_the_state_and_not_to_the_keys():
    state, _ = reset(PHONE)(jax.random.key(4), 3)
    ends = []
    for seed in (0, 1):
        now = state
        for action in (LEFT, 3, 5, BACK, 7):
            now, timestep = step(PHONE)(jax.random.key(seed), 3, now, action)
        ends.append(timestep.observation["symbols"])
    np.testing.assert_array_equal(*ends)


def test_images_are_drawn_from_the_symbols_and_views_are_chosen():
    phone = make("screens", views=("image", "symbols", "labels", "text"))
    state, timestep = reset(phone)(jax.random.key(2), 1)
    assert list(phone.observation_spec()) == ["image", "symbols", "labels", "text"]
    assert set(timestep.observation) == set(phone.observation_spec())
    assert list(make("screens", views="symbols").observation_spec()) == ["symbols"]
    for action in (0, 6, BACK):
        np.testing.assert_array_equal(
            timestep.observation["image"], render_screens(timestep.observation["symbols"])
        )
        for name, spec in phone.observation_spec().items():
            spec.validate(np.asarray(timestep.observation[name]))
        state, timestep = step(phone)(jax.random.key(2), 1, state, action)
    assert np.asarray(timestep.observation["text"]).tolist() == tokenize_app(1).tolist()


def test_the_markov_observation_adds_the_labels_of_every_page():
    state, timestep = reset(PHONE)(jax.random.key(2), 1)
    markov = jax.device_get(PHONE.markov_observation(state))
    for name, spec in PHONE.markov_spec().items():
        spec.validate(markov[name])
    np.testing.assert_array_equal(markov["labels"][:12], timestep.observation["labels"])
    for app, label in zip(np.asarray(state.phone.icons).ravel(), markov["labels"][12:], strict=True):
        assert label.tolist() == tokenize_app(app).tolist()


def test_a_hidden_reward_neither_pays_nor_ends_and_time_truncates():
    phone = make("screens", reward="none", max_steps=9)
    state, _ = reset(phone)(jax.random.key(5), 2)
    actions = [*phone.demonstrate(state, 2).tolist(), *[TO_HOME] * 9][:9]
    for action in actions:
        state, timestep = step(phone)(jax.random.key(5), 2, state, action)
        assert timestep.reward == 0 and timestep.discount == 1
    assert state.reached and phone.success(state) and timestep.last()


def test_adapters_sampled_tasks_and_compiled_training():
    check_env(to_gymnasium(make("screens", max_steps=5)), skip_render_check=True)
    hosted = make_hosted("screens", apps="diverse", max_steps=3)
    timestep = hosted.reset()
    while not timestep.last():
        timestep = hosted.step(BACK)
    assert timestep.reward == 0.0 and timestep.discount == 1.0 and hosted.success() is False

    sampled = SampledTasks(make("screens", apps="diverse", max_steps=4), [3, 41])
    keys, config = jax.random.split(jax.random.key(0), 1), CompiledConfig(8, 3, 8)
    history = train(make_agent("a2c", sampled, hidden=(8,)), sampled, sampled.tasks(), keys, config)
    assert history.observation["symbols"].shape == (1, 3, 32, 6, 4, 3)
    wanted = {tuple(text) for text in np.asarray(history.observation["text"]).reshape(-1, 2).tolist()}
    assert wanted == {tuple(tokenize_app(3).tolist()), tuple(tokenize_app(41).tolist())}


def test_goals_and_what_is_refused():
    assert [goal.name for goal in make("screens").goals] == list(APPS[:10])
    assert PHONE.num_tasks == len(PHONE.goals) == 60 and PHONE.task_of(AppGoal(41)) == 41
    with pytest.raises(ValueError, match="'Screenshot of Notes on Android' is no goal of the common apps"):
        make("screens").task_of(AppGoal(10))
    for settings, match in (
        ({"apps": "rare"}, "common, diverse, got 'rare'"), ({"pages": 7}, "1 to 6 pages, got 7"),
        ({"installed": 37}, "On 3 pages 4 to 36 apps are installed, got 37"), ({"max_steps": 0}, "at least 1, got 0"),
        ({"views": ("sound",)}, "one or more of image"), ({"reward": "some"}, "'true' or 'none'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            make("screens", **settings)
