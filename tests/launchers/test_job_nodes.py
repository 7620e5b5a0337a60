"""The nodes of a job as threads of one process: what they do with replay, and without it."""

import contextlib
import csv
import importlib.util
import json
import logging
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from limbeck.agents import signature
from limbeck.launchers import NodeGone
from limbeck.launchers.job_config import JobConfig, JobEvaluationConfig, job_config
from limbeck.launchers.jobs import TABLE, parts, published
from limbeck.launchers.nodes import actor, evaluator, learner, replay
from limbeck.launchers.nodes._replay_link import ReplayLink
from limbeck.launchers.runs import as_settings, settings_hash


pytestmark = [
    pytest.mark.replay,
    pytest.mark.skipif(
        importlib.util.find_spec("reverb") is None, reason="Reverb, of the replay extra, is not installed"
    ),
]

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT_S = 120.0  # Far more than anything here takes; without it a hang would be one.


class Board:
    """What the nodes of one program say to each other."""

    def __init__(self, config: JobConfig, directory: pathlib.Path):
        self.settings, self.directory = as_settings(config), directory
        self.handlers: dict[str, dict[str, Callable[..., Any]]] = {}
        self.addresses: dict[tuple[str, str], str] = {}
        self.facts: dict[str, dict[str, Any]] = {}


class FakeContext:
    """A `Context` whose handles call functions of this process."""

    def __init__(self, board: Board, name: str, settings: dict[str, Any] | None = None, incarnation: int = 0):
        self._board, self.name, self.incarnation = board, name, incarnation
        self.settings, self.program_settings = settings or {}, board.settings
        self.run_directory, self.stopping = board.directory, threading.Event()

    def serve(self, handlers):
        self._board.handlers[self.name] = dict(handlers)
        return self.name

    def connect(self, node, deadline_s=60.0):
        self._wait(lambda: node in self._board.handlers, deadline_s, node)
        return FakeHandle(self._board, node)

    def advertise(self, key, value):
        self._board.addresses[self.name, key] = value

    def find(self, node, key, deadline_s=60.0):
        self._wait(lambda: (node, key) in self._board.addresses, deadline_s, node)
        return self._board.addresses[node, key]

    def report(self, **facts):
        self._board.facts.setdefault(self.name, {}).update(facts)

    def _wait(self, found: Callable[[], bool], deadline_s: float, node: str) -> None:
        limit = time.monotonic() + deadline_s
        while not found():
            if time.monotonic() > limit or self.stopping.is_set():
                raise NodeGone(f"{node} is not there")
            time.sleep(0.01)


class FakeHandle:
    def __init__(self, board: Board, node: str):
        self._board, self._node = board, node

    def call(self, method, deadline_s=60.0, **arguments):
        del deadline_s
        return self._board.handlers[self._node][method](**arguments)


class NodeThread(threading.Thread):
    """A node at work; `end` waits for it and raises what it raised."""

    def __init__(self, run: Callable[[Any], None], context: FakeContext):
        super().__init__(name=context.name, daemon=True)
        self._work, self.context = run, context
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work(self.context)
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        self.context.stopping.set()

    def end(self) -> None:
        self.join(LIMIT_S)
        assert not self.is_alive(), f"{self.name} does not end"
        if self.failure is not None:
            raise self.failure


@contextlib.contextmanager
def job(board: Board, incarnation: int = 0) -> Iterator[NodeThread]:
    """Replay and one actor at work around a learner, which is what is yielded; then they are stopped in turn."""
    server = NodeThread(replay.run, FakeContext(board, "replay", incarnation=incarnation))
    learning = NodeThread(learner.run, FakeContext(board, "learner", incarnation=incarnation))
    acting = NodeThread(actor.run, FakeContext(board, "actor_0", {"actor": 0}, incarnation))
    try:
        yield learning
    finally:
        for thread in (acting, learning, server):
            thread.stop()
            thread.join(LIMIT_S)
        board.handlers.clear()
        board.addresses.clear()
    for thread in (acting, learning, server):
        thread.end()


def cartpole(agent: str, replay: dict[str, Any], **fields: Any) -> JobConfig:
    settings = {"hidden": (8,)}
    evaluation = JobEvaluationConfig(episodes=3, environments=2)
    return job_config(
        "CartPole-v1", agent, settings, replay, actors=1, environments=2, evaluation=evaluation, **fields
    )


