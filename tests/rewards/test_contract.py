"""The checks of frames, goals, rewards and embeddings, and the three forms."""

import subprocess
import sys

import numpy as np
import pytest
from limbeck.rewards import RewardError, check_embeddings, check_frames, check_goals, check_rewards, form_of

from limbeck import rewards

from .toy_models import ColourEncoder, RedReward, some_frames


FRAMES = some_frames(3)


def test_frames_pass_as_they_are():
    assert check_frames(FRAMES) is FRAMES


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        (
            FRAMES.astype(np.float32) / 255,
            r"got float32 \[3, 6, 6, 3\]: these lie in 0..1: \(frames \* 255\)",
        ),
        (FRAMES.astype(np.float32), r"frames.astype\(np.uint8\)"),
        (FRAMES.astype(np.int64), r"got int64 .* frames.astype"),
        (FRAMES[0], r"got uint8 \[6, 6, 3\]: one frame needs a batch axis, frames\[None\]"),
        (np.moveaxis(FRAMES, -1, 1), "channels come last, np.moveaxis"),
        (FRAMES[..., :1], "grey"),
        (np.zeros((3, 6, 6, 4), np.uint8), "alpha"),
        (np.zeros((2, 3, 6, 6, 3), np.uint8), "join the leading axes"),
        (np.zeros((6, 6), np.uint8), r"got uint8 \[6, 6\]$"),
        (FRAMES[:0], "at least one frame"),
        (list(FRAMES), "got list: np.stack"),
    ],
)
def test_other_frames_are_refused_with_what_to_do(frames, match):
    with pytest.raises(RewardError, match=match):
        check_frames(frames)


def test_goals():
    assert check_goals(("red", np.str_("blue")), 2) == ["red", "blue"]
    for goals, match in (
        ("red", "one text a frame"),
        (["red"], "3 frames, but 1 goals"),
        ([1, 2, 3], "texts"),
        (5, "int"),
    ):
        with pytest.raises(RewardError, match=match):
            check_goals(goals, 3)


def test_rewards():
    fine = np.asarray([0, 0.5, 1], np.float32)
    assert check_rewards(fine, 3) is fine
    check_rewards(np.asarray([np.nan, -1], np.float32), 2, (-1.0, 1.0), abstains=True)
    for wrong, match in (
        (fine[:2], r"shape \[3\], got shape \[2\]"),
        (fine[:, None], r"got shape \[3, 1\]"),
        (fine.astype(np.float64), "float64: return .astype"),
        (np.asarray([0, np.nan, np.inf], np.float32), "2 of 3 are not finite"),
        (fine + np.float32(0.01), "from 0 to 1, got some from 0.01 to 1.01"),
        (fine - np.float32(0.01), "got some from -0.01"),
    ):
        with pytest.raises(RewardError, match=f"mine: .*{match}"):
            check_rewards(wrong, 3, what="mine")
    with pytest.raises(RewardError, match="not finite"):
        check_rewards(np.asarray([np.inf], np.float32), 1, abstains=True)


def test_embeddings():
    fine = np.eye(3, dtype=np.float32)
    assert check_embeddings(fine, 3) is fine
    for wrong, match in (
        (fine[0], r"\[3, D\], got \[3\]"),
        (fine[:2], r"got \[2, 3\]"),
        (fine.astype(np.float16), "float16"),
        (fine * 1.1, "length 1.1: divide"),
        (fine * np.nan, "3 of 3 vectors are not finite"),
    ):
        with pytest.raises(RewardError, match=match):
            check_embeddings(wrong, 3)


class Scorer:
    name, version, range = "mine", "1", (-1, 1)

    def score(self, trajectory, goal):
        return np.zeros(len(trajectory.action), np.float32)


def test_forms():
    assert form_of(RedReward()) == "callable"
    assert form_of(ColourEncoder()) == "encoder"
    assert form_of(Scorer()) == "scorer"

    class Module(ColourEncoder):  # As a PyTorch module is.
        def __call__(self, frames):
            return self.encode_frames(frames)

    assert form_of(Module()) == "encoder"

    def plain(frames, goals):
        return np.zeros(len(frames), np.float32)

    with pytest.raises(RewardError, match="function plain has the form .*callable.* but name is None"):
        form_of(plain)
    plain.name, plain.version = "plain", "1"
    assert form_of(plain) == "callable"


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (3, "int is no reward model; expected"),
        (RedReward, "is a class"),
        (ColourEncoder(""), "fingerprint is ''"),
        (type("Bad", (Scorer,), {"range": (1, 1)})(), r"range is \(lowest, highest\)"),
        (type("Bad", (Scorer,), {"range": 1})(), r"range is \(lowest, highest\)"),
        (type("Bad", (Scorer,), {"version": 2})(), "version is 2; expected a non-empty string"),
    ],
)
def test_other_things_are_refused(model, match):
    with pytest.raises(RewardError, match=match):
        form_of(model)


def test_importing_rewards_is_light():
    heavy = "('torch', 'open_clip', 'haiku', 'gymnasium', 'minigrid')"
    code = f"import sys, limbeck.rewards; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    for names in rewards._HOMES.values():
        assert all(callable(getattr(rewards, name)) for name in names)
