"""MiniGrid and BabyAI as host environments."""

from __future__ import annotations

import difflib
import importlib
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import dm_env
import gymnasium
import numpy as np
from dm_env import specs

from ._minigrid_cells import EMPTY, ENCODINGS, GridMirror, cell_code
from ._minigrid_render import GridState, full_image, view_image
from ._minigrid_sound import heard
from ._minigrid_text import MISSION_LENGTH, NUM_MISSION_TOKENS, tokenize_mission
from ._minigrid_tiles import tile_bank
from ._minigrid_view import agent_view
from .sound import audio_spec


if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

VIEWS = ("symbols", "direction", "image", "text", "audio")


class MiniGrid(dm_env.Environment):
    """A MiniGrid environment as a `dm_env.Environment`; see `minigrid`.

    The dynamics are MiniGrid's own objects'. Only the observation that they ask for in every step is
    computed another way, from an array that is kept in step with the grid.
    """

    def __init__(
        self,
        environment: gymnasium.Env,
        seed: int | None,
        views: Sequence[str],
        image: Literal["agent", "full"] | None,
        tile_size: int,
    ):
        self._environment = environment
        self._grid_world = cast("MiniGridEnv", environment.unwrapped)
        self._seed = seed
        self._views = frozenset(views)
        self._image = image
        self._bank = tile_bank(tile_size)
        size = self._grid_world.agent_view_size
        self._mirror = GridMirror(margin=size - 1)
        self._moment: tuple[int, tuple[tuple[int, int], int, int]] | None = None
        self._seen = np.zeros(0, np.uint8)
        self._mission, self._tokens = "", tokenize_mission("")
        self._running = self._success = False
        self._actions = int(cast(gymnasium.spaces.Discrete, environment.action_space).n)
        # On the instance, so that the classes, and every other instance, stay as they are.
        setattr(self._grid_world, "gen_obs", self._gen_obs)  # noqa: B010

    @property
    def mission(self) -> str:
        """The sentence that tells the episode's goal."""
        return self._grid_world.mission

    def success(self) -> bool:
        """Whether the episode that ended last reached its goal; False before the first end.

        MiniGrid pays a reward above 0 for that and nothing else, and terminates with it; lava, collisions
        and wrong objects terminate with 0 or less, and the step limit truncates.
        """
        return self._success

    def state(self) -> GridState:
        """What the full view shows of this moment, as arrays.

        Raises:
          ValueError: before the first reset.
        """
        if self._grid_world.agent_pos is None:
            raise ValueError("There is no state before the first reset().")
        self._mirror.update(self._grid_world.grid)
        kind, colour, state = ENCODINGS[self._carried()].tolist()
        return GridState(
            ENCODINGS[self._mirror.codes.T],
            self._position(),
            int(self._grid_world.agent_dir),
            (kind, colour, state),
        )

    def symbols(self) -> np.ndarray:
        """What the agent sees at this moment, uint8 `[7, 7, 3]`, whichever views are observed.

        Raises:
          ValueError: before the first reset.
        """
        if self._grid_world.agent_pos is None:
            raise ValueError("There is nothing to see before the first reset().")
        return ENCODINGS[self._view().T]

    def reseed(self, seed: int) -> None:
        """Seeds the next reset; steps go on from there."""
        self._seed = seed
        self._running = False

    def reset(self) -> dm_env.TimeStep:
        theirs, _ = self._environment.reset(seed=self._seed)
        self._seed = None  # later resets go on with the environment's own generator
        self._running = True
        observation = self._observation(theirs)
        if "audio" in self._views:
            observation["audio"] = heard(self.state())
        return dm_env.restart(observation)

    def step(self, action: Any) -> dm_env.TimeStep:
        if not self._running:
            return self.reset()
        action = self._conform(action)
        before = self.state() if "audio" in self._views else None
        theirs, reward, terminated, truncated, _ = self._environment.step(action)
        reward = float(reward)
        step_type = dm_env.StepType.MID
        if terminated or truncated:
            step_type = dm_env.StepType.LAST
            self._running = False
            self._success = bool(terminated) and reward > 0
        discount = 0.0 if terminated else 1.0
        observation = self._observation(theirs)
        if before is not None:
            reached = not self._running and self._success
            observation["audio"] = heard(self.state(), before, action, reached)
        return dm_env.TimeStep(step_type, reward, discount, observation)

    def observation_spec(self) -> Any:
        world, tile = self._grid_world, self._bank.size
        size = world.agent_view_size
        rows, columns = (size, size) if self._image == "agent" else (world.height + 1, world.width)
        every = {
            "symbols": specs.BoundedArray((size, size, 3), np.uint8, 0, ENCODINGS[-1], "symbols"),
            "direction": specs.DiscreteArray(4, _INT32, "direction"),
            "image": specs.BoundedArray((rows * tile, columns * tile, 3), np.uint8, 0, 255, "image"),
            "text": specs.BoundedArray((MISSION_LENGTH,), np.int32, 0, NUM_MISSION_TOKENS - 1, "text"),
            "audio": audio_spec(),
        }
        return {key: every[key] for key in VIEWS if key in self._views}

    def action_spec(self) -> Any:
        return specs.DiscreteArray(self._actions, _INT32, "action")

    def reward_spec(self) -> specs.Array:
        return specs.Array((), np.float64, "reward")

    def discount_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float64, 0.0, 1.0, "discount")

    def close(self) -> None:
        self._environment.close()

    def _conform(self, action: Any) -> int:
        try:
            number = operator.index(action)
        except TypeError:
            raise ValueError(f"Actions are integers, got {action!r}.") from None
        if not 0 <= number < self._actions:
            raise ValueError(f"Actions lie in 0 to {self._actions - 1}, got {number}.")
        return number

    def _observation(self, theirs: dict[str, Any]) -> dict[str, Any]:
        observation: dict[str, Any] = {}
        if "symbols" in self._views:
            observation["symbols"] = theirs["image"]
        if "direction" in self._views:
            observation["direction"] = np.int32(theirs["direction"])
        if self._image == "agent":
            observation["image"] = view_image(self._view(), self._bank)
        elif self._image == "full":
            self._mirror.update(self._grid_world.grid)
            observation["image"] = full_image(
                self._mirror.codes,
                self._position(),
                self._grid_world.agent_dir,
                self._carried(),
                self._bank,
            )
        if "text" in self._views:
            mission = theirs["mission"]
            if mission != self._mission:
                self._mission, self._tokens = mission, tokenize_mission(mission)
            observation["text"] = self._tokens.copy()
        return observation

    def _gen_obs(self) -> dict[str, Any]:
        """`MiniGridEnv.gen_obs`, which its dynamics call at the moment that MiniGrid observes."""
        symbols, world = self.symbols(), self._grid_world
        return {"image": symbols, "direction": world.agent_dir, "mission": world.mission}

    def _view(self) -> np.ndarray:
        """The codes that the agent sees now; not to be written to."""
        world, size = self._grid_world, self._grid_world.agent_view_size
        self._mirror.update(world.grid)
        pose = self._position(), world.agent_dir, self._carried()
        # A picture beside the symbols asks a second time for what is mostly the same moment.
        if (self._mirror.version, pose) != self._moment:
            self._moment = self._mirror.version, pose
            self._seen = agent_view(self._mirror.padded, size - 1, *pose, size, world.see_through_walls)
        return self._seen

    def _position(self) -> tuple[int, int]:
        x, y = self._grid_world.agent_pos
        return int(x), int(y)

    def _carried(self) -> int:
        # MiniGrid asks for truth too, and no object of its own is false.
        carried = self._grid_world.carrying
        return cell_code(carried) if carried else EMPTY


