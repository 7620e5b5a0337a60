"""The window sampler: training sequences cut from learning histories."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ..envs import LAST
from .model import Inputs


class Batch(NamedTuple):
    """B sequences of T steps.

    Attributes:
      inputs: `Inputs`, `[B, T, …]`.
      action: int32 `[B, T]`, what the source did: the target.
      weight: float32 `[B, T]`, 1 where the step is scored, 0 in the burn-in and behind a history's end.
    """

    inputs: Inputs
    action: np.ndarray
    weight: np.ndarray


@dataclasses.dataclass(frozen=True)
class WindowConfig:
    """How sequences are cut.

    Attributes:
      batch: sequences an update.
      length: steps a sequence; None takes the model's `sequence_length`, or whole histories where
        they are shorter than that.
      starts: share of sequences that start at a history's first step; the others start anywhere.
      burn_in: leading steps that are not scored in sequences that start elsewhere; None takes the model's.
      seed: of the sampler.
    """

    batch: int = 16
    length: int | None = None
    starts: float = 0.25
    burn_in: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}.")
        if not 0.0 <= self.starts <= 1.0:
            raise ValueError(f"starts is a share in [0, 1], got {self.starts}.")


def stream_inputs(
    observation: Any, action: np.ndarray, reward: np.ndarray, step_type: np.ndarray, num_actions: int
):
    """`Inputs` of whole streams `[H, T, …]`: row t gets action and reward of row t - 1, across episode ends too."""
    previous_action = np.concatenate([np.full_like(action[:, :1], num_actions), action[:, :-1]], axis=1)
    previous_reward = np.concatenate([np.zeros_like(reward[:, :1]), reward[:, :-1]], axis=1)
    time = np.arange(action.shape[1], dtype=np.int32)
    begins = np.concatenate([np.ones_like(step_type[:, :1], bool), step_type[:, :-1] == LAST], axis=1)
    began = np.maximum.accumulate(np.where(begins, time, 0), axis=1)
    return Inputs(
        observation, previous_action.astype(np.int32), previous_reward, (time - began).astype(np.int32)
    )


class WindowSampler:
    """`sampler(index)` is the batch of update `index`, a pure function of it and the seed.

    No sequence straddles two histories: each is a slice of one. Its position is the index alone, so a
    resumed training goes on with the same sequences.

    Args:
      streams: what `limbeck.agents.load_streams` returns.
      config: how sequences are cut.
      num_actions: of the action spec.
      length: steps a sequence, where the config leaves it open.
      burn_in: unscored leading steps, where the config leaves it open.

    Raises:
      ValueError: where there are no histories, or shorter ones than a sequence of `config.length`.
    """

    def __init__(self, streams: Any, config: WindowConfig, num_actions: int, length: int, burn_in: int):
        lengths = np.asarray(streams.length)
        longest = int(lengths.max(initial=0))
        if longest == 0:
            raise ValueError("There is no history with at least one step to cut sequences from.")
        if config.length is not None and config.length > longest:
            raise ValueError(
                f"A sequence of {config.length} steps was asked for, but the longest history has {longest} after "
                "keep-every-k. Shorten window.length, keep more episodes, or make longer histories."
            )
        self.length = config.length or min(length, longest)
        self.burn_in = min(burn_in if config.burn_in is None else config.burn_in, self.length - 1)
        self.tokens_per_batch = config.batch * self.length
        self._config, self._lengths = config, lengths
        self._filled = np.flatnonzero(lengths)
        self._action = np.asarray(streams.action, np.int32)
        self._inputs = stream_inputs(
            np.asarray(streams.observation),
            self._action,
            np.asarray(streams.reward, np.float32),
            np.asarray(streams.step_type),
            num_actions,
        )

    def __call__(self, index: int) -> Batch:
        config = self._config
        rng = np.random.Generator(np.random.Philox(key=[config.seed, index]))
        history = self._filled[rng.integers(len(self._filled), size=config.batch)]
        room = np.maximum(self._lengths[history] - self.length, 0)
        start = np.where(rng.random(config.batch) < config.starts, 0, rng.integers(room + 1))
        time = start[:, None] + np.arange(self.length)
        inside = time < self._lengths[history, None]
        at = (history[:, None], np.minimum(time, self._action.shape[1] - 1))
        scored = inside & ((start[:, None] == 0) | (np.arange(self.length) >= self.burn_in))
        inputs = Inputs(*(np.asarray(field[at]) for field in self._inputs))
        return Batch(inputs, self._action[at], scored.astype(np.float32))
