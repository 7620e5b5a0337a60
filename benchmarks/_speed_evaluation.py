"""Environment steps/s of in-context evaluation beside the same network recomputing its context."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from limbeck.distillation import PRESETS, evaluate, in_context_agent
from limbeck.distillation.evaluation import batched_act, batched_memory
from limbeck.envs import AutoReset, make, task_at


TASKS, SEEDS = 8, 20


def measure(episodes: int = 150, peer_steps: int = 10) -> dict[str, Any]:
    """Both warm, on 160 streams.

    The peer is the same network (weights, window, streams) without a cache: it runs its whole window
    forward at every step, one scan over environment and network, as ours. Its cost per step does not
    depend on how full the context is, so few steps measure it.
    """
    world = make("dark_room")
    config = PRESETS["fast"]
    spec, actions = world.observation_spec(), world.action_spec()
    cached = in_context_agent(config, spec, actions, world.max_steps)
    recomputing = in_context_agent(
        dataclasses.replace(config, context="recomputed"), spec, actions, world.max_steps
    )
    params = cached.init(jax.random.key(0))
    ids = np.arange(TASKS)
    tasks = task_at(world, jnp.arange(TASKS))

    def ours(episodes: int) -> None:
        evaluate(cached, params, world, tasks, ids, jax.random.key(1), episodes, SEEDS)

    ours(1)
    started = time.perf_counter()
    ours(episodes)
    rate = episodes * world.max_steps * TASKS * SEEDS / (time.perf_counter() - started)

    play = _player(recomputing, params, world, jnp.repeat(tasks, SEEDS, axis=0), peer_steps)
    play()
    started = time.perf_counter()
    play()
    peer = peer_steps * TASKS * SEEDS / (time.perf_counter() - started)
    return {
        "steps_per_second": round(rate),
        "recomputing_steps_per_second": round(peer),
        "ratio": round(rate / peer, 1),
        "streams": TASKS * SEEDS,
        "window": config.window,
        "episodes": episodes,
        "recomputing_steps": peer_steps,
    }


def _player(agent: Any, params: Any, world: Any, tasks: jax.Array, steps: int) -> Any:
    stream, act = AutoReset(world), batched_act(agent)

    @jax.jit
    def run(params):
        keys = jax.random.split(jax.random.key(0), len(tasks))
        state, timestep = jax.vmap(stream.reset)(keys, tasks)

        def body(carry, time):
            state, timestep, memory = carry
            now = jax.vmap(lambda key: jax.random.fold_in(key, time))(keys)
            action, memory = act(params, memory, now, timestep)
            state, timestep = jax.vmap(stream.step)(now, tasks, state, action)
            return (state, timestep, memory), timestep.reward

        return jax.lax.scan(body, (state, timestep, batched_memory(agent, len(tasks))), jnp.arange(steps))[1]

    return lambda: run(params).block_until_ready()