def blank(config: JobConfig) -> dict[str, np.ndarray]:
    """An item of zeros."""
    return {name: np.zeros(*about) for name, about in signature(parts(config).spec).items()}


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_learner_from_prioritised_replay_finishes_and_sets_priorities(tmp_path):
    plan = {"unroll": 5, "period": 5, "batch": 8, "samples_per_insert": 4.0, "min_size": 8, "max_size": 500}
    config = cartpole("dqn", plan, steps=400)
    board = Board(config, tmp_path)
    with job(board) as learning:
        learning.end()
        final = NodeThread(evaluator.run, FakeContext(board, "evaluator"))
        final.end()
    about = published(tmp_path)
    assert about is not None
    assert (about["updates"], about["finished"], about["watermarks"]) == (40, True, None)
    assert board.facts["learner"]["steps"] == 400
    assert board.facts["actor_0"]["version"] >= 0
    found = rows(tmp_path / "metrics.csv")
    assert int(found[-1]["step"]) == 40 and float(found[-1]["steps"]) == 400.0
    for name in ("loss", "td_error", "epsilon", "episodes", "updates_per_s", "steps_per_s", "policy_lag"):
        assert np.isfinite(float(found[-1][name])), name
    evaluated = json.loads((tmp_path / "evaluation.json").read_text())
    assert (evaluated["updates"], evaluated["steps"], evaluated["episodes"]) == (40, 400, 3)

    # Every item came with priority 1: what differs is what the learner set, and the checkpoint has it.
    from limbeck.agents.replay import ReplayClient, ReplayServer

    with (
        ReplayServer([parts(config).table], restore=tmp_path / about["replay"]) as server,
        ReplayClient(server.address) as client,
    ):
        status = client.status()[TABLE]
        assert status["inserts"] >= about["inserts"] >= 8
        # The learner's sampler may have run as far ahead as it could: as many items as let 8 samples through then,
        # of priority 0, so that they are none of them.
        ahead = status["inserts"] * plan["samples_per_insert"] - status["samples"]
        missing = parts(config).table.limiter.min_diff + 8 - ahead
        blanks = max(0, -int(-missing // plan["samples_per_insert"]))
        if blanks:
            client.insert(TABLE, [blank(config)] * blanks, priorities=0.0, timeout_s=30.0)
        sample = client.sample(TABLE, 8, timeout_s=30.0)
    assert len(np.unique(sample.probabilities)) > 1 and sample.probabilities.min() > 0


def test_a_learner_from_a_queue_is_stopped_and_goes_on_to_its_end(tmp_path, caplog):
    config = cartpole("impala", {"unroll": 8, "period": 8, "batch": 4, "max_size": 8}, steps=32 * 60)
    board = Board(config, tmp_path)
    with job(board) as learning:
        limit = time.monotonic() + LIMIT_S
        while "learner" not in board.handlers or board.handlers["learner"]["progress"]()["updates"] < 3:
            assert time.monotonic() < limit and learning.is_alive()
            time.sleep(0.01)
    first = published(tmp_path)
    assert first is not None and 3 <= first["updates"] < 60 and not first["finished"]

    caplog.set_level(logging.INFO, "limbeck")
    logging.getLogger("limbeck").propagate = True
    with job(board, incarnation=1) as learning:
        learning.end()
    assert f"the learner goes on from update {first['updates']}" in caplog.text
    assert f"replay goes on from {tmp_path / first['replay']}" in caplog.text
    last = published(tmp_path)
    assert last is not None and last["updates"] == 60 and last["finished"]
    assert last["inserts"] > first["inserts"] and last["episodes"] >= first["episodes"]
    assert last["config_hash"] == first["config_hash"] == settings_hash(as_settings(config))
    assert last["versions"]["jax"] == jax.__version__
    steps = [int(row["step"]) for row in rows(tmp_path / "metrics.csv")]
    assert steps == sorted(set(steps)) and steps[-1] == 60

    # A learner that finds the job finished does nothing more.
    again = NodeThread(learner.run, FakeContext(board, "learner", incarnation=2))
    again.end()
    assert published(tmp_path) == last


def test_a_learner_that_cannot_publish_its_end_fails(tmp_path, monkeypatch):
    """Returning would have the evaluator wait for the final checkpoint for ever."""

    class Unwilling(ReplayLink):
        def call(self, work, within_s=None):
            return super().call(work) if within_s is None else None  # No checkpoint in time.

    monkeypatch.setattr(learner, "ReplayLink", Unwilling)
    config = cartpole("a2c", {"unroll": 4, "period": 4, "batch": 2, "max_size": 4}, steps=8)
    with job(Board(config, tmp_path)) as learning:
        with pytest.raises(RuntimeError, match="the final checkpoint could not be published"):
            learning.end()
        learning.failure = None
    assert published(tmp_path) is None


# A replay server that dies.


SERVER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from limbeck.launchers.job_config import job_from_settings
from limbeck.launchers.jobs import parts
from limbeck.agents.replay import ReplayServer
with ReplayServer([parts(job_from_settings(json.loads(sys.argv[2]))).table]) as server:
    print(server.address, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def doomed_server(config: JobConfig) -> Iterator[str]:
    """The address of a server in a process of its own, which is killed in the end."""
    command = [sys.executable, "-W", "ignore", "-c", SERVER, str(ROOT), json.dumps(as_settings(config))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def test_callers_of_a_replay_server_that_dies_end_or_recover(tmp_path):
    config = cartpole("impala", {"unroll": 8, "period": 8, "batch": 4, "max_size": 4})
    item = blank(config)
    context = FakeContext(board := Board(config, tmp_path), "actor_0")
    link = ReplayLink(context)

    def insert(client):
        client.insert(TABLE, [item] * 2, timeout_s=2.0)
        return "inserted"

    with doomed_server(config) as address:
        board.addresses["replay", replay.ADDRESS] = address
        assert link.call(insert) == "inserted"
        # A sampler that waits for the rest of its batch while the server dies.
        answers: dict[str, Any] = {}
        waits = ReplayLink(FakeContext(board, "learner"))

        def sample() -> None:
            answers["sample"] = waits.call(lambda client: client.sample(TABLE, 4, timeout_s=2.0))

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        time.sleep(0.5)
    # The supervisor has not noticed: the old address still stands.
    assert link.call(insert, within_s=1.0) is None
    del board.addresses["replay", replay.ADDRESS]
    assert link.call(insert, within_s=1.0) is None
    assert sampler.is_alive()

    with doomed_server(config) as address:  # At another address, and empty.
        board.addresses["replay", replay.ADDRESS] = address
        for _ in range(2):
            assert link.call(insert, within_s=60.0) == "inserted"
        sampler.join(LIMIT_S)
        assert not sampler.is_alive() and answers["sample"].data["action"].shape == (4, 8)
        link.close()
        waits.close()
    # A node that is to stop does not go on trying for ever.
    del board.addresses["replay", replay.ADDRESS]
    context.stopping.set()
    assert ReplayLink(context).call(insert) is None
