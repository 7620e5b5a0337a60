"""The run directory: names, settings, ownership, files that are whole or absent."""

import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest
from limbeck.launchers import runs


SETTINGS = {"source": {"algorithm": "q_learning", "episodes": 10}, "seed": 0, "clip": None, "hidden": [8, 8]}


def test_run_opens_again(tmp_path) -> None:
    made = runs.create_or_open(tmp_path / "a", "dark_room", SETTINGS)
    assert runs.create_or_open(tmp_path / "a", "dark_room", SETTINGS) == made
    assert runs.open_run(tmp_path / "a") == made
    about = json.loads((tmp_path / "a" / "config.json").read_text())
    assert about["format_version"] == runs.FORMAT_VERSION
    assert about["versions"]["jax"]
    assert runs.changed_versions(tmp_path / "a") == []


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        (
            {"source": {"algorithm": "rmax", "episodes": 10}},
            "source.algorithm is 'q_learning' there and 'rmax' here",
        ),
        ({"clip": 1.0}, "clip is None there and 1.0 here"),
        ({"hidden": [8, 9]}, r"hidden is \[8, 8\] there and \[8, 9\] here"),
        ({"more": 1}, "more is 'absent' there and 1 here"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, shown) -> None:
    runs.create_or_open(tmp_path / "a", "dark_room", SETTINGS)
    before = (tmp_path / "a" / "config.json").read_bytes()
    with pytest.raises(ValueError, match=shown) as refused:
        runs.create_or_open(tmp_path / "a", "dark_room", {**SETTINGS, **change})
    assert str(refused.value).count(" there and ") == 1
    assert (tmp_path / "a" / "config.json").read_bytes() == before


def test_another_experiment_is_refused(tmp_path) -> None:
    runs.create_or_open(tmp_path / "a", "dark_room", SETTINGS)
    with pytest.raises(ValueError, match="experiment is 'dark_room' there and 'dark_room_hard' here"):
        runs.create_or_open(tmp_path / "a", "dark_room_hard", SETTINGS)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../a", "a/b", "/tmp/a", ".hidden", "-a", "a b", "a\n", "a" * 129]
)
def test_names_cannot_leave_the_runs_directory(tmp_path, name) -> None:
    with pytest.raises(ValueError, match="run name"):
        runs.run_path(tmp_path, name)


def test_names(tmp_path) -> None:
    assert runs.run_path(tmp_path, "demo-2.b_3") == tmp_path / "demo-2.b_3"


def test_other_format_version(tmp_path) -> None:
    runs.create_or_open(tmp_path, "dark_room", SETTINGS)
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**about, "format_version": 99}))
    with pytest.raises(ValueError, match="format version 99; this Limbeck reads 1"):
        runs.open_run(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1}'])
def test_damaged_config(tmp_path, content) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json is damaged or not of a run"):
        runs.open_run(tmp_path)


def test_a_folder_of_other_things_is_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="is not empty and holds no config.json"):
        runs.create_or_open(tmp_path, "dark_room", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_one_process_at_a_time(tmp_path, repository: pathlib.Path) -> None:
    code = (
        "import pathlib, sys; from limbeck.launchers import runs\n"
        "with runs.locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"is in use by process {other.pid}"), runs.locked(tmp_path):
            pass
        other.kill()
    # The kernel let it go.
    with runs.locked(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch) -> None:
    path = tmp_path / "config.json"
    runs.write_json(path, {"a": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        runs.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def test_marks(tmp_path) -> None:
    run = runs.create_or_open(tmp_path, "dark_room", SETTINGS)
    assert run.done("source") is None
    run.mark("source", runs=3)
    assert run.done("source") == {"runs": 3}