def minigrid(
    id: str,
    seed: int | None = None,
    views: Sequence[str] = ("symbols", "direction", "text"),
    image: Literal["agent", "full"] | None = None,
    tile_size: int = 8,
    **kwargs: Any,
) -> MiniGrid:
    """A MiniGrid or BabyAI environment as a `dm_env.Environment`, several times as fast as MiniGrid.

    Observations are dictionaries with some of these keys:

    - `symbols`, uint8 `[7, 7, 3]`: what the agent sees, (type, colour, state) at x, y; exactly MiniGrid's
      `image`.
    - `direction`, int32: where the agent looks in the world, 0 right, 1 down, 2 left, 3 up.
    - `text`, int32 `[MISSION_LENGTH]`: the mission (`tokenize_mission`).
    - `audio`, float32 `[800]`: what was heard of the last action (steps, turns, bumps, what is picked up, dropped,
      opened and closed, success), and a beacon at the nearest goal cell (`sound.py`). Worlds without a goal cell,
      as BabyAI's, have no beacon.
    - `image`, uint8 RGB. `image="agent"` is what the agent sees, `[7 * tile_size, 7 * tile_size, 3]`, exactly
      MiniGrid's `RGBImgPartialObsWrapper`. `image="full"` is the whole grid, nothing lit, with one more row
      of tiles below that shows what the agent carries, `[(height + 1) * tile_size, width * tile_size, 3]`:
      MiniGrid's own full picture hides it. It is Markov but for the step count, what closed boxes hold, and
      which parts of a BabyAI sentence are done.

    Rewards are MiniGrid's. The discount is 0 at termination and 1 where the step limit truncates.
    `.success()` tells of the episode that ended last whether it reached its goal; `.state()` is the grid as
    arrays, and `.mission` the sentence. `step` after a last time-step begins a new episode.

    Args:
      id: a registered id (`minigrid_ids`), or any gymnasium id of a `MiniGridEnv`.
      seed: of the first reset, later ones go on from there; None leaves it to gymnasium.
      views: the keys to make; several may be one string with commas between, as on a command line.
      image: which picture the key `image` holds; None makes none, or the agent's where `views` names it.
      tile_size: pixels a side of a tile.
      **kwargs: for `gymnasium.make`, such as `max_steps` or `agent_view_size`.

    Raises:
      ValueError: for an unknown id, with close matches, a view or tile size that there is not, or an
        environment that is no `MiniGridEnv`.
    """
    known = minigrid_ids()
    from minigrid.minigrid_env import MiniGridEnv

    views = tuple(views.split(",") if isinstance(views, str) else views)
    for view in views:
        if view not in VIEWS:
            raise ValueError(f"There is no view {view!r}; views are {', '.join(VIEWS)}.")
    if image not in (None, "agent", "full"):
        raise ValueError(f"image is 'agent', 'full' or None, got {image!r}.")
    if image is not None:
        views = (*views, "image")
    elif "image" in views:
        image = "agent"
    if not views:
        raise ValueError(f"An observation has at least one of the views {', '.join(VIEWS)}.")
    try:
        environment = gymnasium.make(id, disable_env_checker=True, **kwargs)
    except TypeError as error:
        raise ValueError(f"{id} cannot be made with the arguments {kwargs}: {error}") from error
    except gymnasium.error.Error as error:
        close = difflib.get_close_matches(id, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else "minigrid_ids() lists them."
        raise ValueError(f"There is no MiniGrid environment {id!r}. {hint}") from error
    if not isinstance(environment.unwrapped, MiniGridEnv):
        environment.close()
        raise ValueError(f"{id} is no MiniGridEnv but {type(environment.unwrapped).__name__}.")
    return MiniGrid(environment, seed, views, image, tile_size)


def minigrid_ids() -> list[str]:
    """The MiniGrid and BabyAI ids that gymnasium knows, sorted."""
    importlib.import_module("minigrid")  # registers them
    return sorted(id for id in gymnasium.registry if id.startswith(("MiniGrid-", "BabyAI-")))


# dm_env's argument has no type and the default's is taken for it.
_INT32: Any = np.int32
