"""A labeller node: reads what actors have done, labels it with a reward model, and writes it as experience."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...rewards.labelling import EpisodeLabeller
from ...rewards.segments import Bundle, read_bundle
from ...rewards.splicing import StreamSplicer
from ..job_config import job_from_settings
from ..job_labelling import labelling_directory, reward_model, unlabelled_table
from ..job_watch import JobWatch, watch_config
from ..jobs import TABLE, parts
from ..labelling_journal import LabellingJournal
from ..program import Context
from ._replay_link import ReplayLink


_log = logging.getLogger(__name__)

_CALL_S = 10.0
_LOOK_S = 0.02
_REPORT_EVERY_S = 1.0
# Episodes over which the share of hits is taken.
_RECENT = 100


def run(context: Context) -> None:
    """Labels until it is told to stop."""
    config = job_from_settings(context.program_settings)
    actors = range(context.settings["labeller"], config.actors, config.labellers)
    model = reward_model(config)
    labeller = EpisodeLabeller(model, config.reward_threshold)
    journals = {
        actor: LabellingJournal(labelling_directory(context.run_directory, actor)) for actor in actors
    }
    link = ReplayLink(context)
    replay = _LinkedReplay(context, link)
    learned = set(parts(config).table.signature)
    work = Labelling(labeller, journals, replay, config.replay.unroll, config.replay.period, learned)
    place = context.run_directory / "labelling" / f"watch_{context.settings['labeller']}.json"
    watch = JobWatch(place, watch_config(model))
    diary = _Diary(context, work, watch)
    while not context.stopping.is_set():
        if not work.step():
            context.stopping.wait(_LOOK_S)
        diary.tell()
    diary.close()
    link.close()
    for journal in journals.values():
        journal.close()


class Unlabelled(NamedTuple):
    """A bundle in the table of its actor: the key that deletes it, and what it holds."""

    key: int
    bundle: Bundle


class LabellingReplay(Protocol):
    """What a labeller does with replay. Whatever it was told to stop for is None or False."""

    def waiting(self, actors: Sequence[int]) -> list[int]:
        """Those of the actors that have a bundle waiting."""
        ...

    def oldest(self, actor: int) -> Unlabelled | None:
        """The oldest bundle of an actor, which stays where it is."""
        ...

    def put(self, item: Mapping[str, np.ndarray]) -> bool:
        """Returns when the server has a copy."""
        ...

    def delete(self, actor: int, key: int) -> None:
        """Takes a bundle away."""
        ...


class Labelling:
    """The work of one labeller, a bundle of each of its actors at a time.

    A bundle is deleted only after its copies have been confirmed and what its streams go on with is in the journal.
    So a labeller may be killed anywhere: the next one finds the bundle again, makes the same copies of it, and leaves
    out those that were confirmed.

    Attributes:
      labeller: the rewards.
      age_s: how long the last bundle had waited.
      bundles: that were done.
      steps: rows that actors had made in them.
      repeats: bundles that were found again and thrown away.
    """

    def __init__(
        self,
        labeller: EpisodeLabeller,
        journals: Mapping[int, LabellingJournal],
        replay: LabellingReplay,
        unroll: int,
        period: int,
        learned: Collection[str] | None = None,
    ):
        """
        Args:
          labeller: new; it goes on where the journals say.
          journals: of every actor.
          replay: where bundles come from and copies go to.
          unroll, period: of the copies.
          learned: names of a copy's arrays, which leave out frames where no learner reads them; None for all.
        """
        self.labeller, self._journals, self._replay = labeller, journals, replay
        self._learned = learned
        self._unroll, self._period = unroll, period
        self.age_s, self.bundles, self.steps, self.repeats = 0.0, 0, 0, 0
        self._splicers: dict[int, list[StreamSplicer]] = {}
        for actor, journal in journals.items():
            if journal.streams is not None:
                labeller.restore(actor, journal.streams)
                self._splicers[actor] = [StreamSplicer(unroll, period, rows) for rows in journal.rows]

    def step(self) -> bool:
        """Labels the oldest bundle of every actor that has one. Whether there was any."""
        found = [(actor, self._replay.oldest(actor)) for actor in self._replay.waiting(list(self._journals))]
        fresh = []
        for actor, taken in found:
            if taken is None:
                continue
            if self._journals[actor].is_new(_place(taken.bundle)):
                fresh.append((actor, taken))
            else:
                self.repeats += 1
                self._replay.delete(actor, taken.key)
        scores = self._score(fresh)
        for (actor, taken), rewards in zip(fresh, scores):
            self.age_s = max(0.0, time.time() - taken.bundle.made)
            if not self._finish(actor, taken, rewards):
                break
        return bool(found)

    def _score(self, fresh: Sequence[tuple[int, Unlabelled]]) -> list[np.ndarray]:
        """The rewards `[E, T]` of each bundle, by one pass over the model for those that had none yet."""
        scores = [self._journals[actor].scores(_place(taken.bundle)) for actor, taken in fresh]
        asked = [i for i, kept in enumerate(scores) if kept is None]
        segments = [segment for i in asked for segment in fresh[i][1].bundle.segments]
        rewards = iter(self.labeller.score_many(segments))
        for i in asked:
            actor, taken = fresh[i]
            found = np.stack([next(rewards) for _ in taken.bundle.segments])
            self._journals[actor].keep_scores(_place(taken.bundle), found)
            scores[i] = found
        return [kept for kept in scores if kept is not None]

    def _finish(self, actor: int, taken: Unlabelled, rewards: np.ndarray) -> bool:
        """Writes a bundle's copies, and lets it go. False where the node is to stop first."""
        journal, bundle = self._journals[actor], taken.bundle
        place = _place(bundle)
        if actor not in self._splicers:
            self._splicers[actor] = [StreamSplicer(self._unroll, self._period) for _ in bundle.segments]
        copies = []
        for segment, labels, splicer in zip(bundle.segments, rewards, self._splicers[actor]):
            labelled = self.labeller.apply(segment, labels)
            source = (actor, segment.incarnation, segment.stream, segment.number)
            rows = labelled.rows
            if self._learned is not None:
                rows = {name: array for name, array in rows.items() if name in self._learned}
            copies += splicer.add(rows, source, labelled.broken)
        for count in range(journal.sent(place), len(copies)):
            if not self._replay.put(copies[count]):
                return False
            journal.note_sent(place, count + 1)
        state = self.labeller.state(actor, len(bundle.segments))
        journal.commit(place, state, [splicer.rows for splicer in self._splicers[actor]])
        self._replay.delete(actor, taken.key)
        self.bundles, self.steps = self.bundles + 1, self.steps + rewards.size
        return True


