"""The conformance kit finds each way to break the contract, and nothing in models that keep it."""

import itertools

import numpy as np
import pytest
from limbeck.rewards import (
    CosineHead,
    EncoderReward,
    PooledHead,
    PotentialDifference,
    RewardError,
    SequenceReward,
)

from limbeck import rewards

from .toy_models import ColourEncoder, RedReward, some_frames, unit


GOALS = ["red", "green"]
_COUNT = itertools.count()


def failed(model, **arguments):
    return {
        finding.name: finding.detail for finding in rewards.check(model, **arguments) if not finding.passed
    }


@pytest.mark.parametrize(
    "model",
    [
        RedReward(),
        ColourEncoder(),
        EncoderReward(ColourEncoder(), CosineHead(), GOALS),
        SequenceReward(ColourEncoder(), PooledHead(CosineHead(), frames=2), GOALS),
        SequenceReward(ColourEncoder(), PotentialDifference(CosineHead()), GOALS),
        rewards.CachedEncoder(ColourEncoder(), 100),
        rewards.CachedModel(RedReward(), 100),
    ],
    ids=lambda model: type(model).__name__,
)
def test_models_that_keep_it(model):
    findings = rewards.check(model)
    assert [finding for finding in findings if not finding.passed] == []
    assert (
        findings[0].name == "form"
        and findings[-1].name == "speed"
        and "/s in batches of" in findings[-1].detail
    )
    assert {"refuses float frames"} <= {finding.name for finding in findings}


def broken(base=RedReward, **members):
    """A model with some members replaced: `change(self, result, frames)` alters what it returns."""
    change = members.pop("change", None)
    method = "encode_frames" if base is ColourEncoder else "__call__"
    if change is not None:
        original = getattr(base, method)

        def call(self, frames, *goals):
            return change(self, original(self, frames, *goals), frames)

        members[method] = call
    return type("Broken", (base,), members)()


def _numbered(self, result, frames):
    self.count = getattr(self, "count", 0) + 1
    return (result * 0.5 + 0.1 * (self.count % 2)).astype(np.float32)


def _writes(self, result, frames):
    frames[0] = 0
    return result


def _versions(self, result, frames):
    self.version = f"{id(result)}"
    return result


@pytest.mark.parametrize(
    ("change", "name", "match"),
    [
        (
            lambda self, result, frames: result.astype(np.float64),
            "dtype of rewards",
            "expected float32, got float64",
        ),
        (lambda self, result, frames: result[:, None], "shape of rewards", "expected shape [7], got [7, 1]"),
        (lambda self, result, frames: 2 * result, "range of rewards", "expected 0 to 1, got from"),
        (lambda self, result, frames: result * np.nan, "finite rewards", "7 of 7 numbers are not finite"),
        (_numbered, "deterministic", "the same call gives something else"),
        (lambda self, result, frames: result / result.max(), "one by one", "depends on the batch"),
        (
            lambda self, result, frames: (result * 0.5 + np.arange(len(result)) * 0.01).astype(np.float32),
            "any order",
            "depends on its place",
        ),
        (_writes, "leaves frames alone", "writes into the frames"),
        (_versions, "name and version stable", "after some calls"),
    ],
)
def test_broken_callables(change, name, match):
    assert match in failed(broken(change=change), goals=GOALS)[name]


def test_a_callable_that_takes_floats():
    class Takes(RedReward):
        def __call__(self, frames, goals):
            return (frames[..., 0].mean(axis=(1, 2)) / 255).astype(np.float32)

    assert list(failed(Takes())) == ["refuses float frames"]

    class Stumbles(RedReward):
        def __call__(self, frames, goals):
            if frames.dtype != np.uint8:
                raise KeyError("dtype")
            return super().__call__(frames, goals)

    assert "raises KeyError" in failed(Stumbles())["refuses float frames"]


