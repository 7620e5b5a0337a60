"""An actor node: steps environments with the newest variables and writes trajectories to replay."""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...agents import HISTORIES_TABLE, Actor, HistoryRecorder, Rows, TrajectoryCutter, block_item, to_item
from ...envs import LAST, HostStreams
from ...rewards.goal_text import goal_of
from ...rewards.inline import InlineStreams
from ...rewards.segments import BundleCutter
from ..job_config import JobConfig, job_from_settings
from ..job_histories import history_manifest
from ..job_labelling import reward_model, unlabelled_table
from ..jobs import TABLE, make_environment, parts
from ..program import Context
from ..rpc import CallTimeout, NodeGone
from ._replay_link import ReplayLink
from ._variables import LearnerLink


_log = logging.getLogger(__name__)

_INSERT_S = 10.0
_LOOK_S = 0.02
_TELL_EVERY_S = 1.0
# Blocks that a store has not acknowledged; with more the actor waits.
_MOST_WAITING = 8


def run(context: Context) -> None:
    """Acts until it is told to stop."""
    config = job_from_settings(context.program_settings)
    number = context.settings["actor"]
    made = parts(config)
    table = unlabelled_table(number) if config.labelled else TABLE
    learner = LearnerLink(context, made.agent)
    writer = _Writer(context, table, config.most_waiting if config.labelled else None)
    # A restarted actor plays other episodes than those that it has played already.
    environments = [
        make_environment(config, number, i, context.incarnation) for i in range(config.environments)
    ]
    inline = config.reward is not None and not config.labelled
    streams = (
        InlineStreams(environments, reward_model(config), threshold=config.reward_threshold)
        if inline
        else HostStreams(environments)
    )
    seed = (config.seed * 1000 + number) * 1000 + context.incarnation
    actor = Actor(made.agent, streams, seed % 2**31, rewards_shown=config.reward is None, reads=config.reads)
    items = _Bundles(actor.streams, config, context.incarnation) if config.labelled else _Trajectories(config)
    recording = _Recording(context, config, number) if config.history_steps else None
    steps, since, written = 0, time.monotonic(), 0
    alive = learner.wait() and (recording is None or recording.begin())
    while alive and not context.stopping.is_set():
        memory = actor.memory
        rows = actor.step(learner.params)
        steps += config.environments
        if recording is not None:
            recording.add(rows)
        cut = items.add(rows, memory, learner.version)
        if cut:
            alive = writer.put(cut)
            written += 1
            if written % config.pull_every == 0:
                learner.pull()
        seconds = time.monotonic() - since
        if seconds > _TELL_EVERY_S:
            _tell(context, actor, learner, {"steps/s": round(steps / seconds), **writer.facts()})
            if recording is not None:
                recording.acknowledge()
            steps, since = 0, time.monotonic()
    if recording is not None:
        recording.finish()
    for environment in environments:
        environment.close()


def _tell(context: Context, actor: Actor, learner: LearnerLink, facts: Mapping[str, Any]) -> None:
    context.report(version=learner.version, **facts)
    episodes = actor.take_episodes()
    if episodes:
        learner.call(
            "episodes",
            returns=[episode.episode_return for episode in episodes],
            lengths=[episode.length for episode in episodes],
            successes=[episode.success for episode in episodes],
        )


class _Writer:
    """Inserts items on a thread of its own, so that a node that is to stop need not wait for a full table.

    An actor never waits for a label before `most` bundles do. It waits for the learner, as in any job: one that has all
    that its table takes would learn the next bundle later, from older variables.
    """

    def __init__(self, context: Context, table: str, most: int | None):
        """
        Args:
          context: of the node.
          table: that takes the items.
          most: items that may wait in it for a labeller; None where the table is the learner's own.
        """
        self._context, self._table, self._most = context, table, most
        self._waited_s = 0.0
        self._items: queue.Queue[list[dict[str, np.ndarray]]] = queue.Queue()
        self._done = threading.Event()
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, name="writer", daemon=True).start()

    def put(self, items: list[dict[str, np.ndarray]]) -> bool:
        """Returns when the server has the items; False where the node is to stop first.

        An actor that acted on meanwhile would act with variables that are older by as many updates.
        """
        self._done.clear()
        self._items.put(items)
        while not self._done.wait(0.2):
            if self._context.stopping.is_set():
                return False
        if self._failure is not None:
            raise self._failure
        return True

    def _run(self) -> None:
        link = ReplayLink(self._context)
        try:
            while not self._context.stopping.is_set():
                items = self._items.get()
                self._wait_for_room(link)
                link.call(lambda client, items=items: client.insert(self._table, items, timeout_s=_INSERT_S))
                self._done.set()
        except BaseException as error:
            self._failure = error
            self._done.set()

    def facts(self) -> dict[str, Any]:
        """For the status table: seconds that the actor has waited for labels."""
        return {} if self._most is None else {"waited s": round(self._waited_s, 1)}

    def _wait_for_room(self, link: ReplayLink) -> None:
        """Nobody else inserts into a table with such a limit, so what was found free stays so."""
        while self._most is not None and not self._context.stopping.is_set():
            status = link.call(lambda client: client.status())
            waits = "learner" if status is None else waits_for(status, self._table, self._most)
            if waits == "":
                return
            began = time.monotonic()
            self._context.stopping.wait(_LOOK_S)
            if waits == "labeller":
                self._waited_s += time.monotonic() - began


