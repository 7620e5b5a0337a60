"""In-context evaluation of environments that live on the host, batched over them with the same cache."""

from collections.abc import Callable, Sequence
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from ..envs import LAST, HostStreams, gymnasium_to_dm_env
from ._types import Evaluation
from .evaluation import (
    Control,
    act_key,
    batched_act,
    batched_clear,
    batched_memory,
    check_control,
    stream_keys,
)


def evaluate_hosted(
    agent: Any,
    params: Any,
    environments: Sequence[Sequence[dm_env.Environment]] | str,
    key: jax.Array,
    episodes: int,
    seeds: int | None = None,
    task_ids: Sequence[int] | None = None,
    random: Sequence[float] | None = None,
    optimal: Sequence[float] | None = None,
    control: Control | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """As `evaluate`, for dm_env environments and gymnasium ids.

    Streams step together: one batched call of the agent chooses all actions, then each environment is
    stepped. On the host forms of a pure-JAX environment without randomness the returns equal those of
    `evaluate` under the same key.

    Args:
      agent: an `Agent` or `InContextAgent`.
      params: its weights.
      environments: by task the environments of its seeds, every one an instance of its own; or the id of
        a gymnasium environment, one task, of which `seeds` are made.
      key: of the agent's actions; the environments have seeds of their own.
      episodes: a stream.
      seeds: how many environments a gymnasium id is made into.
      task_ids: of the tasks; 0, 1, … if None.
      random: each task's mean return of uniformly random actions, NaN if None.
      optimal: each task's largest mean return, NaN if None.
      control: as `evaluate`.
      progress: called as `progress(episodes done by all, episodes)`.

    Raises:
      ValueError: where tasks differ in their number of environments, or an id comes without `seeds`.
    """
    check_control(control)
    if isinstance(environments, str):
        if not seeds or seeds < 1:
            raise ValueError(f"Say how many of {environments!r} to play: seeds is {seeds}.")
        name = environments
        environments = [[gymnasium_to_dm_env(name, seed=seed) for seed in range(seeds)]]
    counts = {len(group) for group in environments}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"Every task needs the same number of environments, at least one; got {sorted(counts)}."
        )
    streams = HostStreams([environment for group in environments for environment in group])
    shape = (len(environments), counts.pop())
    keys = stream_keys(key, len(streams))
    act, clear = batched_act(agent), jax.jit(batched_clear(agent))

    @jax.jit
    def choose(memory, time, timestep):
        return act(params, memory, jax.vmap(lambda k: act_key(k, time))(keys), timestep)

    memory = batched_memory(agent, len(streams))
    returns, number = np.zeros((len(streams), episodes), np.float32), np.zeros(len(streams), int)
    time = 0
    while number.min() < episodes:
        shown = streams.timestep
        if control == "rewards_zeroed":
            shown = shown._replace(reward=np.zeros_like(shown.reward))
        actions, memory = choose(memory, time, shown)
        ended = streams.step(np.asarray(actions)).step_type == LAST
        for episode in streams.take_episodes():
            if number[episode.stream] < episodes:
                returns[episode.stream, number[episode.stream]] = episode.episode_return
            number[episode.stream] += 1
        if control == "context_cleared":
            memory = clear(memory, jnp.asarray(ended))
        time += 1
        if progress is not None and ended.any():
            progress(int(min(number.min(), episodes)), episodes)

    def known(values):
        return np.full(shape[0], np.nan, np.float32) if values is None else np.asarray(values, np.float32)

    ids = np.arange(shape[0]) if task_ids is None else np.asarray(task_ids)
    return Evaluation(returns.reshape(*shape, episodes), ids, known(random), known(optimal))
