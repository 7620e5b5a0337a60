"""Relabelled stores: every row by the frame that its action led to, the truth beside, the rest untouched."""

import json
import pathlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from limbeck.agents import HistoryError, HistoryInfo, HistoryReader, HistoryWriter, Manifest
from limbeck.envs import LAST, MID, tokenize_mission
from limbeck.launchers._relabel import relabel_command
from limbeck.rewards import relabel


HISTORIES, PER_GROUP, LENGTH, CHUNK = 4, 2, 23, 5
IMAGE = {"shape": [2, 2, 3], "dtype": "uint8"}
MISSIONS = ["go to the red ball", "open the door"]


class Red:
    """Pays the first pixel's red over 255, where the goal is of a ball; notes its calls."""

    name, version = "red", "3"

    def __init__(self):
        self.calls: list[int] = []

    def __call__(self, frames, goals):
        self.calls.append(len(frames))
        wanted = np.array(["ball" in goal for goal in goals])
        return frames[:, 0, 0, 0].astype(np.float32) / 255 * wanted


def make_store(path: pathlib.Path, observation: Any, cuts=(), stop: int = LENGTH) -> dict[str, np.ndarray]:
    """A store of random pictures, whole up to `stop`; its fields."""
    rng = np.random.default_rng(0)
    infos = [HistoryInfo(-1, None, "train", "ppo", 0, i, 0) for i in range(HISTORIES)]
    manifest = Manifest(
        environment="meadow", environment_kwargs={}, observation=observation, action={"shape": [], "dtype": "int32"},
        max_steps=None, split={"salt": "s", "seed": 0, "held_out": []}, length=LENGTH, histories=infos,
        histories_per_chunk=PER_GROUP, steps_per_chunk=CHUNK, cuts=cuts,
    )  # fmt: skip
    shape = (HISTORIES, LENGTH)
    ended = rng.random(shape) < 0.25
    picture = rng.integers(0, 256, (*shape, 2, 2, 3)).astype(np.uint8)
    final = np.where(ended[..., None, None, None], 255 - picture, 0).astype(np.uint8)
    fields = {
        "action": rng.integers(0, 3, shape).astype(np.int32),
        "reward": rng.random(shape).astype(np.float32),
        "discount": np.where(ended, rng.integers(0, 2, shape), 1).astype(np.float32),
        "step_type": np.where(ended, LAST, MID).astype(np.int32),
    }
    if "image" in observation:
        text = np.stack([np.tile(tokenize_mission(MISSIONS[i % 2]), (LENGTH, 1)) for i in range(HISTORIES)])
        fields |= {
            "observation.image": picture, "observation.text": text,
            "final_observation.image": final, "final_observation.text": np.where(ended[..., None], text, 0),
        }  # fmt: skip
    else:
        fields |= {"observation": picture, "final_observation": final}
    with HistoryWriter.create_or_open(path, manifest) as writer:
        for group in range(manifest.num_groups):
            for chunk in range(manifest.num_chunks):
                rows, times = manifest.rows(group), manifest.times(chunk)
                if times.stop <= stop:
                    block = {
                        n: a[rows.start : rows.stop, times.start : times.stop] for n, a in fields.items()
                    }
                    writer.write(group, chunk, unflat(block))
    return fields