def waits_for(status: Mapping[str, Mapping[str, Any]], table: str, most: int) -> str:
    """Whom an actor has to wait for before it writes a bundle.

    Args:
      status: of the replay server's tables.
      table: the actor's own.
      most: bundles that it may hold.

    Returns:
      "labeller" where so many wait; "learner" where it has all that it takes and a bundle more is waiting; "" else.
    """
    size, full = status[table]["size"], status[TABLE]["waiting"] == "inserts"
    if full and size:
        return "learner"
    return "labeller" if size >= most else ""


class _Trajectories:
    """Rows as items for the learner."""

    def __init__(self, config: JobConfig):
        self._cutter, self._reads = TrajectoryCutter(config.replay.unroll, config.replay.period), config.reads

    def add(self, rows: Rows, memory: Any, version: int) -> list[dict[str, np.ndarray]]:
        """The items that these rows complete."""
        return [
            to_item(trajectory, version) for trajectory in self._cutter.add(rows.reading(self._reads), memory)
        ]


class _Bundles:
    """Rows as items for a labeller, with the goal of each and the truth about the episodes that they end."""

    def __init__(self, streams: HostStreams, config: JobConfig, incarnation: int):
        self._streams = streams
        self._cutter = BundleCutter(config.replay.unroll, incarnation, config.reads)
        self._goals = self._current_goals()

    def add(self, rows: Rows, memory: Any, version: int) -> list[dict[str, np.ndarray]]:
        """The item that these rows complete, if they do; for the streams' last step."""
        successes = np.zeros(len(self._streams), np.float32)
        for episode in self._streams.episodes:  # Of several of a stream the newest is last.
            successes[episode.stream] = episode.success
        successes[rows.led_to.step_type != LAST] = 0
        item = self._cutter.add(rows, memory, version, self._goals, successes, time.time())
        self._goals = self._current_goals()  # A step that ends an episode leaves no trace of its goal.
        return [] if item is None else [item]

    def _current_goals(self) -> list[str]:
        return [goal_of(environment) for environment in self._streams.environments]


class _Recording:
    """The actor's side of the learning histories."""

    def __init__(self, context: Context, config: JobConfig, group: int):
        self._context, self._group = context, group
        self._manifest = history_manifest(config)
        self._link, self._sink = ReplayLink(context), None
        self._recorder: HistoryRecorder | None = None

    def begin(self) -> bool:
        """Asks the sink where the streams go on; False where the node is to stop first."""
        while not self._context.stopping.is_set():
            watermark = self._call("begin", epoch=self._context.incarnation)
            if watermark is not None:
                self._recorder = HistoryRecorder(self._manifest, self._group, watermark, self._send)
                return True
            self._context.stopping.wait(0.2)
        return False

    def add(self, rows: Rows) -> None:
        """Adds a step; waits where the store is too far behind."""
        assert self._recorder is not None
        self._recorder.add(rows)
        while self._recorder.waiting > _MOST_WAITING and not self._context.stopping.wait(0.2):
            self.acknowledge()

    def acknowledge(self) -> None:
        """Learns from the sink what the store has."""
        assert self._recorder is not None
        if self._recorder.waiting:
            watermark = self._call("watermark")
            if watermark is not None:
                self._recorder.acknowledge(watermark)

    def finish(self, within_s: float = 5.0) -> None:
        """Gives the store a while for what was sent. A block that is not whole is lost: a cut at the next start."""
        deadline = time.monotonic() + within_s
        while self._recorder is not None and self._recorder.waiting and time.monotonic() < deadline:
            self.acknowledge()
            time.sleep(0.1)
        self._link.close()

    def _send(self, chunk: int, fields: Mapping[str, np.ndarray]) -> None:
        item = block_item(self._manifest, self._group, chunk, fields, self._context.incarnation)
        # What is not sent now is sent again when it is not acknowledged.
        self._link.call(lambda client: client.insert(HISTORIES_TABLE, item, timeout_s=_INSERT_S), within_s=0)

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            if self._sink is None:
                self._sink = self._context.connect("sink", 5.0)
            return self._sink.call(method, deadline_s=5.0, group=self._group, **arguments)
        except (NodeGone, CallTimeout) as error:
            _log.info("the history sink is away: %s", error)
            return None