def test_what_raises_ends_the_check():
    def no(self, result, frames):
        raise RuntimeError("no\nweights")

    findings = rewards.check(broken(change=no), goals=GOALS)
    assert [(finding.name, finding.passed) for finding in findings] == [("form", True), ("answers", False)]
    assert findings[-1].detail == "RuntimeError: no weights"
    assert list(failed(3)) == ["form"]
    assert "version is None" in failed(broken(version=None))["form"]

    class Alone(RedReward):
        def __call__(self, frames, goals):
            if len(frames) == 1:
                raise RuntimeError("give me more")
            return super().__call__(frames, goals)

    assert list(failed(Alone())) == ["any batch size"]
    for useless in (lambda *rest: None, lambda *rest: ["much"] * 7, lambda *rest: [[1], [1, 2]]):
        assert "answers" in failed(broken(change=useless))
    with_goals = EncoderReward(ColourEncoder(), CosineHead(), GOALS)
    assert "did you mean 'red'" in failed(with_goals, goals=["redd"])["answers"]


@pytest.mark.parametrize(
    ("members", "name", "match"),
    [
        ({"change": lambda self, result, frames: result * 2}, "length of frame vectors", "from 2 to 2"),
        (
            {"change": lambda self, result, frames: result.astype(np.float16)},
            "dtype of frame vectors",
            "float16",
        ),
        (
            {"change": lambda self, result, frames: unit(result + result.mean(0))},
            "one by one",
            "depends on the batch",
        ),
        ({"encode_goals": lambda self, texts: unit(np.ones((len(texts), 4)))}, "one space", "frames have 3"),
        (
            {"encode_goals": lambda self, texts: np.ones((len(texts), 3), np.float32)},
            "length of goal vectors",
            "expected 0.99 to 1.01, got from 1.73",
        ),
        (
            {"encode_goals": lambda self, texts: unit(np.ones((len(texts), 3)) * [1, 1, len(texts)])},
            "goals one by one",
            "depends on the goals",
        ),
        (
            {"fingerprint": property(lambda self: str(next(_COUNT)), lambda self, value: None)},
            "fingerprint stable",
            "after some calls",
        ),
    ],
)
def test_broken_encoders(members, name, match):
    assert match in failed(broken(ColourEncoder, **members), goals=["red", "green"])[name]


class Scorer:
    name, version, range = "mine", "1", (-1.0, 1.0)

    def __init__(self, scores):
        self.scores = scores

    def score(self, trajectory, goal):
        rewards.check_frames(trajectory.next_observation["image"])
        return self.scores(len(trajectory.step_type))


def test_scorers():
    abstaining = rewards.check(
        Scorer(lambda steps: np.asarray([np.nan] * 2 + [-1.0] * (steps - 2), np.float32))
    )
    assert all(finding.passed for finding in abstaining)
    assert "on 2 of 6 steps" in [finding.detail for finding in abstaining]
    wrong = failed(Scorer(lambda steps: np.full(steps, 2, np.float32)), goals=GOALS)
    assert wrong["range of scores of 'red'"] == "expected -1 to 1, got from 2 to 2"
    assert (
        "shape [6]"
        in failed(Scorer(lambda steps: np.zeros(steps + 1, np.float32)), goals=GOALS)[
            "shape of scores of 'red'"
        ]
    )
    random = np.random.default_rng(0)
    changing = failed(Scorer(lambda steps: random.random(steps, np.float32)), goals=GOALS)
    assert "other scores" in changing["deterministic for 'red'"]


def test_own_frames_and_goals():
    seen = []

    class Watching(RedReward):
        def __call__(self, frames, goals):
            seen.append((frames.shape[1:], set(goals)))
            return super().__call__(frames, goals)

    assert not failed(Watching(), goals=["a", "b"], frames=some_frames(4, side=9))
    assert {shape for shape, _ in seen} == {(9, 9, 3)} and set.union(*(goals for _, goals in seen)) == {
        "a",
        "b",
    }
    with pytest.raises(RewardError, match="at least 2 frames"):
        rewards.check(RedReward(), frames=some_frames(1))
    with pytest.raises(RewardError, match="at least one goal"):
        rewards.check(RedReward(), goals=[])
