"""The local back end: restarts, bounds, clean stops, and no process left behind."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from limbeck.launchers import Node, NodeState, Outcome, Program, ProgramError, Supervision, run_local
from limbeck.launchers._supervisor import backoff_s
from limbeck.launchers.local import assign_gpus
from limbeck.launchers.status import StatusTable, lines


FAST = Supervision(grace_s=10.0, first_pause_s=0.05, longest_pause_s=0.2, status_every_s=60.0)
HERE = pathlib.Path(__file__).parent

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
from limbeck.launchers import Node, Program, Supervision, run_local
nodes = [Node(name, name, f"toy_nodes:{entry}") for name, entry in (pair.split("=") for pair in sys.argv[3:])]
outcome = run_local(Program("toy", nodes), sys.argv[1], Supervision(grace_s=8.0))
print(outcome.state)
sys.exit(outcome.exit_code)
"""


@pytest.fixture(autouse=True)
def _toy_nodes_are_found(monkeypatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def node(name: str, entry: str, role: str | None = None, settings: dict | None = None, **kwargs) -> Node:
    return Node(name, role or name, f"toy_nodes:{entry}", settings or {}, **kwargs)


def until(condition, what: str, deadline_s: float = 40.0):
    deadline = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
    return found


def text(path: pathlib.Path) -> str:
    return path.read_text() if path.exists() else ""


def is_alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> tuple[Outcome, pathlib.Path]:
    """A program with failures of every kind, run to its end once."""
    directory = tmp_path_factory.mktemp("program")
    nodes = [
        node("counter", "counts", "server"),
        node("idle", "waits"),
        node("unlucky", "fails_at_first", settings={"times": 2}, restarts=2),
        node("caller", "calls", settings={"a": [1]}),
        node("told", "returns", settings={"a": [1]}),
    ]
    program = Program("toy", nodes, {"b": 2}, until=["unlucky", "caller"])
    sys.path.insert(0, str(HERE))
    try:
        return run_local(program, directory, FAST), directory
    finally:
        sys.path.remove(str(HERE))


def test_a_program_ends_when_those_it_waits_for_have_returned(outcome) -> None:
    ended, _ = outcome
    assert (ended.state, ended.exit_code, ended.failure) == ("finished", 0, "")
    states = {name: state.state for name, state in ended.nodes.items()}
    assert states == {
        "counter": "stopped",
        "idle": "stopped",
        "unlucky": "done",
        "caller": "done",
        "told": "done",
    }


def test_nodes_are_told_their_settings(outcome) -> None:
    assert text(outcome[1] / "told.txt") == "0 {'a': [1]} {'b': 2}\n"


def test_a_node_is_restarted_with_its_incarnation(outcome) -> None:
    ended, directory = outcome
    assert text(directory / "unlucky.txt") == "0\n1\n2\n"
    assert (ended.nodes["unlucky"].restarts, ended.nodes["unlucky"].incarnation) == (2, 2)
    assert ended.nodes["unlucky"].facts == {"start": 2}
    log = text(directory / "logs" / "unlucky.log")
    assert [line.split(",")[1] for line in log.splitlines() if line.startswith("---")] == [
        " incarnation 0",
        " incarnation 1",
        " incarnation 2",
    ]
    assert log.count("ValueError: failure number 0") == 1


def test_a_caller_finds_the_restarted_server(outcome) -> None:
    # Calls before the kill, the foreign address, the call that died, the count and the address after it.
    assert text(outcome[1] / "caller.txt") == "[1, 6] 10.0.0.1:0 True [1001] 10.0.0.1:1\n"


def test_nodes_flush_before_the_end(outcome) -> None:
    assert text(outcome[1] / "idle.txt").startswith("began\nflushed")


def test_no_secret_is_left_on_disk(outcome) -> None:
    about = json.loads(text(outcome[1] / "nodes" / "counter.json"))
    assert about.keys() == {f.name for f in NodeState.__dataclass_fields__.values()} - {"facts", "reported"}
    assert (about["state"], about["pid"], about["incarnation"], about["address"]) == ("stopped", None, 1, {})


def test_incarnations_go_on_in_a_second_launch(outcome) -> None:
    """One more start each: 3 of the unlucky one; the node that never failed was started once before."""
    _, directory = outcome
    nodes = [
        node("unlucky", "fails_at_first", settings={"times": 0}),
        node("told", "returns"),
    ]
    again = run_local(Program("toy", nodes), directory, FAST)
    assert {name: state.incarnation for name, state in again.nodes.items()} == {"unlucky": 3, "told": 1}


def test_one_failure_too_many_fails_the_program(tmp_path: pathlib.Path) -> None:
    nodes = [node("idle", "waits"), node("unlucky", "fails_at_first", settings={"times": 9}, restarts=2)]
    ended = run_local(Program("toy", nodes), tmp_path, FAST)
    assert (ended.state, ended.exit_code) == ("failed", 1)
    assert text(tmp_path / "unlucky.txt") == "0\n1\n2\n"
    assert "node unlucky failed (exit code 1) after 2 restarts" in ended.failure
    assert ended.failure.endswith("ValueError: failure number 2")
    assert str(tmp_path / "logs" / "unlucky.log") in ended.failure
    assert text(tmp_path / "idle.txt").startswith("began\nflushed")


def test_nodes_stop_from_the_last_to_the_first_and_a_hanging_one_is_killed(tmp_path: pathlib.Path) -> None:
    nodes = [
        node("server", "waits"),
        node("learner", "waits", settings={"flush_s": 0.2}),
        node("actor_0", "waits", "actor", {"flush_s": 1.0}),
        node("actor_1", "waits", "actor", {"flush_s": 1.0}),
        node("stuck", "hangs"),
    ]
    stopping = threading.Event()

    def stop():
        until(lambda: len(text(tmp_path / "stuck.txt").split()) == 2, "the hanging node and its child")
        until(lambda: all(text(tmp_path / f"{n.name}.txt") for n in nodes), "the beginning of all")
        stopping.set()

    threading.Thread(target=stop).start()
    ended = run_local(Program("toy", nodes), tmp_path, FAST, stopping=stopping)
    assert (ended.state, ended.exit_code) == ("stopped", 0)
    flushed = {name: float(text(tmp_path / f"{name}.txt").split()[-1]) for name in ("server", "learner")}
    actors = [float(text(tmp_path / f"actor_{i}.txt").split()[-1]) for i in range(2)]
    assert max(actors) + 0.2 < flushed["learner"] < flushed["server"]
    assert abs(actors[0] - actors[1]) < 0.9  # Neighbours of one role flush at the same time.
    # It ignored nothing: SIGTERM only sets `stopping`, at which it does not look.
    assert ended.nodes["stuck"].state == "failed"
    assert ended.seconds < 60.0
    for pid in map(int, text(tmp_path / "stuck.txt").split()):
        until(lambda pid=pid: not is_alive(pid), "the end of the hanging node and its child")


def test_what_a_node_started_ends_with_it(tmp_path: pathlib.Path) -> None:
    ended = run_local(Program("toy", [node("parent", "leaves_a_child")]), tmp_path, FAST)
    assert ended.state == "finished"
    pid = int(text(tmp_path / "parent.txt"))
    until(lambda: not is_alive(pid), "the end of the child", 20.0)


@pytest.fixture
def launch(tmp_path: pathlib.Path, repository: pathlib.Path):
    """Starts a program in a supervisor of its own; its nodes' pids once they have reported."""
    started = []

    def launch(*nodes: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), str(HERE), *nodes],
            cwd=repository,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def pids(directory: pathlib.Path, *names: str) -> list[int]:
    def found():
        paths = [directory / "nodes" / f"{name}.json" for name in names]
        pids = [json.loads(path.read_text())["pid"] for path in paths if path.exists()]
        return pids if len(pids) == len(names) and all(pids) else None

    return until(found, f"pids of {names}")


