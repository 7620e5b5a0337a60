"""Labels after the fact: which rows stay, what they become, and that a loop with the model inside sees the same."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.agents import Actor, Agent, TrajectoryCutter, to_item, trajectory_spec
from limbeck.envs import LAST, MID
from limbeck.rewards import (
    BundleCutter,
    EpisodeLabeller,
    InlineReward,
    Segment,
    StreamSplicer,
    bundle_signature,
    goal_of,
    read_bundle,
)

from .toy_corridor import Corridor, Counting, frame, green


def segment(
    number: int,
    seen: list[Any],
    led_to: list[Any],
    ends: dict[int, float] | None = None,
    rewards: dict[int, float] | None = None,
    **fields,
) -> Segment:
    """Rows with these frames; `ends` gives the discount of the rows that end an episode."""
    length = len(seen)
    kind, discount, reward = (
        np.full(length, MID, np.int32),
        np.ones(length, np.float32),
        np.zeros(length, np.float32),
    )
    success = np.zeros(length, np.float32)
    for t, value in (ends or {}).items():
        kind[t], discount[t] = LAST, value
    for t, value in (rewards or {}).items():
        reward[t], success[t] = value, 1.0
    rows = {
        "observation/image": np.stack(seen),
        "next_observation/image": np.stack(led_to),
        "action": np.arange(length, dtype=np.int32),
        "reward": reward,
        "discount": discount,
        "step_type": kind,
        "memory": 100 * number + np.arange(length),
        "extras/true_success": success,
        "policy_version": np.full(length, number),
    }
    about = {"actor": 0, "incarnation": 0, "stream": 0, "goals": ["go"] * length, **fields}
    return Segment(number=number, rows=rows, **about)


def test_a_hit_ends_the_episode_and_what_follows_is_dropped_to_its_real_end():
    labeller = EpisodeLabeller(green)
    plain, hit = frame(1), frame(2, True)
    # Row 1 leads to a green frame; the environment goes on to its own end in the next segment's row 1.
    first = labeller.label_many([segment(0, [plain] * 4, [plain, hit, plain, hit], rewards={3: 0.5})])[0]
    assert first.rows["action"].tolist() == [0, 1]
    assert first.rows["reward"].tolist() == [0.0, 1.0]
    assert first.rows["step_type"].tolist() == [MID, LAST]
    assert first.rows["discount"].tolist() == [1.0, 0.0]
    assert first.broken and labeller.take_episodes() == []
    second = labeller.label_many([segment(1, [plain] * 4, [plain] * 4, ends={1: 1.0}, rewards={1: 0.25})])[0]
    assert second.rows["action"].tolist() == [2, 3] and not second.broken
    assert second.rows["extras/true_reward"].tolist() == [0.0, 0.0]
    (episode,) = labeller.take_episodes()
    assert (episode.hit, episode.labelled_return, episode.true_return, episode.true_success) == (
        True,
        1,
        0.75,
        True,
    )
    assert labeller.take_episodes() == []


def test_the_first_frame_of_the_next_episode_is_not_scored_for_the_old_one():
    model = Counting()
    plain, hit = frame(1), frame(2, True)
    # The environment ends by truncation on a plain frame; the next episode begins on a green one.
    rows = segment(0, [plain, plain, hit, plain], [plain, plain, plain, plain], ends={1: 1.0})
    labelled = EpisodeLabeller(model).label_many([rows])[0].rows
    assert labelled["reward"].tolist() == [0, 0, 0, 0] and labelled["discount"].tolist() == [1, 1, 1, 1]
    # And a final frame that is green counts, although the row after shows another one.
    rows = segment(0, [plain] * 4, [plain, hit, plain, plain], ends={1: 1.0})
    labelled = EpisodeLabeller(model).label_many([rows])[0].rows
    assert labelled["reward"].tolist() == [0, 1, 0, 0] and labelled["discount"].tolist() == [1, 0, 1, 1]
    assert labelled["action"].tolist() == [0, 1, 2, 3]  # Nothing is dropped: the episode was over.


def test_an_end_without_a_hit_stays_the_environments():
    plain = frame(1)
    rows = segment(0, [plain] * 3, [plain] * 3, ends={0: 0.0, 2: 1.0}, rewards={0: 1.0})
    labelled = EpisodeLabeller(green).label_many([rows])[0].rows
    assert labelled["reward"].tolist() == [0, 0, 0] and labelled["extras/true_reward"].tolist() == [1, 0, 0]
    assert labelled["step_type"].tolist() == [LAST, MID, LAST] and labelled["discount"].tolist() == [0, 1, 1]


def test_rewards_below_the_threshold_are_paid_and_end_nothing():
    values = iter([np.array([0.25, 0.6, 0.1], np.float32)])
    labeller = EpisodeLabeller(lambda frames, goals: next(values), threshold=0.5)
    labelled = labeller.label_many(
        [segment(0, [frame(i) for i in range(3)], [frame(9 + i) for i in range(3)])]
    )[0]
    np.testing.assert_array_equal(labelled.rows["reward"], np.array([0.25, 0.6], np.float32))
    assert labelled.rows["step_type"].tolist() == [MID, LAST]


def test_every_pair_is_seen_once_a_call_and_dropped_rows_are_not_seen():
    model = Counting()
    labeller = EpisodeLabeller(model, batch=3)
    plain, other, hit = frame(1), frame(2), frame(3, True)
    one = segment(0, [plain] * 4, [plain, other, plain, hit])
    two = segment(0, [plain] * 4, [plain, plain, other, plain], goals=["go", "stop", "stop", "go"], stream=1)
    labeller.label_many([one, two])
    # plain/go, other/go, hit/go, plain/stop, other/stop
    assert len(model.frames) == 5 == labeller.distinct and labeller.scored == 8
    assert sorted(model.goals) == ["go"] * 3 + ["stop"] * 2
    # Stream 0 is beyond its hit until row 2, and only row 3 matters.
    labeller.label_many([segment(1, [plain] * 4, [other, other, other, plain], ends={2: 1.0})])
    assert len(model.frames) == 6 and labeller.scored == 9
    np.testing.assert_array_equal(model.frames[-1], plain)


def test_what_follows_a_hit_is_not_asked_for_up_to_the_next_episode():
    model, plain, hit = Counting(), [frame(i) for i in range(8)], frame(9, True)
    # Row 1 is a hit of the episode of rows 0 to 5; with two rows at a time rows 2 to 5 are left out.
    one = segment(0, [plain[0]] * 8, [plain[0], hit, *plain[2:]], ends={5: 1.0})
    labeller = EpisodeLabeller(model, batch=2)
    (rewards,) = labeller.score_many([one])
    np.testing.assert_array_equal(rewards, np.array([0, 1, *[np.nan] * 4, 0, 0], np.float32))
    assert [image[0, 0, 0] for image in model.frames] == [0, 9, 6, 7] and labeller.scored == 4
    # What a wave has shown of the next episode stays: here row 2 is its first, a hit, and row 3 its end.
    two = segment(
        0, [plain[0]] * 6, [hit, plain[1], hit, plain[3], plain[4], plain[5]], ends={1: 1.0, 3: 1.0}
    )
    (rewards,) = EpisodeLabeller(green, batch=3).score_many([two])
    np.testing.assert_array_equal(rewards, np.array([1, 0, 1, np.nan, 0, 0], np.float32))


def test_repeats_leave_nothing_and_a_restarted_actor_begins_anew():
    labeller = EpisodeLabeller(green)
    plain, hit = frame(1), frame(2, True)
    labeller.label_many([segment(0, [plain] * 2, [plain, hit])])
    again = labeller.label_many([segment(0, [plain] * 2, [plain] * 2)])[0]
    assert len(again.rows["reward"]) == 0 and not again.broken
    new = labeller.label_many([segment(0, [plain] * 2, [plain] * 2, incarnation=1)])[0]
    assert len(new.rows["reward"]) == 2 and new.broken  # The hit was of the other incarnation's episode.
    late = labeller.label_many([segment(1, [plain] * 2, [plain] * 2, incarnation=0)])[0]
    assert len(late.rows["reward"]) == 0


def test_after_a_missing_segment_a_stream_goes_on_with_its_next_episode():
    labeller = EpisodeLabeller(green)
    plain = frame(1)
    labeller.label_many([segment(0, [plain] * 3, [plain] * 3)])
    later = labeller.label_many([segment(2, [plain] * 3, [plain] * 3, ends={0: 1.0})])[0]
    assert later.broken and later.rows["action"].tolist() == [1, 2]
    assert labeller.take_episodes() == []  # Nobody knows what that episode paid.


def test_bad_models_and_numbers_are_refused():
    rows = segment(0, [frame(1)] * 2, [frame(1), frame(2)])
    for wrong, message in (
        (lambda frames, goals: np.zeros((2, 1)), r"shape \(2, 1\) for 2 frames"),
        (lambda frames, goals: np.array([0.0, 1.5]), "returned 1.5; rewards lie in"),
        (lambda frames, goals: np.array([np.nan, 0.0]), "returned nan"),
    ):
        with pytest.raises(ValueError, match=message):
            EpisodeLabeller(wrong).label_many([rows])
    with pytest.raises(ValueError, match="threshold must lie"):
        EpisodeLabeller(green, threshold=0.0)
    with pytest.raises(ValueError, match="Labelling takes a callable"):
        EpisodeLabeller(object())


# Streams against a reference that knows episodes and no segments.


def random_stream(rng: np.random.Generator, length: int) -> list[tuple[int, bool, bool]]:
    """(frame number after the action, is it green, does the environment end there)."""
    return [(i, bool(rng.random() < 0.08), bool(rng.random() < 0.12)) for i in range(length)]


def reference(stream: list[tuple[int, bool, bool]]) -> list[tuple[int, float, int, float]]:
    """(frame number, reward, step type, discount) of the rows that stay, an episode at a time."""
    result, episode = [], []
    for row in stream:
        episode.append(row)
        if row[2]:
            result += cut_episode(episode)
            episode = []
    return result + cut_episode(episode)


def cut_episode(episode):
    hits = [i for i, (_, is_green, _) in enumerate(episode) if is_green]
    kept = episode[: hits[0] + 1] if hits else episode
    return [
        (number, float(is_green), LAST if is_green or ends else MID, 0.0 if is_green else 1.0)
        for number, is_green, ends in kept
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("unroll", "period", "batch"), [(5, 5, 256), (6, 2, 4), (3, 1, 1)])
def test_streams_of_any_cut_are_the_references(seed, unroll, period, batch):
    rng = np.random.default_rng(seed)
    length, parts = 7, 30
    streams = [random_stream(rng, length * parts) for _ in range(2)]
    labeller = EpisodeLabeller(green, batch=batch)
    splicers = [StreamSplicer(unroll, period) for _ in streams]
    items: list[list[dict]] = [[], []]
    waiting: list[Segment] = []
    for number in range(parts):
        for i, stream in enumerate(streams):
            rows = stream[number * length : (number + 1) * length]
            led_to = [frame(n, is_green) for n, is_green, _ in rows]
            ends = {t: 1.0 for t, row in enumerate(rows) if row[2]}
            waiting.append(segment(number, [frame(0)] * length, led_to, ends, stream=i))
        if rng.random() < 0.5 or number == parts - 1:  # Several of a stream in one call, now and then.
            for one, labelled in zip(waiting, labeller.label_many(waiting)):
                source = (0, 0, one.stream, one.number)
                items[one.stream] += splicers[one.stream].add(labelled.rows, source, labelled.broken)
            waiting = []
    for i, stream in enumerate(streams):
        expected = reference(stream)
        starts = range(0, len(expected) - unroll + 1, period)
        assert len(items[i]) == len(starts) > 10
        for start, item in zip(starts, items[i]):
            images = item["next_observation/image"][:, 0, 0]
            numbers = images[:, 0] + 256 * images[:, 2].astype(int)
            columns = (numbers, item["reward"], item["step_type"], item["discount"])
            assert list(zip(*(column.tolist() for column in columns))) == expected[start : start + unroll]
            # Memory is that of the first row, the version that of the last.
            assert item["memory"] == 100 * (numbers[0] // length) + numbers[0] % length
            assert item["policy_version"] == item["source"][3] == numbers[-1] // length
        held = [n for n, *_ in expected[len(starts) * period :]]
        images = splicers[i].rows["next_observation/image"][:, 0, 0]
        assert (images[:, 0] + 256 * images[:, 2].astype(int)).tolist() == held


def test_a_labeller_and_splicer_go_on_from_their_state():
    rng = np.random.default_rng(7)
    stream = random_stream(rng, 60)
    found = []
    labeller, splicer = EpisodeLabeller(green), StreamSplicer(4, 2)
    for number in range(12):
        rows = stream[number * 5 : (number + 1) * 5]
        ends = {t: 1.0 for t, row in enumerate(rows) if row[2]}
        one = segment(number, [frame(0)] * 5, [frame(n, g) for n, g, _ in rows], ends)
        labelled = labeller.label_many([one])[0]
        found += splicer.add(labelled.rows, (0, 0, 0, number), labelled.broken)
        fresh = EpisodeLabeller(green)
        fresh.restore(0, labeller.state(0, 1))
        labeller, splicer = fresh, StreamSplicer(4, 2, splicer.rows)
    assert [item["next_observation/image"][0, 0, 0, 0] for item in found] == [
        n for n, *_ in reference(stream)[: 2 * len(found) : 2]
    ]


# Actors: bundles, and the loop with the model inside.


class State(NamedTuple):
    params: Any


def remembering_agent() -> Agent:
    """Acts by the frame it sees; its memory counts the steps of the episode."""

    def act(params, memory, key, timestep, mode):
        count = jnp.where(timestep.step_type == MID, memory["count"], 0)
        image = timestep.observation["image"].astype(jnp.int32)
        action = (image[0, 0, 0] + count) % 4
        return action.astype(jnp.int32), {"seen": timestep.reward, "count": count}, {"count": count + 1}

    return Agent(lambda key: State(()), lambda: {"count": jnp.int32(0)}, act, lambda *args: None)


def spliced(steps: int, unroll: int) -> list[dict]:
    """What a labeller makes of an actor that is not told of rewards."""
    environment = Corridor()
    actor = Actor(remembering_agent(), [environment], 0, rewards_shown=False)
    cutter, labeller, splicer = BundleCutter(unroll, 0), EpisodeLabeller(green), StreamSplicer(unroll, unroll)
    items = []
    for _ in range(steps):
        memory, known, goals = actor.memory, len(actor.streams.episodes), [goal_of(environment)]
        rows = actor.step(None)
        ended = [episode.success for episode in actor.streams.episodes[known:]]
        item = cutter.add(rows, memory, 3, goals, np.array(ended or [False]), 0.0)
        if item is not None:
            spec = trajectory_spec(remembering_agent(), environment.observation_spec(), unroll)
            expected = bundle_signature(spec, 1, (2, 2, 3))
            assert {n: (a.shape, a.dtype.name) for n, a in item.items()} == expected
            for one in read_bundle(0, item).segments:
                assert set(one.goals) == {"see green"}
                labelled = labeller.label_many([one])[0]
                items += splicer.add(labelled.rows, (0, 0, 0, one.number), labelled.broken)
    return items


def test_labelling_after_the_fact_sees_what_a_loop_with_the_model_inside_sees():
    """Episodes are functions of their number and the policy of what it sees: so the streams are equal row by row."""
    unroll = 4
    environment = InlineReward(Corridor(), green)
    actor, cutter = (
        Actor(remembering_agent(), [environment], 0, rewards_shown=False),
        TrajectoryCutter(unroll, unroll),
    )
    inline = []
    for _ in range(120):
        memory = actor.memory
        inline += [to_item(t, 3) for t in cutter.add(actor.step(None), memory)]
    after = spliced(240, unroll)
    assert len(after) > 20 and len(inline) == 30
    for one, other in zip(inline, after):
        for name, array in one.items():
            # The memory before an episode is another one, and read as nothing.
            if name != "memory/count":
                np.testing.assert_array_equal(array, other[name], err_msg=name)
        if one["extras/count"][0]:
            assert one["memory/count"] == other["memory/count"] == one["extras/count"][0]
        assert (other["extras/seen"] == 0).all() and (other["extras/true_reward"] == 0.125).all()
    rewards = np.concatenate([item["reward"] for item in after])
    assert 0 < rewards.sum() < len(rewards)


def test_without_hits_items_are_those_of_a_cutter():
    environment = Corridor()
    actor, cutter = Actor(remembering_agent(), [environment], 0), TrajectoryCutter(4, 2)
    bundles, labeller, splicer = (
        BundleCutter(5, 0),
        EpisodeLabeller(lambda f, g: np.zeros(len(f))),
        StreamSplicer(4, 2),
    )
    plain, spliced_ = [], []
    for _ in range(40):
        memory = actor.memory
        rows = actor.step(None)
        plain += [to_item(t, 0) for t in cutter.add(rows, memory)]
        item = bundles.add(rows, memory, 0, ["go"], np.zeros(1), 0.0)
        if item is not None:
            labelled = labeller.label_many(read_bundle(0, item).segments)[0]
            spliced_ += splicer.add(labelled.rows, (0, 0, 0, 0), labelled.broken)
    assert len(plain) == len(spliced_) == 19
    for one, other in zip(plain, spliced_):
        assert set(other) - set(one) == {"extras/true_reward", "extras/true_success", "source"}
        for name, array in one.items():
            expected = np.zeros_like(array) if name == "reward" else array
            np.testing.assert_array_equal(other[name], expected, err_msg=name)
            assert other[name].dtype == array.dtype


def test_rewards_that_are_not_shown_are_zeros():
    actor = Actor(remembering_agent(), [Corridor()], 0)
    shown = [float(actor.step(None).extras["seen"][0]) for _ in range(3)]
    assert shown == [0.0, 0.125, 0.125]
