"""A run that is killed in any stage and started again leaves what an undisturbed one leaves."""

import json
import pathlib
import random
import signal
import time
from collections.abc import Callable

import pytest

from .conftest import assert_same_run


def _kill_when(process, condition: Callable[[], bool], delay: float = 0.0) -> None:
    """Kills a process as soon as a condition holds; fails where it ends before."""
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"ended before it could be killed: {process.communicate()[0]}"
        assert time.monotonic() < limit
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def _steps_stored(run: pathlib.Path) -> int:
    path = run / "histories" / "watermarks.json"
    return sum(json.loads(path.read_text())["watermarks"]) if path.exists() else 0


@pytest.mark.slow
def test_killed_in_every_stage(tmp_path, reference, start, finish, tiny) -> None:
    rng = random.Random(0)
    run = tmp_path / "killed"
    command = ("run", "dark_room", "--runs-dir", tmp_path, "--name", "killed", *tiny)

    # In the source stage, twice: some blocks stored, others not.
    for _ in range(2):
        more = _steps_stored(run) + 1
        _kill_when(start(*command), lambda more=more: _steps_stored(run) >= more, rng.uniform(0, 0.01))
        assert 0 < _steps_stored(run) < 18 * 240
    assert not (run / "stages" / "source.json").exists()

    checkpoint = run / "checkpoints" / f"step_{rng.randrange(10, 50, 10):08d}"
    _kill_when(start(*command), checkpoint.exists)
    assert (run / "stages" / "source.json").exists()
    assert not (run / "stages" / "distil.json").exists()

    part = rng.choice(["train", "held_out", "controls.rewards_zeroed"])
    _kill_when(start(*command), (run / "evaluation" / f"{part}.npz").exists)
    assert not (run / "stages" / "evaluate.json").exists()

    _kill_when(start(*command), (run / "stages" / "evaluate.json").exists, rng.uniform(0, 0.05))
    assert not (run / "stages" / "report.json").exists()

    finish(*command)
    assert_same_run(run, reference)
    rows = (run / "metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [10, 20, 30, 40, 50, 60]


def test_again_changes_nothing(reference, finish, tiny) -> None:
    def state() -> dict[str, int]:
        files = [path for path in reference.rglob("*") if path.is_file() and path.name != "lock"]
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = state()
    printed = finish("run", "dark_room", "--runs-dir", reference.parent, "--name", "reference", *tiny)
    assert state() == before
    assert f"report: {reference / 'report.html'}" in printed


@pytest.mark.replay
def test_streamed_killed_and_streamed_on(tmp_path, reference, start, finish, tiny) -> None:
    pytest.importorskip("reverb")
    run = tmp_path / "killed"
    command = (
        "run",
        "dark_room",
        "--runs-dir",
        tmp_path,
        "--name",
        "killed",
        *tiny[:-2],
        "--transport",
        "reverb",
    )
    _kill_when(start(*command), lambda: _steps_stored(run) > 0)
    assert not (run / "stages" / "source.json").exists()
    finish(*command)
    # The reference's histories were written directly.
    assert_same_run(run, reference)


@pytest.mark.slow
def test_seeds(tmp_path, reference, finish, tiny) -> None:
    printed = finish("run", "dark_room", "--runs-dir", tmp_path, "--name", "two", *tiny, "--seeds", "2")
    run = tmp_path / "two"
    # The first one is the run of that seed alone; the second shares nothing with it.
    assert_same_run(run / "seed_0", reference)
    splits = [
        json.loads((run / f"seed_{seed}" / "histories" / "manifest.json").read_text())["split"]
        for seed in (0, 1)
    ]
    assert [split["salt"] for split in splits] == ["limbeck-0", "limbeck-1"]
    assert splits[0]["held_out"] != splits[1]["held_out"]
    assert (run / "report.json").exists()
    assert f"report: {run / 'report.html'}" in printed