class _LinkedReplay:
    """`LabellingReplay` over the replay server, whichever start of it is alive."""

    def __init__(self, context: Context, link: ReplayLink):
        self._context, self._link = context, link

    def waiting(self, actors: Sequence[int]) -> list[int]:
        status = self._link.call(lambda client: client.status())
        return [] if status is None else [a for a in actors if status[unlabelled_table(a)]["size"]]

    def oldest(self, actor: int) -> Unlabelled | None:
        table = unlabelled_table(actor)
        found = self._link.call(lambda client: client.sample(table, 1, _CALL_S), within_s=0)
        if found is None:
            return None
        item = {name: array[0] for name, array in found.data.items()}
        return Unlabelled(int(found.keys[0]), read_bundle(actor, item))

    def put(self, item: Mapping[str, np.ndarray]) -> bool:
        # An insert that waits in the server for room is one of which nobody knows, when this process is killed,
        # whether it came to pass. So it is begun only where there is room.
        while not self._context.stopping.is_set():
            status = self._link.call(lambda client: client.status())
            if status is not None and status[TABLE]["waiting"] != "inserts":
                return bool(self._link.call(lambda client: _inserted(client, item)))
            self._context.stopping.wait(_LOOK_S)
        return False

    def delete(self, actor: int, key: int) -> None:
        self._link.call(lambda client: client.delete(unlabelled_table(actor), [key], _CALL_S))


class _Diary:
    """What a labeller says of itself, every second: rates since the last time."""

    def __init__(self, context: Context, work: Labelling, watch: JobWatch):
        self._context, self._work, self._watch = context, work, watch
        self._since, self._scored, self._distinct = time.monotonic(), 0, 0
        self._recent: list[Any] = []
        context.report(bundles=0)

    def tell(self) -> None:
        seconds = time.monotonic() - self._since
        if seconds < _REPORT_EVERY_S:
            return
        labeller = self._work.labeller
        scored, distinct = labeller.scored - self._scored, labeller.distinct - self._distinct
        episodes = labeller.take_episodes()
        self._watch.observe(episodes, self._work.steps)
        self._recent = (self._recent + episodes)[-_RECENT:]
        facts: dict[str, Any] = {"bundles": self._work.bundles, "frames/s": round(scored / seconds)}
        if scored:
            facts |= {"distinct": round(distinct / scored, 3), "queue age": round(self._work.age_s, 2)}
        if self._recent:
            hits = [episode for episode in self._recent if episode.hit]
            facts["hit rate"] = round(len(hits) / len(self._recent), 3)
            if hits:
                facts["true of hits"] = round(float(np.mean([episode.true_success for episode in hits])), 3)
        if self._work.repeats:
            facts["repeats"] = self._work.repeats
        self._context.report(**facts, **self._watch.facts())
        self._since, self._scored, self._distinct = time.monotonic(), labeller.scored, labeller.distinct

    def close(self) -> None:
        self._watch.observe(self._work.labeller.take_episodes(), self._work.steps)
        self._watch.save()


def _place(bundle: Bundle) -> tuple[int, int]:
    return bundle.incarnation, bundle.number


def _inserted(client: Any, item: Mapping[str, np.ndarray]) -> bool:
    client.insert(TABLE, item, timeout_s=_CALL_S)
    return True
