"""The hacking watch: fires on planted hacks, is silent on truthful rewards, goes on from its state."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import scipy.stats
from limbeck.rewards.binomial import upper_bound
from limbeck.rewards.trend import mann_kendall, theil_sen
from limbeck.rewards.watch import HackingWatch, WatchConfig


CONFIG = WatchConfig(window=20, first_hit_precision=(0.85, 0.95))


def feed(watch, label, truth, first_hit=None):
    for i in range(len(label)):
        hit = None if first_hit is None else first_hit[i]
        watch.observe(float(label[i]), None if truth is None else float(truth[i]), hit)
    return watch


def episodes(rng, success, false_hit):
    """An agent that succeeds with the probability `success` `[n]`, and else with `false_hit` `[n]` fools the model.

    Returns label, truth and whether the first hit was right, None without one.
    """
    truth = rng.random(len(success)) < success
    fooled = ~truth & (rng.random(len(success)) < false_hit)
    return truth | fooled, truth, [bool(t) if t or f else None for t, f in zip(truth, fooled)]


def hack(rng, count=600):
    """The label's mean rises from 0.525 to 1 while the truth's falls from 0.5 to 0.02."""
    share = np.linspace(0, 1, count)
    return episodes(rng, 0.5 - 0.48 * share, 0.05 + 0.95 * share)


def test_theil_sen_is_scipys():
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=12).round(1)
        assert theil_sen(x) == pytest.approx(scipy.stats.theilslopes(x).slope)
    assert np.isnan(theil_sen([1.0]))


@pytest.mark.parametrize("tied", [False, True])
def test_mann_kendall_by_all_orders(tied):
    """Against the exact distribution over all orders of eight values, in the range where decisions are made."""
    values = np.array([1.0, 1, 1, 2, 2, 3, 4, 5] if tied else np.arange(8.0))
    orders = np.array(list(itertools.permutations(range(8))))
    first, second = np.triu_indices(8, 1)
    s = np.concatenate(
        [
            np.sign(values[part[:, second]] - values[part[:, first]]).sum(1)
            for part in np.array_split(orders, 8)
        ]
    )
    for order in orders[np.random.default_rng(0).integers(len(orders), size=200)]:
        x = values[order]
        of = np.sign(x[second] - x[first]).sum()
        assert mann_kendall(x) == pytest.approx((s >= of).mean(), abs=0.012)
    extreme = mann_kendall(np.sort(values))
    assert (s >= s.max()).mean() < extreme < 0.005


def test_mann_kendall_without_order():
    assert mann_kendall(np.ones(10)) == 1
    assert mann_kendall([1.0, 2.0]) == 1
    assert mann_kendall(-np.arange(10.0)) > 0.999


def test_a_planted_hack_fires():
    """The agent learns to fool the model: after an honest time the truth falls while the label rises."""
    fired = {"trend": 0, "precision": 0}
    for seed in range(20):
        rng, watch = np.random.default_rng(seed), HackingWatch(CONFIG)
        feed(watch, *episodes(rng, np.full(400, 0.5), np.full(400, 0.05)))
        assert not watch.alarm
        feed(watch, *hack(rng))
        for kind in {event.kind for event in watch.events if event.alarm}:
            fired[kind] += 1
        assert 400 < watch.events[0].episode <= 1000
        assert watch.status()["alarm"] != "none"
    assert fired["precision"] == 20
    # Where the label is near its highest for long its rise is hard to tell from none.
    assert fired["trend"] >= 18


def test_each_test_fires_alone():
    label, truth, hits = hack(np.random.default_rng(0))
    assert {e.kind for e in feed(HackingWatch(CONFIG), label, truth).events} == {"trend"}
    assert {e.kind for e in feed(HackingWatch(CONFIG), label, None, hits).events} == {"precision"}
    event = feed(HackingWatch(CONFIG), label, truth).events[0]
    assert event.facts["labelled_slope"] > 0 > event.facts["true_slope"]
    assert max(event.facts["p_labelled_rises"], event.facts["p_true_falls"]) <= event.facts["level"]


def false_alarms(config, run, runs=200):
    return sum(
        bool(feed(HackingWatch(config), *run(np.random.default_rng(seed))).events) for seed in range(runs)
    )


def test_silent_on_a_truthful_reward_that_is_learnt_from():
    share = np.linspace(0, 1, 1000)
    runs = false_alarms(CONFIG, lambda rng: episodes(rng, 0.1 + 0.8 * share, np.full(1000, 0.02)))
    assert runs / 200 <= CONFIG.false_alarm / 2


def test_silent_where_agent_and_reward_stand_still():
    runs = false_alarms(CONFIG, lambda rng: episodes(rng, np.full(1000, 0.6), np.full(1000, 0.1)))
    assert runs / 200 <= CONFIG.false_alarm / 2


def test_false_alarms_in_the_worst_case_stay_below_the_design():
    """The label stands still by itself while the truth falls, and first hits are as often right as the interval's
    low end: on the border of either alarm's condition."""

    def run(rng):
        truth = rng.random(800) < np.linspace(0.9, 0.1, 800)
        return rng.random(800) < 0.5, truth, (rng.random(800) < 0.85).tolist()

    runs = false_alarms(WatchConfig(window=16, first_hit_precision=(0.85, 0.95)), run)
    assert 0 < runs / 200 <= 0.05 + np.sqrt(0.05 * 0.95 / 200)


