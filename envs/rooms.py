"""Rooms: a walled room of coloured objects with MiniGrid's dynamics, and goals in words, in pure JAX."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._by_value import ByValue
from ._rooms_search import search_demonstration, search_near_misses
from ._rooms_start import start
from ._rooms_views import observe_view, view_specs, whole_room, whole_room_spec
from ._rooms_world import ACTIONS, World, move, symbols_of, view
from ._settings import check_reward, check_views
from ._types import restart, transition
from .facts import NOTHING_ID, NUM_OBJECTS, OBJECTS, FactArrays, goal_holds, read_facts
from .goals import GOAL_LENGTH, NUM_GOAL_TOKENS, Goal, tokenize_goal


# The predicate of each family's goals.
FAMILIES = {"find": "face", "lift": "hold", "place": "next_to"}
VIEWS = ("image", "symbols", "direction", "text")


class RoomsState(NamedTuple):
    """Where everything is, and what is true of it.

    Attributes:
      world: the grid, the agent's place and what it carries.
      task: int32, the number of the goal.
      true_reward: float32, 1 where the goal was true after the last action, whatever the reward paid.
      reached: bool, the goal was true after some action of the episode.
      time: int32, steps taken.
    """

    world: World
    task: jax.Array
    true_reward: jax.Array
    reached: jax.Array
    time: jax.Array


class Rooms(ByValue):
    """A walled room with keys, balls and boxes, and a goal in words about one or two of them.

    Task: int32, the number of a goal in `goals`. There are three families: `find` (face an object), `lift` (hold
    one) and `place` (two objects next to each other on the floor). An episode begins with `objects` of
    different (colour, kind) and the agent in random places; the goal's are always among them, and the goal is not
    true: its object is not faced, its two objects are not neighbours, seen or not.

    Actions are MiniGrid's seven (left, right, forward, pick up, drop, toggle, done) with MiniGrid's dynamics: a box
    that is toggled opens and, being empty, is gone, which may put the goal out of reach. The last does nothing.

    Observation, a dictionary of `views`:

    - `image`, uint8 `[56, 56, 3]`: MiniGrid's picture of what the agent sees (`render`).
    - `symbols`, uint8 `[7, 7, 3]`: the same as (type, colour, state) at x, y.
    - `direction`, int32: where the agent looks, 0 right, 1 down, 2 left, 3 up.
    - `text`, int32 `[8]`: the goal's words in the state style (`tokenize_goal`).

    The reward is 1 where the goal is true after the action, by what the agent sees (`Facts`), and the episode
    terminates there (discount 0); after `max_steps` it is truncated. With `reward="none"` nothing is paid and no
    episode terminates: what pays and ends it is a reward model. `RoomsState` tells the truth in either case.

    The Markov observation is `symbols`, `direction` and `text`, where below the view's 7 rows of x there follow those
    of the whole room, with the agent in it as MiniGrid's `FullyObsWrapper` shows it.

    Args:
      name: as `make` was asked for.
      family: `find`, `lift` or `place`.
      size: cells a side, walls included, at least 5; 6 and 8 are usual.
      objects: how many, from 1 (`place`: 2) to 18.
      max_steps: the horizon.
      views: the keys to observe. Without `image` steps are several times as fast.
      reward: `true` or `none`.

    Attributes:
      goals: the goals, in the order of their task numbers: 18 in `OBJECTS`' order, or for `place` all 153 pairs
        (which of a pair is named first makes no difference to what is true).

    Raises:
      ValueError: for a setting that cannot be.
    """

    def __init__(
        self,
        name: str = "rooms",
        family: str = "find",
        size: int = 6,
        objects: int = 4,
        max_steps: int = 64,
        views: Sequence[str] = VIEWS,
        reward: str = "true",
    ):
        if family not in FAMILIES:
            raise ValueError(f"A family of rooms is one of {', '.join(FAMILIES)}, got {family!r}.")
        if size < 5:
            raise ValueError(f"A room has at least 5 cells a side, walls included, got {size}.")
        least, most = 1 + (family == "place"), min(NUM_OBJECTS, (size - 2) ** 2 - 1)
        if not least <= objects <= most:
            raise ValueError(
                f"A room of the family {family} with {size} cells a side holds {least} to {most} objects and the "
                f"agent, got {objects}."
            )
        if max_steps < 1:
            raise ValueError(f"Rooms need max_steps of at least 1, got {max_steps}.")
        views, reward = check_views(views, VIEWS), check_reward(reward)
        self.name, self.family, self.size, self.objects = name, family, size, objects
        self.max_steps, self.views, self.reward = max_steps, views, reward
        self._settings = (name, family, size, objects, max_steps, frozenset(views), reward)
        self._predicate = FAMILIES[family]
        if family == "place":
            self._things = np.array(list(itertools.combinations(range(NUM_OBJECTS), 2)), np.int32)
        else:
            self._things = np.stack([np.arange(NUM_OBJECTS), np.full(NUM_OBJECTS, NOTHING_ID)], -1)
        self._things = self._things.astype(np.int32)
        self.num_tasks = len(self._things)

    @functools.cached_property
    def goals(self) -> tuple[Goal, ...]:
        named = [[OBJECTS[i] for i in things if i != NOTHING_ID] for things in self._things]
        return tuple(Goal(self._predicate, *itertools.chain(*things)) for things in named)

    def task_of(self, goal: Goal) -> int:
        """The number of a goal; a pair's order does not matter.

        Raises:
          ValueError: for a goal of another family.
        """
        for number, mine in enumerate(self.goals):
            if mine.predicate == goal.predicate and set(mine.objects) == set(goal.objects):
                return number
        raise ValueError(f"The family {self.family} has goals with {self._predicate}, got {goal!r}.")

    def tasks(self) -> jax.Array:
        return jnp.arange(self.num_tasks, dtype=jnp.int32)

    def sample_task(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.num_tasks, jnp.int32)

    def reset(self, key: jax.Array, task: jax.Array) -> tuple[RoomsState, dm_env.TimeStep]:
        world = start(key, self.family, self.size, self.objects, jnp.asarray(self._things)[task])
        task = jnp.asarray(task, jnp.int32)
        state = RoomsState(world, task, jnp.float32(0), jnp.bool_(False), jnp.int32(0))
        return state, restart(self._observe(state, view(world)))

    def step(
        self, key: jax.Array, task: jax.Array, state: RoomsState, action: jax.Array
    ) -> tuple[RoomsState, dm_env.TimeStep]:
        del key
        world = move(state.world, action)
        codes = view(world)
        thing, other = jnp.asarray(self._things)[task]
        true = goal_holds(self._predicate, thing, other, read_facts(symbols_of(codes)))
        state = RoomsState(world, state.task, true.astype(jnp.float32), state.reached | true, state.time + 1)
        pays = true & (self.reward == "true")
        return state, transition(self._observe(state, codes), pays, pays, state.time >= self.max_steps)

    def facts(self, state: RoomsState) -> FactArrays:
        """What the agent sees, as arrays (`to_facts` makes `Facts` of them); jittable."""
        return read_facts(symbols_of(view(state.world)))

    def success(self, state: RoomsState) -> jax.Array:
        """Whether the goal was reached in the episode up to `state`, bool."""
        return state.reached

    def demonstrate(self, state: RoomsState, task: Any) -> np.ndarray:
        """Actions, int32 `[T]`, T from 1, that make the goal of `task` true for the first time at the last of them.

        Found on the host by breadth-first search: they are the fewest that move none but the goal's objects,
        or, where an object is in the way, the fewest of all; nothing is toggled.

        Args:
          state: unbatched, of this environment.
          task: the number of any goal of the family, the episode's own or another.

        Raises:
          ValueError: where the goal cannot be reached: its object is not in the room.
        """
        return search_demonstration(state.world, self.goals[int(task)])

    def near_misses(self, state: RoomsState, task: Any) -> list[tuple[Goal, np.ndarray]]:
        """Demonstrations of goals that are nearly that of `task`, on the way of which that one is never true.

        Args:
          state: unbatched, of this environment.
          task: the number of a goal.

        Returns:
          (goal, actions) for each goal that differs in the colour or the kind of one object and whose objects
          are in the room; none where there is none. The actions are those of `demonstrate` otherwise.
        """
        return search_near_misses(state.world, self.goals[int(task)])

    def bounds(self, task: jax.Array) -> tuple[jax.Array, jax.Array]:
        """NaN, NaN: neither return is known."""
        del task
        return jnp.float32(jnp.nan), jnp.float32(jnp.nan)

    def task_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.int32, 0, self.num_tasks - 1, "goal")

    def observation_spec(self) -> dict[str, specs.Array]:
        every = {**view_specs(), "text": self._text_spec()}
        return {key: every[key] for key in VIEWS if key in self.views}

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(len(ACTIONS), name="action")

    def reward_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> dict[str, specs.Array]:
        direction = view_specs()["direction"]
        return {"symbols": whole_room_spec(self.size), "direction": direction, "text": self._text_spec()}

    def markov_observation(self, state: RoomsState) -> dict[str, jax.Array]:
        text = jnp.asarray(self._tokens)[state.task]
        return {"symbols": whole_room(state.world), "direction": state.world.direction, "text": text}

    def _observe(self, state: RoomsState, codes: jax.Array) -> dict[str, jax.Array]:
        seen = observe_view(state.world, codes, self.views)
        return {**seen, "text": jnp.asarray(self._tokens)[state.task]} if "text" in self.views else seen

    def _text_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((GOAL_LENGTH,), np.int32, 0, NUM_GOAL_TOKENS - 1, "text")

    @functools.cached_property
    def _tokens(self) -> np.ndarray:
        """int32 `[num_tasks, GOAL_LENGTH]`; numpy, so that no trace owns them."""
        return np.stack([tokenize_goal(goal) for goal in self.goals])
