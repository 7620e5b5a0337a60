"""Screens: a phone with a home screen, apps and dialogs, and goals in words, in pure JAX."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._by_value import ByValue
from ._screen_paths import path_to, paths_beside
from ._screen_phone import NUM_ACTIONS, Phone, move, shown, start, symbols_of
from ._screen_symbols import CELLS, COLUMNS, LEVELS, MAX_PAGES, SHAPE, dialog_row
from ._screen_tiles import SIZE
from ._settings import check_reward, check_views
from ._types import restart, transition
from .screen_facts import NUM_APPS, NUM_COMMON, ScreenFacts, read_screen_facts
from .screen_goals import APP_NAME_LENGTH, NUM_APP_TOKENS, AppGoal, is_open, tokenize_app, tokenize_button
from .screen_render import render_screens


APP_SETS = {"common": NUM_COMMON, "diverse": NUM_APPS}
VIEWS = ("image", "symbols", "labels", "text")
# The overview has three cards, and an episode may begin inside another app.
_FEWEST = 4


class ScreensState(NamedTuple):
    """The phone, and what is true of it.

    Attributes:
      phone: what is installed and what is shown.
      task: int32, the number of the goal.
      true_reward: float32, 1 where the goal was true after the last action, whatever the reward paid.
      reached: bool, the goal was true after some action of the episode.
    """

    phone: Phone
    task: jax.Array
    true_reward: jax.Array
    reached: jax.Array


class Screens(ByValue):
    """A phone, and the goal that a named app be open.

    After AndroidEnv's tasks in Baumli et al., arXiv 2312.09187: *open common apps* has ten goals, *open diverse apps*
    sixty. Task: int32, the number of a goal in `goals`.

    An episode begins with `installed` apps, the goal's among them, in random places on the home screen's pages, on a
    random page, now and then inside another app or in the overview of recent apps; the goal's app is not open.
    Dialogs, which cover the screen until they are answered, and notifications, which do not matter, come at random.

    Actions: 0 to 11 tap a cell of the 3 x 4 grid, row by row; 12 and 13 swipe left (to the next page) and right; 14
    goes back, to the home screen's page; 15 to its first page. A tap opens the app whose icon is drawn in the cell:
    on the home screen, in the overview, and inside an app, where icons of others appear. Elsewhere in an app's content
    a tap scrolls, and a swipe turns to another part of it. Under a dialog only a tap on the row of its buttons has an
    effect: it ends the dialog.

    Observation, a dictionary of `views`:

    - `image`, uint8 `[96, 96, 3]`: the screen (`render_screens`).
    - `symbols`, uint8 `[6, 4, 3]` below 64: what the picture is drawn from.
    - `labels`, int32 `[12, 2]`: the words of what a tap on each cell touches, as an accessibility service gives them:
      names of apps, under a dialog its buttons ("deny", "allow"); 0 is padding.
    - `text`, int32 `[2]`: the words of the goal's app alone, in the tokens of `labels`.

    The reward is 1 where the app is open after the action (`is_open`), and the episode terminates there (discount 0);
    after `max_steps` it is truncated. With `reward="none"` nothing is paid and no episode terminates: what pays and
    ends it is a reward model. `ScreensState` tells the truth in either case.

    The Markov observation is `symbols`, `labels` and `text`, where the labels of all the pages of the home screen
    follow those of what is shown.

    Args:
      name: as `make` was asked for.
      apps: `common` or `diverse`, the goals.
      pages: of the home screen, from 1 to 6.
      installed: apps, from 4 to 12 a page and 60 in all.
      max_steps: the horizon.
      views: the keys to observe. Without `image` steps are several times as fast.
      reward: `true` or `none`.

    Attributes:
      goals: the goals, in the order of their task numbers, which are the apps' numbers.

    Raises:
      ValueError: for a setting that cannot be.
    """

    def __init__(
        self,
        name: str = "screens",
        apps: str = "common",
        pages: int = 3,
        installed: int = 36,
        max_steps: int = 16,
        views: Sequence[str] = VIEWS[1:],
        reward: str = "true",
    ):
        if apps not in APP_SETS:
            raise ValueError(f"The apps of screens are one of {', '.join(APP_SETS)}, got {apps!r}.")
        if not 1 <= pages <= MAX_PAGES:
            raise ValueError(f"A home screen has 1 to {MAX_PAGES} pages, got {pages}.")
        most = min(NUM_APPS, pages * CELLS)
        if not _FEWEST <= installed <= most:
            raise ValueError(f"On {pages} pages {_FEWEST} to {most} apps are installed, got {installed}.")
        if max_steps < 1:
            raise ValueError(f"Screens need max_steps of at least 1, got {max_steps}.")
        views, reward = check_views(views, VIEWS), check_reward(reward)
        self.name, self.apps, self.pages, self.installed = name, apps, pages, installed
        self.max_steps, self.views, self.reward = max_steps, views, reward
        self._settings = (name, apps, pages, installed, max_steps, frozenset(views), reward)
        self.num_tasks = APP_SETS[apps]

    @functools.cached_property
    def goals(self) -> tuple[AppGoal, ...]:
        return tuple(AppGoal(app) for app in range(self.num_tasks))

    def task_of(self, goal: AppGoal) -> int:
        """The number of a goal.

        Raises:
          ValueError: for an app that is none of this environment's goals.
        """
        if goal.app >= self.num_tasks:
            raise ValueError(f"'{goal.text()}' is no goal of the {self.apps} apps.")
        return goal.app

    def tasks(self) -> jax.Array:
        return jnp.arange(self.num_tasks, dtype=jnp.int32)

    def sample_task(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.num_tasks, jnp.int32)

    def reset(self, key: jax.Array, task: jax.Array) -> tuple[ScreensState, dm_env.TimeStep]:
        task = jnp.asarray(task, jnp.int32)
        phone = start(key, task, self.pages, self.installed)
        state = ScreensState(phone, task, jnp.float32(0), jnp.bool_(False))
        return state, restart(self._observe(state, symbols_of(phone)))

    def step(
        self, key: jax.Array, task: jax.Array, state: ScreensState, action: jax.Array
    ) -> tuple[ScreensState, dm_env.TimeStep]:
        del key
        phone = move(state.phone, action)
        symbols = symbols_of(phone)
        true = is_open(task, read_screen_facts(symbols))
        state = ScreensState(phone, state.task, true.astype(jnp.float32), state.reached | true)
        pays = true & (self.reward == "true")
        return state, transition(self._observe(state, symbols), pays, pays, phone.time >= self.max_steps)

    def facts(self, state: ScreensState) -> ScreenFacts:
        """What the screen shows; jittable."""
        return read_screen_facts(symbols_of(state.phone))

    def success(self, state: ScreensState) -> jax.Array:
        """Whether the goal was reached in the episode up to `state`, bool."""
        return state.reached

    def demonstrate(self, state: ScreensState, task: Any) -> np.ndarray:
        """The fewest actions, int32 `[T]`, T from 1, that open the app of `task`, dialogs on the way answered.

        Args:
          state: unbatched, of this environment.
          task: the number of any app, the episode's own or another.

        Raises:
          ValueError: where the app is not installed.
        """
        return path_to(state.phone, AppGoal(int(task)))

    def near_misses(self, state: ScreensState, task: Any) -> list[tuple[AppGoal, np.ndarray]]:
        """Demonstrations of the apps beside that of `task`, on the way of which that one is never open.

        Args:
          state: unbatched, of this environment.
          task: the number of an app.

        Returns:
          (goal, actions) for each app whose icon lies left, right, above or below on the same page; none where the
          app of `task` is not installed. The actions are those of `demonstrate`.
        """
        return paths_beside(state.phone, AppGoal(int(task)))

    def bounds(self, task: jax.Array) -> tuple[jax.Array, jax.Array]:
        """NaN, NaN: neither return is known."""
        del task
        return jnp.float32(jnp.nan), jnp.float32(jnp.nan)

    def task_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.int32, 0, self.num_tasks - 1, "goal")

    def observation_spec(self) -> dict[str, specs.Array]:
        every = {"image": specs.BoundedArray((SIZE, SIZE, 3), np.uint8, 0, 255, "image"), **_specs(CELLS)}
        return {key: every[key] for key in VIEWS if key in self.views}

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(NUM_ACTIONS, name="action")

    def reward_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> dict[str, specs.Array]:
        return _specs(CELLS * (1 + self.pages))

    def markov_observation(self, state: ScreensState) -> dict[str, jax.Array]:
        pages = jnp.asarray(_names())[state.phone.icons.reshape(-1)]
        labels = jnp.concatenate([_labels(state.phone), pages])
        return {
            "symbols": symbols_of(state.phone),
            "labels": labels,
            "text": jnp.asarray(_names())[state.task],
        }

    def _observe(self, state: ScreensState, symbols: jax.Array) -> dict[str, jax.Array]:
        make = {
            "image": lambda: render_screens(symbols),
            "symbols": lambda: symbols,
            "labels": lambda: _labels(state.phone),
            "text": lambda: jnp.asarray(_names())[state.task],
        }
        return {key: make[key]() for key in VIEWS if key in self.views}


def _specs(cells: int) -> dict[str, specs.Array]:
    top = NUM_APP_TOKENS - 1
    return {
        "symbols": specs.BoundedArray(SHAPE, np.uint8, 0, LEVELS - 1, "symbols"),
        "labels": specs.BoundedArray((cells, APP_NAME_LENGTH), np.int32, 0, top, "labels"),
        "text": specs.BoundedArray((APP_NAME_LENGTH,), np.int32, 0, top, "text"),
    }


def _labels(phone: Phone) -> jax.Array:
    """int32 `[12, 2]`: the words of what a tap on each cell touches."""
    cell, buttons = np.arange(CELLS), np.stack([tokenize_button("deny"), tokenize_button("allow")])
    answers = np.where((cell % COLUMNS < COLUMNS // 2)[:, None], buttons[0], buttons[1])
    button = (cell // COLUMNS == dialog_row(phone.dialog) + 1)[:, None]
    under = jnp.where(button, answers, 0)
    return jnp.where(phone.dialog > 0, under, jnp.asarray(_names())[shown(phone)])


@functools.cache
def _names() -> np.ndarray:
    """int32 `[NUM_APPS + 1, 2]`: the words of every app and of NO_APP; numpy, so that no trace owns them."""
    return np.stack([*(tokenize_app(app) for app in range(NUM_APPS)), np.zeros_like(tokenize_app(0))])
