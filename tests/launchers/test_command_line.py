"""The `limbeck` command: listings, one clear line for what the user can mend, tracebacks for what nobody foresaw."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from limbeck.envs import environment_names, minigrid_ids
from limbeck.launchers import command_line, experiments

from .conftest import store_digest


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; returns its one line."""

    def refused(*arguments: str | pathlib.Path) -> str:
        assert command_line.main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert out == ""
        assert len(lines) == 1, err
        assert lines[0].startswith("limbeck: ")
        return lines[0]

    return refused


def _printed(capsys, *arguments: str) -> str:
    assert command_line.main(arguments) == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys) -> None:
    text = _printed(capsys, "--help")
    assert text == _printed(capsys)
    for name in (
        "run",
        "evaluate",
        "report",
        "compare",
        "watch",
        "envs",
        "agents",
        "encoders",
        "histories",
        "rewards",
        "export",
        "doctor",
    ):
        assert f"\n  {name} " in text


@pytest.mark.parametrize("command", list(command_line.COMMANDS))
def test_every_command_has_help(capsys, command) -> None:
    with contextlib.suppress(SystemExit):
        assert command_line.main([command, "--help"]) == 0
    assert "usage: limbeck" in capsys.readouterr().out


def test_envs(capsys) -> None:
    listed = json.loads(_printed(capsys, "envs", "--json"))
    assert [about["name"] for about in listed] == environment_names()
    room = next(about for about in listed if about["name"] == "dark_room")
    assert room["num_tasks"] == 81
    assert room["specs"]["observation"] == {
        "name": room["specs"]["observation"]["name"],
        "shape": [2],
        "dtype": "int32",
        "minimum": 0,
        "maximum": 8,
    }
    text = _printed(capsys, "envs")
    assert all(f"{name}\n" in text for name in environment_names())


def test_envs_of_minigrid(capsys) -> None:
    listed = json.loads(_printed(capsys, "envs", "--minigrid", "--json"))
    assert [about["name"] for about in listed] == minigrid_ids()
    assert {"name": "MiniGrid-DoorKey-8x8-v0", "class": "DoorKeyEnv"} in listed
    words = _printed(capsys, "envs", "--minigrid").split()
    assert words[0] == str(len(listed)) and set(minigrid_ids()) <= set(words)


def test_listing_environments_does_not_import_minigrid() -> None:
    code = "import sys; from limbeck.launchers import command_line; command_line.main(['envs']);"
    code += "print('minigrid' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"


def test_agents(capsys) -> None:
    listed = json.loads(_printed(capsys, "agents", "--json"))
    names = ["a2c", "dqn", "impala", "muesli", "ppo", "q_learning", "r2d2", "rmax", "ucb1"]
    assert [about["name"] for about in listed] == names
    assert all(about["description"] and about["settings"] is not None for about in listed)
    assert "q_learning\n" in _printed(capsys, "agents")


def test_encoders(capsys) -> None:
    listed = json.loads(_printed(capsys, "encoders", "--json"))
    networks = {about["name"]: about["configurations"] for about in listed["networks"]}
    # open_clip's own counts.
    assert networks["clip"] == {"ViT-B-32": 151_277_313, "ViT-B-16": 149_620_737, "ViT-L-14": 427_616_513}
    recipe = next(about for about in listed["recipes"] if about["name"] == "audio_simclr")
    assert recipe["inputs"] == {"waveform": {"shape": [160_000], "dtype": "float32"}}
    assert (recipe["batch"], recipe["training"]["optimiser"]) == (4096, "adamw")
    text = _printed(capsys, "encoders")
    assert "ViT-B-32 151,277,313" in text and "  audio_simclr\n" in text


def test_doctor(capsys) -> None:
    found = json.loads(_printed(capsys, "doctor", "--json"))
    assert found["packages"]["jax"] == jax.__version__
    assert len(found["devices"]) == len(jax.devices())
    assert set(found["extras"]) == {
        "replay",
        "minari",
        "wandb",
        "cuda",
        "clip",
        "ray",
        "xland",
        "media",
        "probes",
        "bench",
        "dev",
    }
    assert found["extras"]["dev"]["installed"]
    text = _printed(capsys, "doctor")
    for name, extra in found["extras"].items():
        assert extra["gives"] in text
        assert (f"pip install 'limbeck[{name}]'" in text) == (not extra["installed"])


