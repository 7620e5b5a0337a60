"""The learner node: updates the agent, serves its variables, and publishes the job's checkpoints."""

import collections
import logging
import pathlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ...agents import Batch, Learner, prune_checkpoints
from ...encoders import MetricsLogger, checkpoints
from ..job_config import JobConfig, job_from_settings
from ..job_histories import history_watermarks
from ..jobs import TABLE, checkpoint_directory, parts, published, replay_directory
from ..program import Context
from ..runs import as_settings, settings_hash, versions
from ._replay_link import ReplayLink


_log = logging.getLogger(__name__)

# Episodes over which the actors' success and return are averaged.
_RECENT = 100
_SAMPLE_S = 10.0
_LOG_EVERY_S = 5.0
# A checkpoint of replay blocks every insert and sample while it is written.
_CHECKPOINT_S = 120.0
# The back end kills a node that does not stop soon.
_LAST_CHECKPOINT_S = 8.0


def run(context: Context) -> None:
    """Learns until the job's steps are done, its success is reached, or the node is to stop."""
    job = _Job(context)
    context.serve(job.handlers())
    if job.finished:
        return
    with MetricsLogger(context.run_directory, settings=context.program_settings) as metrics:
        metrics.start(job.learner.updates)
        job.learn(metrics)


class _Job:
    """The learner's side of a job: its state, its bookkeeping, and what it publishes."""

    def __init__(self, context: Context):
        self.context = context
        self.config: JobConfig = job_from_settings(context.program_settings)
        made, about = parts(self.config), published(context.run_directory)
        state = None
        if about is not None:
            template = Learner.template(made.agent, self.config.seed)
            state = checkpoints.restore(checkpoint_directory(context.run_directory), template).tree
            _log.info("the learner goes on from update %d", int(state.updates))
        self.learner = Learner(
            made.agent, made.spec, self.config.seed, self.config.replay.importance_exponent, state
        )
        self.episodes = _Episodes(0 if about is None else about["episodes"])
        self.finished = about is not None and about["finished"]
        self.reached = threading.Event()
        self._link = ReplayLink(context)

    def handlers(self) -> dict[str, Any]:
        """What other nodes may call."""
        return {
            "pull": self.pull,
            "episodes": self.episodes.add,
            "progress": self.progress,
            "reached": self.reached.set,
        }

    def pull(self, have: int) -> dict[str, Any]:
        """The newest variables as a list of leaves, or nothing where `have` is their version."""
        found = self.learner.pull(have)
        if found is None:
            return {}
        version, params = found
        return {"version": version, "leaves": jax.tree.leaves(params)}

    def progress(self) -> dict[str, Any]:
        """How far the job is, and the actors' recent episodes where there are any."""
        steps = round(self.learner.updates * self.config.steps_per_update)
        done = {"updates": self.learner.updates, "steps": steps, "episodes": self.episodes.count}
        return {**done, **self.episodes.means()}

    def learn(self, metrics: MetricsLogger) -> None:
        """Updates until the end, with a checkpoint every so often and one at the end."""
        if published(self.context.run_directory) is None:
            self.publish(finished=False)  # So that replay, too, has something to go back to.
        diary = _Diary(metrics, self.context, self.config)
        last = asked = time.monotonic()
        for batch, keys in _batches(self.context, self.config):
            waited = time.monotonic() - asked
            numbers, priorities, versions = self.learner.update(batch)
            lag = self.learner.updates - 1 - float(versions.mean())
            if self.learner.updates % self.config.publish_every == 0:
                self.learner.publish()
            if self.config.replay.kind == "prioritised":
                self._update_priorities(keys, np.asarray(priorities))
            diary.note(self.learner.updates, numbers, lag, waited, self.episodes)
            if self.learner.updates >= self.config.updates or self.reached.is_set():
                break
            if time.monotonic() - last > self.config.checkpoint_every_s:
                self.publish(finished=False)
                last = time.monotonic()
            asked = time.monotonic()
        self.learner.publish()
        done = self.learner.updates >= self.config.updates or self.reached.is_set()
        is_published = self.publish(finished=done)
        diary.write(self.learner.updates)
        self._link.close()
        if done and not is_published and not self.context.stopping.is_set():
            # Returning would leave the evaluator to wait for it for ever.
            raise RuntimeError("the final checkpoint could not be published: replay did not write its own")
        if not done and not self.context.stopping.is_set():
            raise RuntimeError("the learner ran out of batches although nobody told it to stop")

    def publish(self, finished: bool) -> bool:
        """One checkpoint of all that belongs together: a replay checkpoint first, then all under one rename.

        Returns:
          Whether it was published; not where the replay server does not answer.
        """
        root = self.context.run_directory
        limit = _LAST_CHECKPOINT_S if self.context.stopping.is_set() else _CHECKPOINT_S
        written = self._link.call(
            lambda client: (client.status()[TABLE]["inserts"], client.checkpoint(limit)), within_s=limit
        )
        if written is None:
            _log.warning("no checkpoint: the replay server did not answer")
            return False
        inserts, place = written
        about = {
            "replay": str(pathlib.Path(place).relative_to(root)),
            "inserts": inserts,
            "updates": self.learner.updates,
            "finished": finished,
            "episodes": self.episodes.count,
            "watermarks": history_watermarks(root),
            "config_hash": settings_hash(as_settings(self.config)),
            "versions": versions(),
        }
        checkpoints.save(
            checkpoint_directory(root), self.learner.updates, self.learner.state, about, keep=self.config.keep
        )
        _prune(root)
        return True

    def _update_priorities(self, keys: np.ndarray, priorities: np.ndarray) -> None:
        # What was removed meanwhile is ignored by the server; a server that is away has old priorities anyway.
        self._link.call(lambda client: client.update_priorities(TABLE, keys, priorities, _SAMPLE_S))


