"""Whole jobs, from the command to their end, undisturbed and with every kind of node killed."""

import csv
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from limbeck.agents import HistoryReader
from limbeck.launchers import FaultPlan, command_line
from limbeck.launchers.job_config import JobConfig, JobEvaluationConfig
from limbeck.launchers.job_histories import history_watermarks
from limbeck.launchers.jobs import published
from limbeck.launchers.runs import as_settings

from benchmarks._ticking import count_rows, ticking_job
from benchmarks._watch import Watch, learner_fell_back, node_state, replay_losses, starts


pytestmark = [
    pytest.mark.replay,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("reverb") is None, reason="Reverb, of the replay extra, is not installed"
    ),
]

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT_S = 300.0
KILLED = ("learner", "replay", "actor_1", "sink")

# `run_job` with a fault plan: the command line has none.
RUN = """
import json, pathlib, sys
from limbeck.launchers import FaultPlan
from limbeck.launchers._job import run_job
from limbeck.launchers.job_config import job_from_settings
settings, runs_dir, name, faults = json.loads(sys.argv[1])
plan = FaultPlan(**faults) if faults else None
sys.exit(run_job("gymnasium", job_from_settings(settings), pathlib.Path(runs_dir), name, faults=plan))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[pathlib.Path, list[str], str]:
    """A tiny job on CartPole, run to its end: its directory, its command, and what it printed."""
    runs_dir = tmp_path_factory.mktemp("runs")
    command = [
        "run", "gymnasium", "--name", "tiny", "--runs-dir", str(runs_dir), "--env", "CartPole-v1",
        "--actors", "1", "--environments", "4", "--steps", "1024", "--settings.hidden", "16",
        "--replay.unroll", "16", "--replay.period", "16", "--replay.batch", "8", "--history-steps", "120",
        "--evaluation.episodes", "5", "--evaluation.environments", "2",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "limbeck.launchers.command_line", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return runs_dir / "tiny", command, done.stdout


def files(run: pathlib.Path) -> dict[str, int]:
    """When each file was last written, less the locks."""
    return {str(p): p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != "lock"}


def metric_steps(run: pathlib.Path) -> list[int]:
    with open(run / "metrics.csv", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_job_leaves_what_it_promises(finished) -> None:
    run, _, printed = finished
    assert "ppo on CartPole-v1" in printed and "over 5 episodes after 1,024 steps, 8 updates" in printed
    evaluated = json.loads((run / "evaluation.json").read_text())
    assert (evaluated["updates"], evaluated["steps"], evaluated["episodes"]) == (8, 1024, 5)
    assert evaluated["return"] == evaluated["episode_length"] > 0 and evaluated["success"] == 1.0
    about = published(run)
    assert about is not None and about["finished"] and about["updates"] == 8
    assert about["inserts"] >= 64 and (run / about["replay"] / "DONE").exists()
    assert len(list((run / "replay").glob("*/DONE"))) <= 2  # No more than checkpoints are kept.
    steps = metric_steps(run)
    assert steps == sorted(set(steps)) and steps[-1] == 8
    reader = HistoryReader(run / "histories")
    assert reader.watermarks.tolist() == [120] * 4 and reader.manifest.cuts == ()
    reader.verify()
    rows = reader.read(0)
    assert (rows["reward"] == 1).all() and 0 < (rows["discount"] == 0).sum() < 120
    for node in ("replay", "learner", "sink", "evaluator", "actor_0"):
        assert node_state(run, node)["incarnation"] == 0
        assert (run / "logs" / f"{node}.log").exists()


def test_a_second_call_returns_at_once(finished, capsys) -> None:
    run, command, printed = finished
    before = files(run)
    assert command_line.main(command) == 0
    assert capsys.readouterr().out == printed[printed.index("run: ") :]
    assert files(run) == before  # No node was started.


def test_the_same_name_with_other_settings_is_refused(finished, capsys) -> None:
    run, command, _ = finished
    before = files(run)
    assert command_line.main([*command, "--steps", "2048", "--settings.gamma", "0.5"]) == 2
    _, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and "was made with other settings" in err
    assert "steps is 1024 there and 2048 here" in err and "settings.gamma is 0.99 there and 0.5 here" in err
    assert files(run) == before


# Faults.


def wait_until(condition, process: subprocess.Popen, log: pathlib.Path) -> None:
    limit = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, f"ended before it could be killed: {log.read_text()}"
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.05)


def faults() -> FaultPlan:
    """Of the first seed whose plan kills each of them once."""
    for seed in range(1000):
        plan = FaultPlan(seed=seed, kills=len(KILLED), between_s=(0.5, 1.5), nodes=KILLED, at_work=True)
        if sorted(name for _, name in plan.schedule(KILLED)) == sorted(KILLED):
            return plan
    raise AssertionError("no seed has such a plan")


def begin(
    run: pathlib.Path, config: JobConfig, plan: FaultPlan | None, log: pathlib.Path
) -> subprocess.Popen:
    """The job's supervisor, the leader of a process group of its own."""
    told = [as_settings(config), str(run.parent), run.name, None if plan is None else vars(plan)]
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RUN, json.dumps(told)],
            cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def survivor(tmp_path_factory) -> tuple[pathlib.Path, JobConfig, Watch]:
    """A job whose nodes were killed, each once, then all of it at once, and that was started again."""
    directory = tmp_path_factory.mktemp("faults")
    run, log = directory / "faulty", directory / "log"
    evaluation = JobEvaluationConfig(episodes=4, environments=2)
    config = ticking_job(steps=36_000, history_steps=2600, evaluation=evaluation)

    def is_back(node: str) -> bool:
        about = node_state(run, node)
        return about is not None and about["state"] == "running" and about["incarnation"] >= 1

    def recorded() -> int:
        return min(history_watermarks(run) or [0])

    with Watch(run) as watch:
        process = begin(run, config, faults(), log)
        wait_until(lambda: watch.published and all(map(is_back, KILLED)), process, log)
        updates = watch.published[-1]["updates"]
        wait_until(lambda: watch.published[-1]["updates"] > updates and recorded() >= 500, process, log)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert recorded() < 2600 and not (run / "evaluation.json").exists()
        process = begin(run, config, None, log)
        assert process.wait(LIMIT_S) == 0, log.read_text()
    return run, config, watch


