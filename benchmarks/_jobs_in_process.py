"""A job's actors and learner in one process: threads, joined by a queue in memory instead of Reverb."""

import queue
import threading
import time
from typing import Any

import numpy as np
from limbeck.agents import Actor, Batch, Learner, TrajectoryCutter, to_item
from limbeck.launchers.experiments import minigrid
from limbeck.launchers.job_config import JobConfig
from limbeck.launchers.jobs import make_environment, parts


def rate(env: str, steps: int, seed: int) -> float:
    """Environment steps/s that the learner takes in, after the first quarter of the steps."""
    config = minigrid.job(env)
    made = parts(config)
    learner = Learner(made.agent, made.spec, seed)
    items: queue.Queue[dict[str, np.ndarray]] = queue.Queue(maxsize=config.replay.max_size)
    ended = threading.Event()
    threads = [
        threading.Thread(target=_act, args=(config, made, learner, items, number, seed, ended), daemon=True)
        for number in range(config.actors)
    ]
    for thread in threads:
        thread.start()
    began, skipped = 0.0, 0
    updates = max(2, round(steps / config.steps_per_update))
    for number in range(updates):
        rows = [items.get() for _ in range(config.replay.batch)]
        data = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        learner.update(Batch(data, np.ones(len(rows)), len(rows)))
        learner.publish()
        if number + 1 == updates // 4:
            began, skipped = time.perf_counter(), number + 1
    seconds = time.perf_counter() - began
    ended.set()
    return (updates - skipped) * config.steps_per_update / seconds


def _act(
    config: JobConfig,
    made: Any,
    learner: Learner,
    items: queue.Queue,
    number: int,
    seed: int,
    ended: threading.Event,
) -> None:
    environments = [make_environment(config, number, i) for i in range(config.environments)]
    actor = Actor(made.agent, environments, seed + number)
    cutter = TrajectoryCutter(config.replay.unroll, config.replay.period)
    version, params = learner.pull(-1) or (0, None)
    while not ended.is_set():
        memory = actor.memory
        for trajectory in cutter.add(actor.step(params), memory):
            item = to_item(trajectory, version)
            while not ended.is_set():
                try:
                    items.put(item, timeout=0.5)
                    break
                except queue.Full:
                    continue
        version, params = learner.pull(version) or (version, params)
