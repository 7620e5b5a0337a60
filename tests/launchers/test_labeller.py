"""Labellers: killed anywhere they lose nothing and double nothing; and what the journal keeps."""

import pathlib
from typing import Any

import numpy as np
import pytest
from limbeck.envs import LAST, MID
from limbeck.launchers.labelling_journal import LabellingJournal
from limbeck.launchers.nodes.labeller import Labelling, Unlabelled
from limbeck.rewards import Bundle, EpisodeLabeller, Segment


UNROLL, PERIOD, STREAMS, ROWS = 4, 2, 2, 5


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


class Killer:
    """Kills at one moment of many, by its number or the first of a kind."""

    def __init__(self, moment: int | str = -1):
        self.moment, self.moments = moment, []

    def __call__(self, kind: str) -> None:
        self.moments.append(kind)
        if self.moment in (len(self.moments) - 1, kind):
            raise Killed(kind)


class FakeReplay:
    """Tables as dictionaries; what was inserted stays when a labeller dies."""

    def __init__(self, bundles: dict[int, list[Bundle]]):
        self.unlabelled = {a: dict(enumerate(of, 1 + 100 * a)) for a, of in bundles.items()}
        self.experience: list[dict[str, np.ndarray]] = []
        self.kill = Killer()

    def waiting(self, actors):
        return [actor for actor in actors if self.unlabelled[actor]]

    def oldest(self, actor):
        self.kill("before oldest")
        key = min(self.unlabelled[actor])
        return Unlabelled(key, self.unlabelled[actor][key])

    def put(self, item):
        self.kill("before put")
        self.experience.append({name: np.array(array) for name, array in item.items()})
        self.kill("after put")
        return True

    def delete(self, actor, key):
        self.kill("before delete")
        self.unlabelled[actor].pop(key, None)
        self.kill("after delete")


class KilledJournal(LabellingJournal):
    """Whose writes are moments to be killed at."""

    def __init__(self, directory: pathlib.Path, kill: Killer):
        super().__init__(directory)
        self.kill = kill

    def _around(self, name: str, *arguments: Any) -> None:
        self.kill(f"before {name}")
        getattr(LabellingJournal, name)(self, *arguments)
        self.kill(f"after {name}")

    def keep_scores(self, *arguments):
        self._around("keep_scores", *arguments)

    def note_sent(self, *arguments):
        self._around("note_sent", *arguments)

    def commit(self, *arguments):
        self._around("commit", *arguments)


class Moody:
    """A model near its threshold, which answers otherwise each time it is asked with other frames beside."""

    def __init__(self):
        self.calls = 0

    def __call__(self, frames, goals):
        self.calls += 1
        return ((frames[:, 0, 0, 0].astype(int) * 7 + self.calls) % 9 == 0).astype(np.float32)


def bundles(actor: int, count: int, incarnation: int = 0, first: int = 0) -> list[Bundle]:
    rng = np.random.default_rng((actor, incarnation))
    made = []
    for number in range(first, first + count):
        segments = []
        for stream in range(STREAMS):
            ticks = number * ROWS + np.arange(ROWS)
            images = np.zeros((ROWS, 2, 2, 3), np.uint8)
            images[:, 0, 0, 0] = ticks
            rows = {
                "next_observation/image": images,
                "action": ticks.astype(np.int32),
                "reward": np.zeros(ROWS, np.float32),
                "discount": np.ones(ROWS, np.float32),
                "step_type": np.where(rng.random(ROWS) < 0.2, LAST, MID).astype(np.int32),
                "extras/true_success": np.zeros(ROWS, np.float32),
                "policy_version": np.zeros(ROWS, np.int64),
            }
            segments.append(Segment(actor, incarnation, stream, number, rows, ["go"] * ROWS))
        made.append(Bundle(incarnation, number, 0.0, segments))
    return made


def labelling(directory: pathlib.Path, replay: FakeReplay, model: Any) -> Labelling:
    journals = {a: KilledJournal(directory / str(a), replay.kill) for a in replay.unlabelled}
    return Labelling(EpisodeLabeller(model), journals, replay, UNROLL, PERIOD)


def finish(directory: pathlib.Path, replay: FakeReplay, model: Any = None) -> Labelling:
    work = labelling(directory, replay, model or by_frame)
    while work.step():
        pass
    return work


def by_frame(frames, goals):
    return (frames[:, 0, 0, 0] % 9 == 4).astype(np.float32)


def marks(replay: FakeReplay) -> list[tuple]:
    """Every copy by its source and its rows, in the order of its stream."""
    return sorted(
        (*i["source"].tolist(), *i["action"].tolist(), *i["reward"].tolist()) for i in replay.experience
    )


def begin() -> FakeReplay:
    return FakeReplay({0: bundles(0, 3), 1: bundles(1, 2)})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[list[tuple], list[str]]:
    """The copies where nobody is killed, and the moments at which one could be."""
    replay = begin()
    finish(tmp_path_factory.mktemp("undisturbed"), replay)
    found = marks(replay)
    assert len(found) == len(set(found)) > 10 and not any(replay.unlabelled.values())
    return found, replay.kill.moments


def test_killed_at_any_moment_nothing_is_lost_and_nothing_doubled(tmp_path, undisturbed):
    expected, moments = undisturbed
    between = [i for i, kind in enumerate(moments) if kind not in ("after put", "before note_sent")]
    assert {moments[i] for i in between} >= {
        "before oldest", "after keep_scores", "before put", "after note_sent", "before commit", "after commit",
        "before delete", "after delete",
    }  # fmt: skip
    for moment in between:
        replay = begin()
        replay.kill = Killer(moment)
        with pytest.raises(Killed):
            finish(tmp_path / str(moment), replay)
        replay.kill.moment = -1
        finish(tmp_path / str(moment), replay)
        assert marks(replay) == expected, moments[moment]
        assert not any(replay.unlabelled.values())