class _Episodes:
    """What the actors say of their episodes. For any thread."""

    def __init__(self, count: int):
        self._lock = threading.Lock()
        self.count = count
        self._recent: collections.deque[tuple[float, int, bool]] = collections.deque(maxlen=_RECENT)

    def add(self, returns: list[float], lengths: list[int], successes: list[bool]) -> None:
        with self._lock:
            self.count += len(returns)
            self._recent.extend(zip(returns, lengths, successes))

    def means(self) -> dict[str, float]:
        """Of the most recent ones; empty before there are any."""
        with self._lock:
            recent = list(self._recent)
        if not recent:
            return {}
        names = ("return", "episode_length", "success")
        return {name: float(np.mean(values)) for name, values in zip(names, zip(*recent))}


class _Diary:
    """Means of the metrics since the last row, every few seconds to the files and the status table."""

    def __init__(self, metrics: MetricsLogger, context: Context, config: JobConfig):
        self._metrics, self._context, self._config = metrics, context, config
        self._rows: list[dict[str, Any]] = []
        self._lags: list[float] = []
        self._waited = 0.0
        self._since, self._episodes = time.monotonic(), _Episodes(0)
        self._begun = False

    def note(
        self, updates: int, numbers: dict[str, Any], lag: float, waited: float, episodes: _Episodes
    ) -> None:
        """Takes in an update, and the seconds it was waited for; writes a row where the last was some seconds ago."""
        if not self._begun:  # Whoever looks sees that it learns before there are means to show.
            self._begun = True
            self._context.report(updates=updates, steps=round(updates * self._config.steps_per_update))
        self._rows.append(numbers)
        self._lags.append(lag)
        self._waited += waited
        self._episodes = episodes
        if time.monotonic() - self._since > _LOG_EVERY_S:
            self.write(updates)

    def write(self, updates: int) -> None:
        """Writes a row of the means since the last one, unless there was no update."""
        if not self._rows:
            return
        seconds = time.monotonic() - self._since
        rate = len(self._rows) / seconds
        values = {name: float(np.mean([row[name] for row in self._rows])) for name in self._rows[0]}
        values |= self._episodes.means() | {
            "steps": updates * self._config.steps_per_update,
            "episodes": self._episodes.count,
            "updates_per_s": rate,
            "steps_per_s": rate * self._config.steps_per_update,
            "policy_lag": float(np.mean(self._lags)),
            "wait_share": min(1.0, self._waited / seconds),
        }
        self._metrics.log(updates, values)
        self._context.report(
            updates=updates,
            steps=round(values["steps"]),
            **{"steps/s": round(values["steps_per_s"]), "policy lag": round(values["policy_lag"], 2)},
            **{"wait share": round(values["wait_share"], 3)},
            **{name: round(values[name], 3) for name in ("return", "success") if name in values},
        )
        self._rows, self._lags, self._waited, self._since = [], [], 0.0, time.monotonic()


def _batches(context: Context, config: JobConfig) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches and the keys of their items.

    One is sampled ahead while the last one is learned from, but not from a queue: what waits here is older, by an
    update, than what could wait with the actors.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=1)
    ended, asked = threading.Event(), threading.Semaphore(0)
    ahead = config.replay.kind != "queue"

    def sample() -> None:
        link = ReplayLink(context)
        try:
            while not ended.is_set():
                if not ahead and not asked.acquire(timeout=0.5):
                    continue
                found = link.call(lambda client: client.sample(TABLE, config.replay.batch, _SAMPLE_S))
                if found is None:
                    break
                _put(ready, found, ended)
        except BaseException as error:
            _put(ready, error, ended)
        finally:
            _put(ready, None, ended)
            link.close()

    threading.Thread(target=sample, name="sampler", daemon=True).start()
    try:
        # A node that is to stop does not wait for a batch that nobody fills: its time is for the last checkpoint.
        while (found := _take(ready, context, asked)) is not None:
            if isinstance(found, BaseException):
                raise found
            yield Batch(found.data, found.probabilities, found.table_size), found.keys
    finally:
        ended.set()


def _take(ready: queue.Queue, context: Context, asked: threading.Semaphore) -> Any:
    asked.release()
    while True:
        try:
            return ready.get(timeout=0.2)
        except queue.Empty:
            if context.stopping.is_set():
                return None


def _put(ready: queue.Queue, value: Any, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            return ready.put(value, timeout=0.5)
        except queue.Full:
            continue


def _prune(root: pathlib.Path) -> None:
    """Removes the replay checkpoints that no kept checkpoint names."""
    directory = checkpoint_directory(root)
    named = [root / checkpoints.settings(directory, step)["replay"] for step in checkpoints.steps(directory)]
    prune_checkpoints(replay_directory(root), named)
