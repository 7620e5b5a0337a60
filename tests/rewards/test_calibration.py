"""Thresholds against a search with scipy's binomial test; cards; the model under a card."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from limbeck.rewards.binomial import lower_bound, most_successes, upper_bound
from limbeck.rewards.calibrated import CalibratedReward, head_settings
from limbeck.rewards.calibration import CalibrationConfig, calibrate, precision_at, recheck
from limbeck.rewards.card import CalibrationError, load_card, save_card
from limbeck.rewards.pairs import Pairs


def make(seed=0, episodes=60, length=20, separation=(2.5, 1.0, 0.0), share=(0.2, 0.2, 0.002), first=0):
    """Three goals: told well, told badly, and hardly ever true."""
    rng = np.random.default_rng(seed)
    n = episodes * length
    truth = rng.random((n, 3)) < share
    scores = 1 / (1 + np.exp(-rng.normal(size=(n, 3)) - np.array(separation) * truth))
    return Pairs.of(
        scores.astype(np.float32),
        truth,
        np.repeat(np.arange(first, first + episodes), length),
        np.tile(np.arange(length), episodes),
        ["well", "badly", "rare"],
    )


CONFIG = CalibrationConfig(target=0.02, delta=0.1, min_positives=10)
HEAD = {"head": "SoftmaxHead", "temperature": 0.01, "nulls": ["nothing"]}


@pytest.fixture(scope="module")
def card():
    return calibrate(make(), "abc", HEAD, CONFIG)


@pytest.mark.parametrize("k, n", [(0, 1), (0, 50), (3, 50), (50, 50), (7, 1000)])
def test_clopper_pearson_is_scipys(k, n):
    for delta in (0.05, 0.3):
        test = scipy.stats.binomtest(k, n)
        # A two-sided interval of confidence 1 - 2 delta has one-sided ends of 1 - delta.
        interval = test.proportion_ci(1 - 2 * delta, "exact")
        assert upper_bound(k, n, delta) == pytest.approx(interval.high)
        assert lower_bound(k, n, delta) == pytest.approx(interval.low, abs=1e-12)
    assert (lower_bound(0, 0, 0.1), upper_bound(0, 0, 0.1)) == (0, 1)


@pytest.mark.parametrize("n", [0, 1, 20, 149, 1000])
@pytest.mark.parametrize("target, delta", [(0.02, 0.05), (0.3, 0.5), (0.9, 0.1)])
def test_most_successes_by_search(n, target, delta):
    good = [k for k in range(n) if upper_bound(k, n, delta) <= target]
    assert most_successes(n, target, delta) == max(good, default=-1)


def test_the_threshold_is_the_lowest_that_holds_the_bound(card):
    pairs = make()
    entry = card.by_goal()["well"]
    of = pairs.goal == 0
    scores, truth = pairs.scores[of], pairs.truth[of]

    def bound(threshold):
        wrong = int((scores[~truth] >= threshold).sum())
        interval = scipy.stats.binomtest(wrong, int((~truth).sum())).proportion_ci(0.8, "exact")
        return interval.high

    holding = [x for x in np.unique(scores) if bound(x) <= 0.02]
    below = scores[scores < min(holding)].max()
    assert bound(below) > 0.02
    # Between the lowest score that holds and the next below: the same rewards.
    assert below < entry.threshold < min(holding)
    assert entry.threshold == pytest.approx((below + min(holding)) / 2)
    assert entry.bound == pytest.approx(bound(entry.threshold))
    assert entry.false_positives == entry.false_trials == (scores[~truth] >= entry.threshold).sum()
    assert entry.true_positives == (scores[truth] >= entry.threshold).sum()
    assert entry.recall == pytest.approx(entry.true_positives / truth.sum())
    assert (entry.positives, entry.negatives) == (truth.sum(), (~truth).sum())
    assert entry.prevalence == pytest.approx(truth.mean())
    hit = scores >= entry.threshold
    assert entry.precision == pytest.approx(truth[hit].mean())
    assert entry.precision_low < entry.precision


def test_ties_at_the_cut_are_all_left_out():
    # 100 negatives; one may be rewarded, but the two highest tie, with a positive beside them.
    scores = np.array([0.9, 0.5, 0.5, 0.5] + [0.1] * 98)
    truth = np.array([True, True] + [False] * 100)
    pairs = Pairs.of(scores, truth, range(102), [0] * 102, ["a"], [0] * 102)
    config = CalibrationConfig(target=0.05, delta=0.1, min_positives=1)
    assert most_successes(100, 0.05, 0.1) == 1
    entry = calibrate(pairs, "x", {}, config).thresholds[0]
    assert entry.threshold == pytest.approx(0.7)
    assert (entry.true_positives, entry.false_positives) == (1, 0)


def test_abstaining(card):
    entries = card.by_goal()
    assert entries["rare"].threshold is None
    assert "true frames, fewer than 10" in entries["rare"].reason
    few = calibrate(make(), "abc", HEAD, dataclasses.replace(CONFIG, target=1e-5))
    assert "fewer than" in few.by_goal()["well"].reason
    # The message's number is the smallest sample that bounds anything.
    need = int(few.by_goal()["well"].reason.split()[-1])
    assert most_successes(need, 1e-5, 0.1) == 0
    assert most_successes(need - 1, 1e-5, 0.1) == -1
    scores = np.array([0.1] * 20 + [0.9] * 80)
    truth = np.array([True] * 20 + [False] * 80)
    upside_down = Pairs.of(scores, truth, range(100), [0] * 100, ["a"], [0] * 100)
    entry = calibrate(upside_down, "x", {}, dataclasses.replace(CONFIG, target=0.1)).thresholds[0]
    assert entry.threshold is None
    assert "no true frame" in entry.reason


def test_the_bound_holds_as_often_as_promised():
    """Of 400 calibrations at delta = 0.1 the true rate exceeds the target in at most some 10 %."""
    config, exceeded, known = CalibrationConfig(target=0.05, delta=0.1, min_positives=1), 0, 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth = np.arange(220) < 20
        pairs = Pairs.of(rng.normal(size=220) + 3 * truth, truth, range(220), [0] * 220, ["a"], [0] * 220)
        threshold = calibrate(pairs, "x", {}, config).thresholds[0].threshold
        known += threshold is not None
        exceeded += threshold is not None and scipy.stats.norm.sf(threshold) > 0.05
    assert known > 350
    # Not far below either: the bound is not idle.
    assert 0.02 < exceeded / 400 < 0.1 + 2 * np.sqrt(0.1 * 0.9 / 400)


def test_episodes_as_trials():
    config = CalibrationConfig(target=0.2, delta=0.1, unit="episode")
    pairs = make(episodes=80)
    entry = calibrate(pairs, "x", {}, config).by_goal()["well"]
    of = (pairs.goal == 0) & ~pairs.truth
    highest = [pairs.scores[of & (pairs.episode == e)].max() for e in range(80)]
    assert entry.trials == 80
    assert entry.false_trials == sum(x >= entry.threshold for x in highest) == most_successes(80, 0.2, 0.1)
    by_frame = calibrate(pairs, "x", {}, dataclasses.replace(config, unit="frame")).by_goal()["well"]
    assert by_frame.threshold < entry.threshold


def wrong_first_hits(pairs, threshold):
    """By going through every episode frame by frame."""
    wrong = 0
    for episode in np.unique(pairs.episode):
        rows = np.flatnonzero(pairs.episode == episode)
        for row in rows[np.argsort(pairs.step[rows])]:
            if pairs.scores[row] >= threshold:
                wrong += not pairs.truth[row]
                break
    return wrong


@pytest.mark.parametrize("seed, target", [(0, 0.2), (1, 0.3), (2, 0.5)])
def test_first_hits_as_trials(seed, target):
    """By search from the highest threshold down; that of whole episodes is never lower."""
    config = CalibrationConfig(target=target, delta=0.1, unit="first_hit")
    pairs = make(seed, episodes=80)
    shuffled = pairs.select(pairs.goal == 0)
    order = np.random.default_rng(seed).permutation(len(shuffled.scores))
    columns = ("scores", "truth", "goal", "step", "frame", "episode")
    pairs = dataclasses.replace(shuffled, **{name: getattr(shuffled, name)[order] for name in columns})
    entry = calibrate(pairs, "x", {}, config).by_goal()["well"]
    allowed = most_successes(80, target, 0.1)
    falling = np.unique(pairs.scores)[::-1]
    wrong = np.array([wrong_first_hits(pairs, score) for score in falling])
    first = np.flatnonzero(wrong > allowed)[0]
    assert falling[first] < entry.threshold < falling[first - 1]
    assert entry.trials == 80
    assert entry.false_trials == wrong_first_hits(pairs, entry.threshold) <= allowed
    # A right hit ends the episode: what is false after it does no harm.
    whole = calibrate(pairs, "x", {}, dataclasses.replace(config, unit="episode")).by_goal()["well"]
    assert whole.threshold is None or whole.threshold >= entry.threshold
    again = recheck(dataclasses.replace(calibrate(pairs, "x", {}, config), episodes=()), pairs)
    assert again["well"].false_trials == entry.false_trials


def test_first_hits_that_are_never_wrong_are_all_paid():
    """Thirty episodes of three frames each, the goal true in the first frames alone."""
    pairs = Pairs.of(
        [0.5, 0.9, 0.1] * 30,
        [True, False, False] * 30,
        np.repeat(range(30), 3),
        [0, 1, 2] * 30,
        ["a"],
        [0] * 90,
    )
    config = CalibrationConfig(target=0.2, delta=0.1, unit="first_hit", min_positives=1)
    entry = calibrate(pairs, "x", {}, config).thresholds[0]
    # Above 0.5 all thirty fail, so at and below it nothing can be shown: it stops at the top.
    assert entry.threshold is None
    higher = dataclasses.replace(pairs, scores=np.where(pairs.truth, 0.95, pairs.scores))
    entry = calibrate(higher, "x", {}, config).thresholds[0]
    assert (entry.threshold, entry.false_trials, entry.recall) == (0.1, 0, 1.0)


def test_families_pool_counts():
    pairs = make()
    families = {"well": "a", "badly": "b", "rare": "b"}
    card = calibrate(pairs, "x", {}, CONFIG, families, prevalence={"a": 0.01, "b": 0.5})
    assert [entry.goals for entry in card.thresholds] == [("well",), ("badly", "rare")]
    pooled = card.by_goal()["rare"]
    assert pooled is card.by_goal()["badly"]
    of = pairs.goal > 0
    assert (pooled.positives, pooled.negatives) == (pairs.truth[of].sum(), (~pairs.truth[of]).sum())
    one = card.by_goal()["well"]
    assert one.precision == pytest.approx(precision_at(0.01, one.recall, one.false_positives / one.negatives))
    with pytest.raises(ValueError, match="'rare'"):
        calibrate(pairs, "x", {}, CONFIG, {"well": "a", "badly": "b"})
    with pytest.raises(ValueError, match="no entry for 'badly'"):
        calibrate(pairs, "x", {}, CONFIG, prevalence={"well": 0.1})
    with pytest.raises(ValueError, match="from 0 to 1"):
        calibrate(pairs, "x", {}, CONFIG, prevalence=2.0)


def test_precision_at_by_hand():
    assert precision_at(0.01, 0.5, 0.001) == pytest.approx(0.005 / (0.005 + 0.00099))
    assert precision_at(0.0, 0.5, 0.0) is None


@pytest.mark.parametrize("change", [{"target": 0.0}, {"delta": 0.6}, {"min_positives": 0}, {"unit": "step"}])
def test_wrong_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        CalibrationConfig(**change)


def test_card_round_trip(card, tmp_path):
    save_card(card, tmp_path / "card.json")
    assert load_card(tmp_path / "card.json") == card
    assert sorted(tmp_path.iterdir()) == [tmp_path / "card.json"]
    content = json.loads((tmp_path / "card.json").read_text())
    assert (content["fingerprint"], content["version"]) == ("abc", 1)
    assert content["episodes"] == list(range(60))


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda c: c.update(format="other"), "no card"),
        (lambda c: c.update(version=2), "version 2"),
        (lambda c: c.pop("delta"), "damaged"),
        (lambda c: c["thresholds"][0].update(more=1), "damaged"),
        (lambda c: c["thresholds"][0].update(threshold="0.5"), "must be a number"),
        (lambda c: c["thresholds"][0].update(threshold=None), "null with a reason"),
        (lambda c: c["thresholds"][0].update(goals=["badly"]), "two thresholds"),
    ],
)
def test_damaged_cards_are_refused(card, tmp_path, break_it, message):
    content = json.loads(card.to_json())
    break_it(content)
    (tmp_path / "card.json").write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=message) as caught:
        load_card(tmp_path / "card.json")
    assert "card.json" in str(caught.value)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(CalibrationError, match="not JSON"):
        load_card(tmp_path / "card.json")


def test_check(card):
    assert card.levels(["rare", "well"]) == [np.inf, card.by_goal()["well"].threshold]
    card.check("abc", ["well", "badly"], {**HEAD, "nulls": ("nothing",)})
    card.check("abc", ["rare"], allow_abstained=True)
    with pytest.raises(CalibrationError, match="encoder 'abc', not for 'abd'"):
        card.check("abd", ["well"])
    with pytest.raises(CalibrationError, match=r"temperature 0.01 there, 0.02 here"):
        card.check("abc", ["well"], {**HEAD, "temperature": 0.02})
    with pytest.raises(CalibrationError, match=r"no threshold for the goals \['new'\]"):
        card.check("abc", ["well", "new"])
    with pytest.raises(CalibrationError, match="abstains from 1"):
        card.check("abc", ["well", "rare"])


def test_recheck(card):
    same = recheck(card, make(seed=1, episodes=200, first=60))
    assert set(same) == {"well", "badly"}
    assert not same.failing
    assert same["well"].verdict == "holds"
    pairs = make(seed=1, episodes=200, first=60)
    threshold = card.by_goal()["well"].threshold
    false = (pairs.goal == 0) & ~pairs.truth
    assert same["well"].trials == false.sum()
    assert same["well"].false_trials == (pairs.scores[false] >= threshold).sum()
    # The world changes: what is false looks true for one goal.
    shifted = dataclasses.replace(pairs, scores=pairs.scores + 0.2 * (pairs.goal == 1))
    result = recheck(card, shifted)
    assert result.failing == ["badly"]
    assert result["badly"].low > 0.02
    assert recheck(card, make(seed=1, episodes=2, first=60)).open == ["well", "badly"]
    with pytest.raises(CalibrationError, match="1 episodes of this split were calibrated on"):
        recheck(card, make(seed=1, first=59))
    with pytest.raises(CalibrationError, match="no threshold for"):
        recheck(card, dataclasses.replace(make(first=60), goals=("well", "badly", "other")))


@dataclasses.dataclass(frozen=True)
class Head:
    """Settings alone: the model below scores by itself."""

    temperature: float = 0.1
    nulls: tuple[str, ...] = ("nothing",)


class Model:
    """A brightness as the score: each frame's first number, out of 255."""

    class encoder:
        fingerprint = "abc"

    name, version, head, goals = "bright", "v1", Head(), ("well", "badly")

    def embed(self, frames):
        return frames[:, 0, 0, :1].astype(np.float32) / 255

    def score(self, embeddings, goals):
        assert len(goals) == len(embeddings)
        return embeddings[:, 0]


