"""Rewards by a model in the environment loop: the simplest place for them, where the actor can wait."""

from collections.abc import Callable, Sequence
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from ..envs import LAST, HostStreams, Stepped
from .goal_text import goal_of as _goal_of
from .scoring import check_model, score


class InlineReward(dm_env.Environment):
    """An environment whose rewards are a model's, and whose episodes end with the first hit.

    Everything else (`mission`, …) is the environment's own. An episode that the label ends is truncated in truth: its
    success is what the environment says of it by then (`success_so_far()`), and False where it says nothing.

    Attributes:
      true_return: sum of the environment's own rewards in this episode.
    """

    def __init__(
        self,
        environment: dm_env.Environment,
        model: Any,
        goal_of: Callable[[Any], str] = _goal_of,
        threshold: float = 1.0,
    ):
        """
        Args:
          environment: its observations have the key `image`, `[H, W, 3]` uint8.
          model: `model(frames [1, H, W, 3], [goal]) -> [1]` in [0, 1].
          goal_of: the goal of an environment's episode.
          threshold: the reward from which a step is a hit.

        Raises:
          ValueError: the model cannot be called, or the threshold lies outside (0, 1].
        """
        _check_threshold(threshold)
        self._environment, self._model = environment, check_model(model)
        self._goal_of, self._threshold = goal_of, threshold
        self._running = self._ended = self._cut_success = False
        self.true_return = 0.0

    def __getattr__(self, name: str) -> Any:
        if name == "_environment":  # not set yet, as while it is being copied
            raise AttributeError(name)
        return getattr(self._environment, name)

    def reset(self) -> dm_env.TimeStep:
        self._running, self._ended, self.true_return = True, False, 0.0
        return self._environment.reset()

    def step(self, action: Any) -> dm_env.TimeStep:
        if not self._running:
            return self.reset()
        goal = self._goal_of(self._environment)  # Before the step: it is of this episode.
        timestep = self._environment.step(action)
        self._ended = timestep.last()
        self.true_return += float(timestep.reward)
        reward = float(score(self._model, timestep.observation["image"][None], [goal])[0])
        if reward >= self._threshold:
            so_far = getattr(self._environment, "success_so_far", None)
            self._cut_success = not self._ended and so_far is not None and bool(so_far())
            timestep = dm_env.termination(reward, timestep.observation)
        self._running = not timestep.last()
        return timestep._replace(reward=reward)

    def success(self) -> bool:
        """The truth about the episode that has just ended, whatever the label says."""
        fact = getattr(self._environment, "success", None)
        if fact is None:
            return self.true_return > 0
        # Before the environment's own end its fact is of an earlier episode.
        return bool(fact()) if self._ended else self._cut_success

    def observation_spec(self) -> Any:
        return self._environment.observation_spec()

    def action_spec(self) -> Any:
        return self._environment.action_spec()

    def reward_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((), np.float64, 0.0, 1.0, "reward")

    def discount_spec(self) -> Any:
        return self._environment.discount_spec()

    def close(self) -> None:
        self._environment.close()


class InlineStreams(HostStreams):
    """Streams that are paid as `InlineReward` pays, the frames of all of them in one call of the model.

    Environments that step together (`HostStreams`) go on doing so.
    """

    def __init__(
        self,
        environments: Sequence[dm_env.Environment],
        model: Any,
        goal_of: Callable[[Any], str] = _goal_of,
        threshold: float = 1.0,
    ):
        """Resets every environment.

        Args:
          environments: their observations have the key `image`, `[H, W, 3]` uint8.
          model: `model(frames [N, H, W, 3], N goals) -> [N]` in [0, 1].
          goal_of: the goal of an environment's episode.
          threshold: the reward from which a step is a hit.

        Raises:
          ValueError: as `HostStreams`, or the model cannot be called, or the threshold lies outside (0, 1].
        """
        _check_threshold(threshold)
        self._model, self._goal_of, self._threshold = check_model(model), goal_of, threshold
        super().__init__(environments)
        self._true_returns = np.zeros(len(environments))

    def _advance(self, actions: np.ndarray) -> Stepped:
        # Before the step: they are of this episode.
        goals = [self._goal_of(environment) for environment in self.environments]
        stepped = super()._advance(actions)
        rewards = score(self._model, stepped.led_to["image"], goals)
        hits = rewards >= self._threshold
        self._true_returns += stepped.rewards
        successes, cut = dict(stepped.successes), hits & (stepped.kinds != LAST)
        for i in np.flatnonzero(cut | (stepped.kinds == LAST)).tolist():
            if getattr(self.environments[i], "success", None) is None:
                successes[i] = bool(self._true_returns[i] > 0)
            elif cut[i]:
                successes[i] = self._success_so_far(i)
            self._true_returns[i] = 0.0
        return Stepped(
            np.where(hits, np.int32(LAST), stepped.kinds),
            rewards,
            np.where(hits, np.float32(0), stepped.discounts),
            stepped.led_to,
            self._begin(np.flatnonzero(cut), stepped.shown) if cut.any() else stepped.shown,
            successes,
        )


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], got {threshold}.")