def test_killed_before_a_confirmed_copy_is_noted_it_alone_is_doubled(tmp_path, undisturbed):
    expected, moments = undisturbed
    within = [i for i, kind in enumerate(moments) if kind in ("after put", "before note_sent")]
    for moment in within[::5]:
        replay = begin()
        replay.kill = Killer(moment)
        with pytest.raises(Killed):
            finish(tmp_path / str(moment), replay)
        replay.kill.moment = -1
        finish(tmp_path / str(moment), replay)
        found = marks(replay)
        assert sorted(set(found)) == expected and len(found) == len(expected) + 1


def test_killed_again_and_again(tmp_path, undisturbed):
    expected, _ = undisturbed
    replay, deaths = begin(), 0
    for lives in range(200):
        replay.kill = Killer(3 + lives % 11)
        try:
            finish(tmp_path, replay)
        except Killed as death:
            deaths += 1
            if death.args[0] in ("after put", "before note_sent"):
                replay.experience.pop()  # The one that is known to be doubled.
        else:
            break
    assert deaths > 5 and marks(replay) == expected


def test_a_model_that_answers_otherwise_the_second_time_is_not_asked_again(tmp_path):
    """Else the copies made before a death and those made after it would not be of one stream."""
    replay, model = begin(), Moody()
    replay.kill = Killer("before commit")
    with pytest.raises(Killed):
        finish(tmp_path, replay, model)
    before = marks(replay)
    assert before and model.calls == 1
    replay.kill.moment = -1
    work = labelling(tmp_path, replay, model)
    assert work.step() and work.bundles == 2
    assert model.calls == 1 and set(before) < set(marks(replay))


def test_repeats_are_thrown_away_and_a_hole_begins_the_streams_anew(tmp_path):
    replay = FakeReplay({0: [*bundles(0, 2), *bundles(0, 2), *bundles(0, 2, first=4)]})
    work = finish(tmp_path, replay)
    assert (work.bundles, work.repeats) == (4, 2) and not replay.unlabelled[0]
    for item in replay.experience:
        actions = item["action"]
        assert actions.max() < 2 * ROWS or actions.min() >= 4 * ROWS  # No item has the hole in it.


def test_a_restarted_actor_begins_anew_and_its_past_is_thrown_away(tmp_path):
    late = bundles(0, 3)[2]
    replay = FakeReplay({0: [*bundles(0, 2), *bundles(0, 2, incarnation=1), late]})
    work = finish(tmp_path, replay)
    assert (work.bundles, work.repeats) == (4, 1)
    by_start = [item["source"][1] for item in replay.experience]
    assert by_start == sorted(by_start) and set(by_start) == {0, 1}


def test_the_actors_of_one_labeller_are_scored_together(tmp_path):
    replay, calls = begin(), []

    def model(frames, goals):
        calls.append(len(frames))
        return np.zeros(len(frames), np.float32)

    work = labelling(tmp_path, replay, model)
    assert work.step()
    # Two actors, two streams, five rows each: the same five pictures.
    assert calls == [ROWS] and (work.labeller.scored, work.labeller.distinct) == (4 * ROWS, ROWS)
    assert work.bundles == 2 and len(replay.unlabelled[0]) == 2


def test_a_journal_there_and_back(tmp_path):
    journal = LabellingJournal(tmp_path / "journal")
    assert journal.is_new((0, 0)) and journal.streams is None and journal.sent((0, 0)) == 0
    rows = [
        {"a/b": np.arange(6).reshape(3, 2), "c": np.ones(3)},
        {},
        {"a/b": np.zeros((1, 2), int), "c": np.zeros(1)},
    ]
    journal.keep_scores((2, 7), np.ones((3, 4)))
    journal.note_sent((2, 7), 5)
    journal.commit((2, 6), np.eye(3), rows)
    journal.close()
    again = LabellingJournal(tmp_path / "journal")
    assert (
        again.place == (2, 6) and again.is_new((2, 7)) and again.is_new((3, 0)) and not again.is_new((2, 6))
    )
    assert again.sent((2, 7)) == 5 and again.sent((2, 8)) == 0
    np.testing.assert_array_equal(again.scores((2, 7)), np.ones((3, 4)))
    assert again.scores((2, 8)) is None
    np.testing.assert_array_equal(again.streams, np.eye(3))
    assert [sorted(of) for of in again.rows] == [["a/b", "c"], [], ["a/b", "c"]]
    for kept, given in zip(again.rows, rows):
        for name in given:
            np.testing.assert_array_equal(kept[name], given[name])
    again.close()


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_a_damaged_journal_is_begun_anew(tmp_path, damage):
    journal = LabellingJournal(tmp_path)
    journal.commit((0, 3), np.eye(1), [{}])
    journal.close()
    whole = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "state.npz").write_bytes(whole[:100] if damage is None else damage)
    again = LabellingJournal(tmp_path)
    assert again.is_new((0, 0)) and again.rows == []
    again.close()


def test_copies_have_what_is_learned_from_only(tmp_path):
    replay = begin()
    journals = {a: LabellingJournal(tmp_path / str(a)) for a in replay.unlabelled}
    learned = {"action", "reward", "discount", "step_type", "policy_version", "source"}
    work = Labelling(EpisodeLabeller(by_frame), journals, replay, UNROLL, PERIOD, learned)
    while work.step():
        pass
    assert {frozenset(copy) for copy in replay.experience} == {frozenset(learned)}
    assert work.steps == 5 * STREAMS * ROWS
    whole = begin()
    finish(tmp_path / "whole", whole)
    assert marks(replay) == marks(whole)