def unflat(fields: dict[str, np.ndarray]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, array in fields.items():
        base, _, key = name.partition(".")
        if key:
            result.setdefault(base, {})[key] = array
        else:
            result[base] = array
    return result


WITH_TEXT = {"image": IMAGE, "text": {"shape": list(tokenize_mission("").shape), "dtype": "int32"}}


def read(path: pathlib.Path, history: int) -> dict[str, Any]:
    return HistoryReader(path).read(history)


def test_rewards_are_of_the_frames_that_actions_led_to(tmp_path):
    fields = make_store(tmp_path / "store", WITH_TEXT, cuts=((1, 10),))
    model = Red()
    done = relabel(tmp_path / "store", model, tmp_path / "out", batch=7)
    assert done.rows == HISTORIES * LENGTH and max(model.calls) <= 7 and sum(model.calls) == done.distinct
    ended, unseen = fields["step_type"] == LAST, 0
    for history in range(HISTORIES):
        found = read(tmp_path / "out", history)
        expected = np.zeros(LENGTH, np.float32)
        for t in range(LENGTH):
            if ended[history, t]:
                red = fields["final_observation.image"][history, t, 0, 0, 0]
            elif t == LENGTH - 1 or (history, t) == (1, 9):
                red, unseen = 0, unseen + 1
            else:
                red = fields["observation.image"][history, t + 1, 0, 0, 0]
            expected[t] = np.float32(red) / 255 * (history % 2 == 0)
        np.testing.assert_allclose(found["reward"], expected)
        np.testing.assert_array_equal(found["true_reward"], fields["reward"][history])
        for name in ("action", "discount", "step_type"):
            np.testing.assert_array_equal(found[name], fields[name][history])
        np.testing.assert_array_equal(found["observation"]["image"], fields["observation.image"][history])
    assert done.unseen == unseen > 1
    manifest = HistoryReader(tmp_path / "out").manifest
    assert {info.reward_model for info in manifest.histories} == {"red:3"} and manifest.cuts == ((1, 10),)
    HistoryReader(tmp_path / "out").verify()


def test_only_what_is_whole_is_copied_and_the_same_call_again_asks_nothing(tmp_path):
    make_store(tmp_path / "store", WITH_TEXT, stop=12)
    relabel(tmp_path / "store", Red(), tmp_path / "out")
    assert HistoryReader(tmp_path / "out").watermarks.tolist() == [10] * HISTORIES
    model = Red()
    assert relabel(tmp_path / "store", model, tmp_path / "out") == (0, 0, 0) and model.calls == []


def test_relabelled_twice_the_truth_stays_the_truth(tmp_path):
    fields = make_store(tmp_path / "store", IMAGE)
    relabel(tmp_path / "store", Red(), tmp_path / "once", goal="a ball")
    relabel(tmp_path / "once", lambda f, g: np.full(len(f), 0.5), tmp_path / "twice", goal="a ball")
    found = read(tmp_path / "twice", 0)
    np.testing.assert_array_equal(found["true_reward"], fields["reward"][0])
    assert (found["reward"][:-1] == 0.5).all()
    assert HistoryReader(tmp_path / "twice").manifest.histories[0].reward_model == "function"


def test_stores_that_cannot_be_relabelled_are_refused(tmp_path):
    make_store(tmp_path / "store", IMAGE)
    with pytest.raises(HistoryError, match="no text. Give a goal"):
        relabel(tmp_path / "store", Red(), tmp_path / "out")
    with pytest.raises(HistoryError, match="needs another directory"):
        relabel(tmp_path / "store", Red(), tmp_path / "store", goal="x")
    with pytest.raises(ValueError, match="Labelling takes a callable"):
        relabel(tmp_path / "store", SimpleNamespace(), tmp_path / "out", goal="x")
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    manifest["observation"] = {"shape": [4], "dtype": "float32"}
    (tmp_path / "numbers").mkdir()
    blind = Manifest.from_json(manifest)
    HistoryWriter.create_or_open(tmp_path / "numbers", blind).close()
    with pytest.raises(HistoryError, match="has no images for a reward model"):
        relabel(tmp_path / "numbers", Red(), tmp_path / "out", goal="x")
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, monkeypatch, capsys):
    make_store(tmp_path / "run" / "histories", WITH_TEXT)
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "limbeck_test_pays.py").write_text(
        "import numpy as np\nclass Pays:\n    name, version = 'pays', '1'\n"
        "    def __init__(self, much):\n        self.much = much\n"
        "    def __call__(self, frames, goals):\n        return np.full(len(frames), self.much)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = ["--reward", "limbeck_test_pays:Pays", "--reward-arguments", "much", "0.25", "--goal", "anything"]
    relabel_command([str(tmp_path / "run"), str(tmp_path / "out"), *given])
    assert f"{HISTORIES * LENGTH} rows" in capsys.readouterr().out
    assert set(read(tmp_path / "out", 2)["reward"][:-1]) == {0.25}