def test_no_orphan_is_left_when_the_supervisor_is_killed(tmp_path: pathlib.Path, launch) -> None:
    supervisor = launch("idle=waits", "stuck=hangs")
    nodes = pids(tmp_path, "idle", "stuck")
    children = until(lambda: [int(pid) for pid in text(tmp_path / "stuck.txt").split()], "the node's child")
    assert all(is_alive(pid) for pid in [*nodes, *children])
    os.kill(supervisor.pid, signal.SIGKILL)
    for pid in {*nodes, *children}:
        until(lambda pid=pid: not is_alive(pid), "the end of every process", 20.0)
    # It was not told to stop, so that nothing competes with the next launch.
    assert "flushed" not in text(tmp_path / "idle.txt")


@pytest.mark.parametrize(
    "number, state, code", [(signal.SIGTERM, "stopped", 0), (signal.SIGINT, "interrupted", 130)]
)
def test_signals_stop_cleanly(tmp_path: pathlib.Path, launch, number: int, state: str, code: int) -> None:
    supervisor = launch("idle=waits")
    (pid,) = pids(tmp_path, "idle")
    until(lambda: text(tmp_path / "idle.txt"), "the node's beginning")
    supervisor.send_signal(number)
    printed, _ = supervisor.communicate(timeout=30.0)
    assert printed.splitlines()[-1] == state, printed
    assert supervisor.returncode == code
    assert text(tmp_path / "idle.txt").startswith("began\nflushed")
    assert not is_alive(pid)