def test_doctor_says_whether_open_clip_imports(capsys, monkeypatch) -> None:
    assert "CLIP in PyTorch works: open_clip " in _printed(capsys, "doctor")
    from limbeck.launchers import _doctor

    monkeypatch.setattr(_doctor, "_installed", lambda module: True)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "CLIP in PyTorch does not work: " in _printed(capsys, "doctor")


def test_doctor_warns_that_reverb_listens_everywhere(capsys, monkeypatch) -> None:
    from limbeck.launchers import _doctor

    monkeypatch.setattr(_doctor, "_installed", lambda module: True)
    assert "listens on every network interface" in _printed(capsys, "doctor")
    monkeypatch.setattr(_doctor, "_installed", lambda module: False)
    assert "listens" not in _printed(capsys, "doctor")


def test_experiments_are_listed(capsys) -> None:
    text = _printed(capsys, "run")
    assert all(f"  {name} " in text for name in experiments.NAMES)


@pytest.mark.parametrize("name", [n for n in experiments.NAMES if hasattr(experiments.load(n), "config")])
@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_presets(name, preset) -> None:
    from limbeck.launchers import config, runs, stages

    chosen = experiments.load(name).config(preset)
    assert chosen.preset == preset
    stages.check(chosen)
    assert config.from_settings(runs.as_settings(chosen)) == chosen


def test_unknown_names(refused) -> None:
    assert "there is no command 'rn'; did you mean run?" in refused("rn")
    assert "There is no experiment 'dark_rom'; did you mean dark_room" in refused("run", "dark_rom")
    assert "no algorithm 'qlearning'" in refused("run", "dark_room", "--source.algorithm", "qlearning")
    assert "no preset 'quick'; known: fast, paper" in refused("run", "dark_room", "--preset", "quick")
    assert "--train.stepz" in refused("run", "dark_room", "--train.stepz", "3")
    assert "no action 'list'" in refused("histories", "list")
    assert "--jsn" in refused("envs", "--jsn")


def test_settings_that_cannot_work(refused, tmp_path) -> None:
    run = ("run", "dark_room", "--runs-dir", tmp_path, "--name", "a")
    assert "Of 81 tasks 0 to 80 can be held out, got 81" in refused(*run, "--tasks.held-out", "81")
    assert "tasks.train is 80, but dark_room has 81 tasks and 8 of them are held out" in refused(
        *run, "--tasks.train", "80"
    )
    assert "window.length is 5000 steps" in refused(*run, "--window.length", "5000")
    assert "keep_every is 300" in refused(*run, "--keep-every", "300")
    assert "seeds must be at least 1, got 0" in refused(*run, "--seeds", "0")
    assert "set --seed instead" in refused(*run, "--train.seed", "3")
    assert "'x'" in refused(*run, "--train.steps", "x")
    assert list(tmp_path.iterdir()) == []