def test_looks_spend_the_budget():
    watch = HackingWatch(dataclasses.replace(CONFIG, false_alarm=0.1))
    spent = [watch._spend("trend") for _ in range(1000)]
    assert spent[:3] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])
    assert sum(spent) == pytest.approx(0.05 * (1 - 1 / 1001))


def test_precision_alarm_by_hand():
    watch = HackingWatch(WatchConfig(window=10, every=1, first_hit_precision=(0.8, 0.9)))
    # The first window ends at level 0.05 / 2 / 2.
    right = max(k for k in range(11) if upper_bound(k, 10, 0.0125) < 0.8)
    for i in range(9):
        assert watch.observe(1.0, None, i < right) == []
    (event,) = watch.observe(1.0, None, False)
    assert (event.kind, event.alarm, event.episode) == ("precision", True, 10)
    assert event.facts["right"] == right
    assert watch.alarm
    quiet = HackingWatch(WatchConfig(window=10, every=1, first_hit_precision=(0.8, 0.9)))
    assert not feed(quiet, np.ones(10), None, [i <= right for i in range(10)]).events


def test_an_alarm_ends():
    watch = feed(HackingWatch(CONFIG), np.ones(100), None, [False] * 100)
    assert [event.alarm for event in watch.events] == [True]
    feed(watch, np.ones(2000), None, [True] * 2000)
    assert [event.alarm for event in watch.events] == [True, False]
    assert not watch.alarm
    assert watch.status()["alarms_so_far"] == 1
    assert watch.events[1].message.startswith("No longer")


def test_status_by_hand():
    watch = HackingWatch(WatchConfig(window=2))
    assert watch.status()["labelled_return"] is None
    for labelled, true, hit in ((1, 0, None), (3, None, True), (5, 1, None), (7, 3, False), (9, 9, None)):
        watch.observe(labelled, true, hit)
    assert watch.status() == {
        "episodes": 5,
        "labelled_return": 6,
        "true_return": 2,
        # Of the episodes whose truth is known: labels 1 then 6, truths 0 then 2.
        "labelled_slope": 5,
        "true_slope": 2,
        "first_hit_precision": 0.5,
        "first_hits": 2,
        "alarm": "none",
        "alarms_so_far": 0,
    }


def test_resumed_anywhere_it_goes_on_the_same():
    label, truth, hits = hack(np.random.default_rng(1), 900)
    whole = feed(HackingWatch(CONFIG), label, truth, hits)
    assert whole.events
    for cut in (0, 7, 200, 555, 899):
        part = feed(HackingWatch(CONFIG), label[:cut], truth[:cut], hits[:cut])
        again = HackingWatch.from_json(part.to_json(), CONFIG)
        feed(again, label[cut:], truth[cut:], hits[cut:])
        assert again.events == whole.events
        assert again.to_json() == whole.to_json()


def test_other_states_are_refused():
    text = HackingWatch(CONFIG).to_json()
    state = json.loads(text)
    for broken in ("{", "[]", json.dumps({**state, "format": 2}), json.dumps({**state, "now": {"x": 1}})):
        with pytest.raises(ValueError, match="no state of a hacking watch"):
            HackingWatch.from_json(broken)
    with pytest.raises(ValueError, match="written under"):
        HackingWatch.from_json(text, WatchConfig())


def test_memory_is_bounded():
    watch = HackingWatch(WatchConfig(window=1, span=8))
    feed(watch, np.zeros(200), np.zeros(200))
    assert len(watch._windows) == 8


@pytest.mark.parametrize(
    "change, message",
    [
        ({"window": 0}, "window"),
        ({"every": 31}, "every"),
        ({"min_windows": 7}, "min_windows"),
        ({"span": 7}, "min_windows"),
        ({"false_alarm": 0.0}, "false_alarm"),
        ({"first_hit_precision": (0.9, 0.8)}, "first_hit_precision"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        WatchConfig(**change)


def test_wrong_returns_are_refused():
    for labelled, true in ((np.nan, 0.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match="finite"):
            HackingWatch().observe(labelled, true)
