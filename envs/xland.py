"""XLand-MiniGrid (A. Nikulin et al., arXiv 2312.12044) behind Limbeck's interface."""

import functools
import hashlib
import math
import os
import re
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from . import xland_rules
from ._by_value import ByValue
from ._types import restart, transition
from ._xland_encoding import NUM_COLOURS, NUM_GOALS, NUM_RULES, NUM_SHAPES, RuleSet


class XLandState(NamedTuple):
    """Where everything is.

    Attributes:
      grid: uint8 [H, W, 2], (shape, colour) of every cell.
      position: int32 [2], the agent's (y, x).
      direction: int32, 0 up, 1 right, 2 down, 3 left.
      pocket: uint8 [2], (shape, colour) of what the agent carries, (0, 0) for nothing.
      time: int32, steps taken.
    """

    grid: jax.Array
    position: jax.Array
    direction: jax.Array
    pocket: jax.Array
    time: jax.Array


class XLand(ByValue):
    """A grid of objects, hidden production rules over them and a hidden goal: one rule set is one task.

    Task: a `RuleSet`, uint8 arrays. Observation: int32 [view_size, view_size, 2], (shape, colour) of the cells
    before the agent, which stands in the middle of the last row and looks up; walls do not hide anything.
    What it carries is not shown. Actions: forward, turn right, turn left, pick up, put down, toggle (a door).
    An episode begins with objects and agent in random places and ends at the goal (termination, discount
    0), which pays 1 - 0.9 t / max_steps at step t, or after `max_steps` (truncation, discount 1). The dynamics
    are xminigrid's own functions; only its wrapper that resets is not used.

    The Markov observation is the view, then the whole state: cells inside the outer wall, the agent's place,
    direction and pocket, and the time, on which the reward depends, as two digits to a base near its root. The
    state alone would do, but what lies where from the agent's side is hard to learn from it.

    Args:
      name: as `make` was asked for.
      grid: the layout, rooms and size: R1, R2, R4, R6 or R9, then `-HEIGHTxWIDTH`. R1 in any size from
        5x5, the others in the sizes that xminigrid registers (R2-9x9, R4-13x13, …).
      view_size: odd, at least 3.
      max_steps: the horizon; None for 3 * H * W, as in xminigrid.
      benchmark: `trivial`, `small` or `medium` rule sets of `xland_rules.generate`, or the path of a file
        that `xland_rules.save_npz` wrote.
      num_tasks: how many rule sets; None for 1000 generated ones, or all of a file, of which a number takes
        the first.
      seed: of the generator; 0 with a file.

    Attributes:
      num_tasks: how many rule sets there are.

    Raises:
      ImportError: xminigrid is not installed.
      ValueError: for a setting that cannot be, or objects that do not fit on the grid.
    """

    def __init__(
        self,
        name: str = "xland",
        grid: str = "R1-9x9",
        view_size: int = 5,
        max_steps: int | None = None,
        benchmark: str = "trivial",
        num_tasks: int | None = None,
        seed: int = 0,
    ):
        if view_size < 3 or view_size % 2 == 0:
            raise ValueError(f"XLand needs an odd view_size of at least 3, got {view_size}.")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"XLand needs max_steps of at least 1, got {max_steps}.")
        if num_tasks is not None and num_tasks < 1:
            raise ValueError(f"XLand needs num_tasks of at least 1, got {num_tasks}.")
        layout, self._height, self._width = _parse_grid(grid)
        self.name, self.grid, self.view_size = name, grid, view_size
        self.max_steps = max_steps or 3 * self._height * self._width
        self.benchmark, self.seed = benchmark, seed
        self._environment, params = _xminigrid(layout, self._height, self._width)
        self._params = params.replace(view_size=view_size, max_steps=self.max_steps)

        if benchmark in xland_rules.KINDS:
            self.num_tasks = 1000 if num_tasks is None else num_tasks
            xland_rules.check_generator(benchmark, self.num_tasks, seed)
            kind, source = xland_rules.KINDS[benchmark], (benchmark, seed)
            self._sizes = (kind.max_rules, kind.max_tiles)
        else:
            rule_sets, digest = _read(benchmark, num_tasks, seed)
            self._rule_sets = rule_sets  # Takes the place of the cached property.
            self.num_tasks, source = len(rule_sets.goal), digest
            self._sizes = (rule_sets.rules.shape[1], rule_sets.init_tiles.shape[1])
        room = _free_cells(layout, self._height, self._width)
        if self._sizes[1] >= room:
            raise ValueError(
                f"Rule sets with up to {self._sizes[1]} objects and an agent do not fit into the {room} free "
                f"cells of {grid}: take a larger grid."
            )
        self._settings = (name, grid, view_size, self.max_steps, source, self.num_tasks)

    def tasks(self) -> RuleSet:
        return jax.tree.map(jnp.asarray, self._rule_sets)

    def sample_task(self, key: jax.Array) -> RuleSet:
        number = jax.random.randint(key, (), 0, self.num_tasks)
        return jax.tree.map(lambda x: jnp.asarray(x)[number], self._rule_sets)

    def reset(self, key: jax.Array, task: RuleSet) -> tuple[XLandState, dm_env.TimeStep]:
        from xminigrid.types import RuleSet as Ruleset

        timestep = self._environment.reset(self._params.replace(ruleset=Ruleset(*task)), key)
        return _unpack(timestep), restart(timestep.observation.astype(jnp.int32))

    def step(
        self, key: jax.Array, task: RuleSet, state: XLandState, action: jax.Array
    ) -> tuple[XLandState, dm_env.TimeStep]:
        timestep = self._environment.step(self._params, _pack(key, task, state), action)
        terminated = timestep.discount == 0
        state = _unpack(timestep)
        observation = timestep.observation.astype(jnp.int32)
        return state, transition(observation, timestep.reward, terminated, state.time >= self.max_steps)

    def bounds(self, task: RuleSet) -> tuple[jax.Array, jax.Array]:
        """NaN, NaN: neither return is known."""
        del task
        return jnp.float32(jnp.nan), jnp.float32(jnp.nan)

    def task_spec(self) -> RuleSet:
        rules, tiles = self._sizes
        shape, colour = NUM_SHAPES - 1, NUM_COLOURS - 1
        # A goal holds tiles or a place.
        place = max(shape, self._height - 1, self._width - 1)
        goal = np.array([NUM_GOALS - 1] + [place] * 4, np.uint8)
        rule = np.array([NUM_RULES - 1] + [shape, colour] * 3, np.uint8)
        tile = np.array([shape, colour], np.uint8)
        return RuleSet(
            specs.BoundedArray((5,), np.uint8, 0, goal, "goal"),
            specs.BoundedArray((rules, 7), np.uint8, 0, rule, "rules"),
            specs.BoundedArray((tiles, 2), np.uint8, 0, tile, "init_tiles"),
        )

    def observation_spec(self) -> specs.BoundedArray:
        top = np.array([NUM_SHAPES - 1, NUM_COLOURS - 1], np.int32)
        return specs.BoundedArray((self.view_size, self.view_size, 2), np.int32, 0, top, "view")

    def action_spec(self) -> specs.DiscreteArray:
        return specs.DiscreteArray(6, name="action")

    def reward_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float32, 0.0, 1.0, "discount")

    def markov_spec(self) -> specs.BoundedArray:
        height, width, tile = self._height - 2, self._width - 2, [NUM_SHAPES - 1, NUM_COLOURS - 1]
        cells = self.view_size**2 + height * width
        base = self._time_base
        low = [0, 0] * cells + [1, 1, 0, 0, 0, 0, 0]
        high = tile * cells + [height, width, 3, *tile, self.max_steps // base, base - 1]
        return specs.BoundedArray(
            (len(low),), np.int32, np.array(low, np.int32), np.array(high, np.int32), "view_and_state"
        )

    def markov_observation(self, state: XLandState) -> jax.Array:
        from xminigrid.core.observation import transparent_field_of_view

        view = transparent_field_of_view(state.grid, _agent(state), self.view_size, self.view_size)
        time = jnp.stack(jnp.divmod(state.time, self._time_base))
        parts = (view, state.grid[1:-1, 1:-1], state.position, state.direction, state.pocket, time)
        return jnp.concatenate([jnp.ravel(part).astype(jnp.int32) for part in parts])

    @property
    def _time_base(self) -> int:
        return math.isqrt(self.max_steps) + 1  # its square is above max_steps

    @functools.cached_property
    def _rule_sets(self) -> RuleSet:
        """All rule sets, stacked; numpy, so that no trace owns them."""
        return xland_rules.generate(self.benchmark, self.num_tasks, self.seed)


def _unpack(timestep: Any) -> XLandState:
    """xminigrid's state without what the task holds, in dtypes that never change."""
    state = timestep.state
    return XLandState(
        jnp.asarray(state.grid, jnp.uint8),
        jnp.asarray(state.agent.position, jnp.int32),
        jnp.asarray(state.agent.direction, jnp.int32),
        jnp.asarray(state.agent.pocket, jnp.uint8),
        jnp.asarray(state.step_num, jnp.int32),
    )


def _agent(state: XLandState) -> Any:
    from xminigrid.types import AgentState

    return AgentState(state.position, state.direction, state.pocket)


def _pack(key: jax.Array, task: RuleSet, state: XLandState) -> Any:
    """A time-step of xminigrid of which a step reads the state alone."""
    from xminigrid import types

    inner = types.State(
        key=key,
        step_num=state.time,
        grid=state.grid,
        agent=_agent(state),
        goal_encoding=task.goal,
        rule_encoding=task.rules,
        carry=types.EnvCarry(),
    )
    return types.TimeStep(inner, types.StepType.MID, jnp.float32(0), jnp.float32(1), jnp.int32(0))


def _parse_grid(grid: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"(R[12469])-(\d+)x(\d+)", grid)
    if not found:
        raise ValueError(f"A grid is rooms and size such as R1-9x9 or R4-13x13, got {grid!r}.")
    layout, height, width = found[1], int(found[2]), int(found[3])
    if layout == "R1" and (min(height, width) < 5 or max(height, width) > 255):
        raise ValueError(f"Sides of an R1 grid are 5 to 255 cells long, got {grid!r}.")
    return layout, height, width


def _xminigrid(layout: str, height: int, width: int) -> tuple[Any, Any]:
    """xminigrid's environment and its parameters."""
    try:
        import xminigrid
        from xminigrid.envs.xland import XLandMiniGrid
    except ModuleNotFoundError as error:
        raise ImportError(
            f"XLand-MiniGrid is not installed ({error}): pip install 'limbeck[xland]'."
        ) from error
    if layout == "R1":
        environment = XLandMiniGrid()
        return environment, environment.default_params(grid_type=layout, height=height, width=width)
    prefix = "XLand-MiniGrid-"
    known = [i.removeprefix(prefix) for i in xminigrid.registered_environments() if i.startswith(prefix)]
    if f"{layout}-{height}x{width}" not in known:
        raise ValueError(
            f"xminigrid has no grid {layout}-{height}x{width}; known: {', '.join(known)}, and R1 in any size."
        )
    return xminigrid.make(f"{prefix}{layout}-{height}x{width}")


@functools.lru_cache(maxsize=64)
def _free_cells(layout: str, height: int, width: int) -> int:
    """Cells on which something can be put at an episode's start."""
    from xminigrid.core.constants import Tiles
    from xminigrid.envs import xland

    generate = {
        "R1": xland.generate_room,
        "R2": xland.generate_two_rooms,
        "R4": xland.generate_four_rooms,
        "R6": xland.generate_six_rooms,
        "R9": xland.generate_nine_rooms,
    }[layout]
    with jax.ensure_compile_time_eval():
        _, grid = generate(jax.random.key(0), height, width)
        return int(np.sum(np.asarray(grid)[..., 0] == Tiles.FLOOR))


def _read(path: str, num_tasks: int | None, seed: int) -> tuple[RuleSet, str]:
    """(the first `num_tasks` rule sets of a file, a digest of them)."""
    if path.startswith("xminigrid:"):
        raise ValueError(f"xminigrid's benchmarks are pickles. {xland_rules.CONVERT}")
    if not os.path.isfile(path):
        known = ", ".join(xland_rules.KINDS)
        raise ValueError(
            f"benchmark is one of {known} or the path of a file, got {path!r}: there is no such file."
        )
    if seed:
        raise ValueError(f"seed is the generator's: leave it at 0 with the file {path}, got {seed}.")
    rule_sets, _ = xland_rules.load_npz(path)
    if num_tasks is not None and num_tasks > len(rule_sets.goal):
        raise ValueError(f"{path} holds {len(rule_sets.goal)} rule sets, fewer than num_tasks={num_tasks}.")
    rule_sets = RuleSet(*(part[:num_tasks] for part in rule_sets))
    digest = hashlib.sha256(b"".join(part.tobytes() for part in rule_sets))
    return rule_sets, digest.hexdigest()