def test_calibrated_reward(card):
    card = dataclasses.replace(card, head=head_settings(Head()))
    model = CalibratedReward(Model(), card)
    thresholds = [card.by_goal()[goal].threshold for goal in ("well", "badly")]
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[:, 0, 0, 0] = np.ceil(np.repeat(thresholds, 2) * 255) - [0, 1, 0, 1]
    goals = ["well", "well", "badly", "badly"]
    rewards = model(frames, goals)
    assert rewards.tolist() == [1, 0, 1, 0]
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(model.score(model.embed(frames), goals), rewards)
    other = CalibratedReward(Model(), dataclasses.replace(card, delta=0.2))
    assert model.version != other.version
    assert model.version == CalibratedReward(Model(), card).version


def test_calibrated_reward_refuses_other_models(card):
    card = dataclasses.replace(card, head=head_settings(Head()))
    with pytest.raises(CalibrationError, match="differs in temperature"):
        CalibratedReward(Model(), dataclasses.replace(card, head=head_settings(Head(0.2))))
    with pytest.raises(CalibrationError, match="encoder"):
        CalibratedReward(Model(), dataclasses.replace(card, fingerprint="other"))

    class WithRare(Model):
        goals = ("well", "rare")

    with pytest.raises(CalibrationError, match="abstains"):
        CalibratedReward(WithRare(), card)
    model = CalibratedReward(WithRare(), card, allow_abstained=True)
    white = np.full((2, 2, 2, 3), 255, np.uint8)
    assert model(white, ["well", "rare"]).tolist() == [1, 0]