def test_a_job_survives_the_death_of_its_nodes_and_its_own(survivor) -> None:
    run, config, _ = survivor
    evaluated = json.loads((run / "evaluation.json").read_text())
    assert (evaluated["updates"], evaluated["episodes"]) == (config.updates, 4)
    steps = metric_steps(run)
    assert steps == sorted(set(steps)) and steps[-1] == config.updates


def test_the_learner_never_falls_behind_what_it_published(survivor) -> None:
    run, config, watch = survivor
    assert not learner_fell_back(run, watch)
    updates = [about["updates"] for about in watch.published]
    assert updates == sorted(updates) and updates[-1] == config.updates
    resumed = starts(run, "learner", r"the learner goes on from update (\d+)")
    assert len(resumed) >= 2  # Its own death, and the job's.
    for incarnation, match in resumed.items():
        assert int(match[1]) == watch.newest["learner", incarnation]["updates"]


def test_replay_loses_no_more_than_came_after_the_newest_checkpoint(survivor) -> None:
    run, _, watch = survivor
    losses = replay_losses(run, watch)
    assert len(losses) >= 2
    for lost, inserted_since in losses:
        assert lost <= inserted_since
    inserts = {str(run / about["replay"]): about["inserts"] for about in watch.published}
    for match in starts(run, "replay", r"replay goes on from (\S+): \d+ items after (\d+) inserts").values():
        assert int(match[2]) >= inserts[match[1]]


def test_histories_lack_nothing_and_have_nothing_twice(survivor) -> None:
    run, _, watch = survivor
    rows = count_rows(run / "histories")
    assert (rows.gaps, rows.doubles, rows.misplaced) == (0, 0, 0)
    marks = history_watermarks(run)
    for about in watch.published:  # What was whole once stays so.
        assert all(now >= then for now, then in zip(marks, about["watermarks"] or []))
    assert min(marks) >= 500
    cuts = HistoryReader(run / "histories").manifest.cuts
    assert (
        rows.cuts == len(cuts) >= 4
    )  # The job's own death cut off at least the actor that was furthest behind.
    for actor in range(2):
        times = {time for history, time in cuts if history // 4 == actor}
        assert len(times) <= node_state(run, f"actor_{actor}")["incarnation"]
        for history in range(4 * actor, 4 * actor + 4):  # Every environment of an actor is cut with it.
            assert {time for h, time in cuts if h == history} == times


def test_missing_and_repeated_rows_are_found(survivor, tmp_path) -> None:
    """The check itself, on what the job has left, with the record of its cuts taken away."""
    run, _, _ = survivor
    shutil.copytree(run / "histories", tmp_path / "histories")
    manifest = json.loads((tmp_path / "histories" / "manifest.json").read_text())
    places = len(manifest["cuts"])
    manifest["cuts"] = []
    (tmp_path / "histories" / "manifest.json").write_text(json.dumps(manifest))
    rows = count_rows(tmp_path / "histories")
    assert rows.gaps + rows.doubles == places and rows.cuts == 0