def test_directories_that_cannot_be_used(refused, tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "Not a directory" in refused("run", "dark_room", "--runs-dir", file)
    assert "run name '../a'" in refused("run", "dark_room", "--runs-dir", tmp_path, "--name", "../a")
    for command in ("evaluate", "report", "watch", "export"):
        assert "is not a run directory" in refused(command, tmp_path)
    assert "is not a run directory" in refused("compare", tmp_path, tmp_path)
    assert "is not a history store" in refused("histories", "show", tmp_path)
    assert file.read_text() == ""


def test_a_run_that_has_not_come_far(refused, tmp_path) -> None:
    from limbeck.launchers import runs

    config = experiments.load("dark_room").config()
    runs.create_or_open(tmp_path, "dark_room", runs.as_settings(config))
    for command in ("evaluate", "watch", "export"):
        assert "has no distilled network yet" in refused(command, tmp_path)
    assert "has no evaluation of train yet" in refused("report", tmp_path)


def test_other_settings_are_refused(refused, reference, tiny) -> None:
    again = ("run", "dark_room", "--runs-dir", reference.parent, "--name", "reference")
    line = refused(*again, *tiny, "--source.settings.gamma", "0.8")
    assert "source.settings.gamma is 0.95 there and 0.8 here" in line
    assert line.count(" there and ") == 1
    assert "source.algorithm is 'rmax' there and 'q_learning' here" in refused(
        *again, *tiny, "--source.algorithm", "q_learning", "--keep-every", "1"
    )


def test_evaluate(capsys, reference) -> None:
    about = json.loads(_printed(capsys, "evaluate", str(reference), "--json"))
    report = json.loads((reference / "report.json").read_text())
    assert about["last_10"]["iqm"] == pytest.approx(report["held_out"]["last_10"]["iqm"], rel=1e-6)
    assert about["episodes"] == 4
    some = list(about["by_task"])[:2]
    fewer = json.loads(
        _printed(capsys, "evaluate", str(reference), "--ids", *some, "--episodes", "2", "--json")
    )
    assert list(fewer["by_task"]) == some
    assert fewer["episodes"] == 2
    assert "return over the last 10 of 4 episodes" in _printed(
        capsys, "evaluate", str(reference), "--tasks", "train", "--control", "context_cleared"
    )


def test_tasks_outside_the_environment(refused, reference) -> None:
    assert "Task 81 is not one of these" in refused("evaluate", reference, "--ids", "81")
    assert "Task 81 is not one of these" in refused("watch", reference, "--task", "81")


def test_report_is_written_again(capsys, reference) -> None:
    before = (reference / "report.json").read_bytes()
    (reference / "report.json").unlink()
    printed = _printed(capsys, "report", str(reference))
    assert (reference / "report.json").read_bytes() == before
    lines = printed.splitlines()
    assert lines[0] == f"report: {reference / 'report.html'}"
    assert len(lines) == 6


def test_watch(capsys, reference, tmp_path) -> None:
    from PIL import Image

    out = tmp_path / "watch.gif"
    printed = _printed(capsys, "watch", str(reference), "--episodes", "1", "3", "--out", str(out))
    assert printed.splitlines()[-1] == str(out)
    with Image.open(out) as gif:
        # The start and 20 steps, two panels.
        assert gif.n_frames == 21
        assert gif.width == 2 * (216 + 12) + 12


def test_histories_show(capsys, reference) -> None:
    about = json.loads(_printed(capsys, "histories", "show", str(reference), "--json", "--verify"))
    assert about["histories"] == 18
    assert about["complete"]
    assert about["steps"] == 18 * 12 * 20
    assert about["split"]["histories"] == {"train": 18}
    text = _printed(capsys, "histories", "show", str(reference / "histories"))
    assert "18 histories of dark_room, 6 tasks" in text
    assert "rmax: return" in text


def test_histories_come_back(capsys, reference, tmp_path) -> None:
    file, store = tmp_path / "histories.npz", tmp_path / "again" / "histories"
    _printed(capsys, "histories", "export", str(reference), str(file))
    _printed(capsys, "histories", "import", str(file), str(store))
    assert store_digest(store.parent) == store_digest(reference)


def test_export(capsys, reference, tmp_path) -> None:
    from limbeck import distillation

    printed = _printed(capsys, "export", str(reference), "--out", str(tmp_path / "export"))
    assert printed.strip() == str(tmp_path / "export")
    exported, own = distillation.load(tmp_path / "export"), distillation.load(reference)
    assert exported.description == own.description
    jax.tree.map(np.testing.assert_array_equal, exported.params, own.params)


def test_compare(capsys, refused, reference, tmp_path) -> None:
    shutil.copytree(reference, tmp_path / "other")
    printed = _printed(
        capsys, "compare", str(reference), str(tmp_path / "other"), "--out", str(tmp_path / "out")
    )
    lines = printed.splitlines()
    assert lines[0].startswith("reference: return ")
    assert lines[1].removeprefix("other") == lines[0].removeprefix("reference")
    assert (tmp_path / "out" / "compare.html").exists()
    assert "two runs or more" in refused("compare", reference)
    (tmp_path / "other" / "report.json").unlink()
    assert "has no report yet" in refused("compare", reference, tmp_path / "other")


def test_the_unforeseen_keeps_its_traceback(monkeypatch) -> None:
    def broken(rest):
        return int("no number")

    monkeypatch.setattr("limbeck.launchers._listings.envs", broken)
    with pytest.raises(ValueError, match="invalid literal"):
        command_line.main(["envs"])


def test_help_is_quick(repository) -> None:
    code = (
        "import sys; from limbeck.launchers.command_line import main; main(['--help']);"
        "print([name for name in ('jax', 'numpy', 'tyro', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
