"""What agents in rooms do, as a labeller gets it: with no learning, or with some seconds of it."""

import time
from typing import Any

import jax
import numpy as np


# Colours and kinds to lift, of which four are in a room.
ROOM = {"family": "lift", "objects": 4, "max_steps": 32, "task": "sampled"}
_READS = ("symbols", "direction", "text")


def acted_bundles(streams: int, unroll: int, updates: int, bundles: int) -> tuple[list[Any], float]:
    """Bundles of an agent after some updates by PPO on the true reward; and its share of successes in them.

    Args:
      streams: rooms that step together.
      unroll: rows of each in a bundle and in an update.
      updates: before the bundles.
      bundles: how many.
    """
    from limbeck.agents import (
        Actor,
        Batch,
        Learner,
        PPOConfig,
        TrajectoryCutter,
        ppo,
        to_item,
        trajectory_spec,
    )
    from limbeck.envs import LAST, make_hosted
    from limbeck.rewards import BundleCutter, goal_of, read_bundle

    rooms = [make_hosted("rooms", seed=seed, **ROOM) for seed in range(streams)]
    observations = {key: rooms[0].observation_spec()[key] for key in _READS}
    config = PPOConfig(learning_rate=1e-3, entropy_cost=0.01, epochs=3, minibatches=8, hidden=(128, 128))
    agent = ppo(observations, rooms[0].action_spec(), config)
    learner = Learner(agent, trajectory_spec(agent, observations, unroll), seed=0)
    actor, cutter = Actor(agent, rooms, 0, reads=_READS), TrajectoryCutter(unroll, unroll)
    params = jax.device_put(learner.state.agent.params)
    done = 0
    while done < updates:
        memory = actor.memory
        found = cutter.add(actor.step(params).reading(_READS), memory)
        if found:
            items = [to_item(trajectory, done) for trajectory in found]
            data = {name: np.stack([item[name] for item in items]) for name in items[0]}
            learner.update(Batch(data, np.full(streams, 1 / streams), streams))
            learner.publish()
            pulled = learner.pull(-1)
            assert pulled is not None
            params, done = jax.device_put(pulled[1]), done + 1
    actor.take_episodes()
    collected, cut = [], BundleCutter(unroll, 0, _READS)
    goals = [goal_of(room) for room in rooms]
    while len(collected) < bundles:
        memory = actor.memory
        rows = actor.step(params)
        told = {episode.stream: episode.success for episode in actor.streams.episodes}
        ended = rows.led_to.step_type == LAST
        successes = np.array([told.get(i, False) for i in range(streams)]) & ended
        item = cut.add(rows, memory, done, goals, successes, time.time())
        goals = [goal_of(room) for room in rooms]
        if item is not None:
            collected.append(read_bundle(0, item))
    episodes = actor.take_episodes()
    return collected, float(np.mean([episode.success for episode in episodes]))