def test_a_directory_has_one_supervisor(tmp_path: pathlib.Path, launch) -> None:
    launch("idle=waits")
    pids(tmp_path, "idle")
    with pytest.raises(ValueError, match="in use by process"):
        run_local(Program("toy", [node("told", "returns")]), tmp_path, FAST)


def test_a_missing_module_is_told_before_anything_runs(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ProgramError, match="there is no module no_such_nodes"):
        run_local(Program("toy", [Node("a", "a", "no_such_nodes:f")]), tmp_path / "run", FAST)
    assert not (tmp_path / "run").exists()


def test_backoff_doubles_up_to_its_cap_with_jitter() -> None:
    supervision = Supervision(first_pause_s=0.5, longest_pause_s=3.0)
    rng = random.Random(0)
    for failures, longest in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (2000, 3.0)):
        pauses = [backoff_s(failures, supervision, rng) for _ in range(300)]
        assert longest / 2 <= min(pauses) < 0.55 * longest
        assert 0.95 * longest < max(pauses) <= longest


def test_gpus_go_round() -> None:
    nodes = [
        node("a", "waits", gpus=2),
        node("b", "waits"),
        node("c", "waits", gpus=0.5),
        node("d", "waits", gpus=1),
    ]
    program = Program("toy", nodes)
    assert assign_gpus(program, ["0", "1", "2"]) == {"a": "0,1", "b": "", "c": "2", "d": "0"}
    assert assign_gpus(program, ["GPU-x"]) == {"a": "GPU-x", "b": "", "c": "GPU-x", "d": "GPU-x"}
    assert assign_gpus(program, []) == {}


def test_status_lines_and_table() -> None:
    import io

    from limbeck.launchers.status import table
    from rich.console import Console

    states = {
        "learner": NodeState("learner", "learner", "running", 12, since=time.time() - 65.5),
        "actor_0": NodeState("actor_0", "actor", "waiting", restarts=2),
        "replay": NodeState("replay", "replay", "done"),
        "actor_1": NodeState("actor_1", "actor", "done"),
    }
    states["learner"].facts = {"steps": 12345, "steps_per_second": 3.14159, "checkpoint": "c_3"}
    assert lines(states) == [
        "learner  running, up 0:01:05, steps 12,345, steps per second 3.142, checkpoint c_3",
        "actor_0  waiting, 2 restarts",
        "actor_1  done",
        "replay   done",
    ]
    printed = io.StringIO()
    Console(file=printed, width=120).print(table("job", states))
    assert "steps 12,345, steps per second 3.142" in printed.getvalue()
    now = [0.0]
    file = io.StringIO()
    with StatusTable("job", 30.0, file, clock=lambda: now[0]) as status:
        for now[0] in (1.0, 29.0, 31.0, 59.0, 62.0):
            status.update({"replay": states["replay"]})
        status.note("something happened")
        status.update({"replay": states["replay"]}, last=True)
    assert file.getvalue().splitlines() == [
        "0:00:31 replay  done",
        "0:01:02 replay  done",
        "0:01:02 something happened",
        "0:01:02 replay  done",
    ]
