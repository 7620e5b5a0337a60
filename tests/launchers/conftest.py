"""A run small enough for seconds, made once, and what tells two runs apart."""

import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest


TINY = """
    --tasks.train 6 --tasks.held-out 4
    --source.runs-per-task 3 --source.runs-per-group 4 --source.episodes 12 --source.steps-per-chunk 100
    --model.window 40 --model.transformer.num-layers 1 --model.transformer.d-model 16
    --model.transformer.num-heads 2 --model.transformer.feed-forward 32
    --window.batch 4 --window.length 120 --train.accumulation 1
    --train.steps 60 --train.checkpoint-every 10 --train.log-every 10 --train.warmup-steps 5
    --evaluation.episodes 4 --evaluation.seeds 2 --evaluation.reference-seeds 3
""".split()


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """The options of a run of seconds, histories written directly."""
    return [*TINY, "--transport", "direct"]


@pytest.fixture(scope="session")
def start(repository: pathlib.Path):
    """Starts the `limbeck` command in a process of its own."""

    def start(*arguments: str | pathlib.Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "limbeck.launchers.command_line", *map(str, arguments)],
            cwd=repository,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def finish(start):
    """Runs the `limbeck` command in a process of its own to its end; returns what it printed."""

    def finish(*arguments: str | pathlib.Path) -> str:
        process = start(*arguments)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        return printed

    return finish


@pytest.fixture(scope="session")
def reference(tmp_path_factory, finish, tiny) -> pathlib.Path:
    """A tiny run that nothing disturbed."""
    runs_dir = tmp_path_factory.mktemp("runs")
    finish("run", "dark_room", "--runs-dir", runs_dir, "--name", "reference", *tiny)
    return runs_dir / "reference"


def store_digest(run: pathlib.Path) -> dict[str, str]:
    """Every byte of the history store, less its lock."""
    store = run / "histories"
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "writer.lock"]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def evaluation_arrays(run: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of all parts of the evaluation."""
    found = {}
    for path in (run / "evaluation").glob("*.npz"):
        with np.load(path) as arrays:
            found.update({f"{path.stem}.{name}": arrays[name] for name in arrays})
    return found


def assert_same_run(run: pathlib.Path, other: pathlib.Path) -> None:
    """Histories, network, evaluation and report are equal to the last bit, whatever the transport."""
    import jax
    from limbeck.encoders import load_params

    assert store_digest(run) == store_digest(other)
    (params, step), (others, other_step) = (load_params(path / "checkpoints") for path in (run, other))
    assert step == other_step
    jax.tree.map(np.testing.assert_array_equal, params, others)
    found, expected = evaluation_arrays(run), evaluation_arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    reports = [json.loads((path / "report.json").read_text()) for path in (run, other)]
    for report in reports:
        del report["settings"]["transport"]
    titles = [report.pop("title") for report in reports]
    assert titles == [f"dark_room: {path.name}" for path in (run, other)]
    assert reports[0] == reports[1]
