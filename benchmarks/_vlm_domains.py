"""What `vlm_rewards` depends on a domain for: the world of its pictures, environments, and how its agents learn."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from limbeck.agents import PPOConfig
from limbeck.envs import OBJECTS
from limbeck.envs.facts import goal_holds, read_facts
from limbeck.envs.rooms import FAMILIES as PREDICATES
from limbeck.envs.screen_facts import read_screen_facts
from limbeck.envs.screen_goals import is_open
from limbeck.rewards.paid import Pay
from limbeck.rewards.worlds import World, world

from ._paid_agents import AgentConfig


_PPO = PPOConfig(learning_rate=5e-4, entropy_cost=0.02, epochs=3, minibatches=8, hidden=(256, 128))


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of goals.

    Attributes:
      horizon: steps of an episode.
      steps: of a training: by then an agent that is paid the truth has stopped to improve.
      arguments: of the environment, and of the frames that models are judged on.
      pooled: one threshold for all of its goals: each of them alone is true too seldom to calibrate.
      agent: how its agents learn.
    """

    horizon: int
    steps: int
    arguments: Mapping[str, Any]
    pooled: bool = False
    agent: AgentConfig = AgentConfig(ppo=_PPO)


@dataclasses.dataclass(frozen=True)
class Domain:
    """A domain.

    Attributes:
      world: of the pictures that CLIPs are trained and judged on.
      families: by name.
      views: of the agents.
      truth: `(family, goals)` -> what pays the truth.
    """

    world: World
    families: Mapping[str, Family]
    views: tuple[str, ...]
    truth: Callable[[str, tuple[Any, ...]], Pay]

    @functools.cached_property
    def captions(self) -> Any:
        """The settings of captions, whose split tells the goals of training from those held out."""
        return self.world.captions()

    def environment(self, family: str) -> Any:
        """What agents learn in; it pays nothing by itself."""
        settings = self.families[family]
        return self.world.environment(
            family, max_steps=settings.horizon, views=self.views, reward="none", **settings.arguments
        )

    def split(self, family: str) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the goals of training, and of those held out."""
        is_named = self.world.named(self.captions.seed, self.captions.held_out)
        named = np.array([is_named(goal) for goal in self.world.goals(family)])
        return np.flatnonzero(named), np.flatnonzero(~named)

    def frame_truth(self, family: str, symbols: np.ndarray) -> np.ndarray:
        """Which goals are true of which frames, bool `[N, G]` of symbols `[N, …]`."""
        return self.world.truth(self.world.goals(family), _host(self.world.read(symbols)))


def _rooms_truth(family: str, goals: tuple[Any, ...]) -> Pay:
    places = [[OBJECTS.index(thing) for thing in goal.objects] for goal in goals]
    things, others = jnp.asarray([row[0] for row in places]), jnp.asarray([row[-1] for row in places])
    predicate = PREDICATES[family]
    return lambda observation, goal, key: goal_holds(
        predicate, things[goal], others[goal], read_facts(observation["symbols"])
    )


def _screens_truth(family: str, goals: tuple[Any, ...]) -> Pay:
    apps = jnp.asarray([goal.app for goal in goals])
    return lambda observation, goal, key: is_open(apps[goal], read_screen_facts(observation["symbols"]))


def _host(facts: Any) -> Any:
    return type(facts)(*(np.asarray(part) for part in facts))


DOMAINS = {
    "rooms": Domain(
        world=world("rooms"),
        families={
            "find": Family(32, 260_000, {"size": 6, "objects": 4}),
            "lift": Family(32, 420_000, {"size": 6, "objects": 4}),
            "place": Family(48, 700_000, {"size": 6, "objects": 3}, pooled=True),
        },
        views=("symbols", "direction", "text"),
        truth=_rooms_truth,
    ),
    "screens": Domain(
        world=world("screens"),
        families={
            "open_common": Family(16, 165_000, {}),
            "open_diverse": Family(16, 165_000, {}, pooled=True),
        },
        views=("symbols", "labels", "text"),
        truth=_screens_truth,
    ),
}


def domain_of(family: str) -> Domain:
    """The domain of a family of goals."""
    return next(domain for domain in DOMAINS.values() if family in domain.families)
