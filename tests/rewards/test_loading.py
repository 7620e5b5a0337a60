"""Reward models by name: factories, entry points, and what leads nowhere."""

import pathlib
import sys

import numpy as np
import pytest
from limbeck.rewards import RewardError, form_of

from limbeck import rewards

from .toy_models import some_frames


TOYS = pathlib.Path(__file__).with_name("toy_models.py")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory with the toys as a module `my_rewards`, and a package that has entry points."""
    (tmp_path / "my_rewards.py").write_text(TOYS.read_text())
    (tmp_path / "my_broken.py").write_text("import no_such_dependency\n")
    about = tmp_path / "site" / "plugin-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[limbeck.rewards]\nreddish = my_rewards:a_callable\ngone = my_rewards:no_such_thing\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    yield tmp_path
    sys.modules.pop("my_rewards", None)


def test_factories(here):
    model = rewards.load("my_rewards:a_callable")
    assert form_of(model) == "callable" and sys.path[-1] == str(here)
    assert model(some_frames(2), ["red", "red"]).dtype == np.float32
    encoder = rewards.load("my_rewards:an_encoder", fingerprint="other")
    assert form_of(encoder) == "encoder" and encoder.fingerprint == "other"


def test_entry_points(here, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(here)])
    assert rewards.load("reddish").name == "red"


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("nowhere.at_all:model", {}, "No module named 'nowhere'; package.module is looked for"),
        ("my_broken:model", {}, "my_broken:model: No module named 'no_such_dependency'"),
        ("my_rewards:a_calable", {}, "my_rewards has no 'a_calable'; did you mean a_callable"),
        ("my_rewards:number", {}, "is a int, which cannot be called"),
        (
            "my_rewards:nothing",
            {},
            "my_rewards:nothing returned something else than a reward model: int is no",
        ),
        ("my_rewards:an_encoder", {"color": 3}, "does not take the arguments {'color': 3}"),
        ("my_rewards:", {}, "named package.module:factory"),
        (".my_rewards:a_callable", {}, "named package.module:factory"),
        ("redish", {}, "no reward model 'redish'; installed are gone, reddish. Did you mean reddish"),
        (
            "gone",
            {},
            "entry point gone of limbeck.rewards is my_rewards:no_such_thing, which cannot be imported",
        ),
    ],
)
def test_what_leads_nowhere_is_said(here, monkeypatch, name, arguments, match):
    monkeypatch.setattr(sys, "path", [*sys.path, str(here)])
    with pytest.raises(RewardError, match=match):
        rewards.load(name, **arguments)


def test_no_entry_points_at_all():
    with pytest.raises(RewardError, match="no package has the entry points limbeck.rewards"):
        rewards.load("reddish")
