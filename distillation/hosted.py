"""In-context evaluation of environments that live on the host, batched over them with the same cache."""

from collections.abc import Callable, Sequence
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from ..envs import FIRST, LAST, MID, gymnasium_to_dm_env
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
    flat = [environment for group in environments for environment in group]
    if len({id(environment) for environment in flat}) != len(flat):
        raise ValueError("An environment was given twice: each stream needs an instance of its own.")
    shape = (len(environments), counts.pop())
    streams = len(flat)

    keys = stream_keys(key, streams)
    act, clear = batched_act(agent), jax.jit(batched_clear(agent))

    @jax.jit
    def choose(memory, time, timestep):
        return act(params, memory, jax.vmap(lambda k: act_key(k, time))(keys), timestep)

    memory = batched_memory(agent, streams)
    observations = [environment.reset().observation for environment in flat]
    rewards, discounts = np.zeros(streams, np.float32), np.ones(streams, np.float32)
    kinds = np.full(streams, FIRST, np.int32)
    returns, number = np.zeros((streams, episodes), np.float32), np.zeros(streams, int)
    time = 0
    while number.min() < episodes:
        shown = dm_env.TimeStep(
            jnp.asarray(kinds),
            jnp.zeros(streams) if control == "rewards_zeroed" else jnp.asarray(rewards),
            jnp.asarray(discounts),
            jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *observations),
        )
        actions, memory = choose(memory, time, shown)
        for i, action in enumerate(np.asarray(actions)):
            timestep = flat[i].step(int(action))
            rewards[i], discounts[i] = timestep.reward, timestep.discount
            kinds[i] = LAST if timestep.last() else MID
            observations[i] = timestep.observation
            if number[i] < episodes:
                returns[i, number[i]] += rewards[i]
            if timestep.last():
                number[i] += 1
                observations[i] = flat[i].reset().observation
        if control == "context_cleared":
            memory = clear(memory, jnp.asarray(kinds == LAST))
        time += 1
        if progress is not None and (kinds == LAST).any():
            progress(int(min(number.min(), episodes)), episodes)

    def known(values):
        return np.full(shape[0], np.nan, np.float32) if values is None else np.asarray(values, np.float32)

    ids = np.arange(shape[0]) if task_ids is None else np.asarray(task_ids)
    return Evaluation(returns.reshape(*shape, episodes), ids, known(random), known(optimal))
