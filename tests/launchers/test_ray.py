"""The Ray back end, on one cluster of two machines' worth of processes, started once."""

import os
import pathlib
import sys
import threading

import pytest
from limbeck.launchers import FaultPlan, Node, Outcome, Program, ProgramError, Supervision, run_on_ray


ray = pytest.importorskip("ray")

FAST = Supervision(grace_s=15.0, first_pause_s=0.05, longest_pause_s=0.2, status_every_s=60.0)
HERE = str(pathlib.Path(__file__).parent)


# Where another test has imported JAX: Ray starts its processes by a fork, and they become others at once.
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two node processes; the resource of each says which one it is."""
    from ray.cluster_utils import Cluster

    # Ray's sockets need short paths, and its processes the modules of this clone.
    before = os.environ.get("PYTHONPATH")
    root = str(pathlib.Path(HERE).parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, before]))
    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=6, num_gpus=0, include_dashboard=False)
    sys.path.insert(0, HERE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    sys.path.remove(HERE)
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def node(name: str, entry: str, settings: dict | None = None, **kwargs) -> Node:
    return Node(name, name, f"toy_nodes:{entry}", settings or {}, **{"memory_gb": 0.01, **kwargs})


@pytest.fixture(scope="module")
def outcome(cluster, tmp_path_factory) -> tuple[Outcome, pathlib.Path]:
    """A program with a server that is killed and a node that fails, run to its end once."""
    directory = tmp_path_factory.mktemp("program")
    nodes = [
        node("counter", "counts"),
        node("idle", "waits", beside="counter"),
        node("unlucky", "fails_at_first", {"times": 2}),
        node("caller", "calls"),
        node("told", "returns", {"a": [1]}),
    ]
    program = Program("toy", nodes, {"b": 2}, until=["unlucky", "caller", "told"])
    return run_on_ray(program, directory, supervision=FAST), directory


def text(path: pathlib.Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_program_finishes(outcome) -> None:
    ended, directory = outcome
    assert (ended.state, ended.failure) == ("finished", "")
    states = {name: state.state for name, state in ended.nodes.items()}
    assert states == {
        "counter": "stopped",
        "idle": "stopped",
        "unlucky": "done",
        "caller": "done",
        "told": "done",
    }
    assert text(directory / "told.txt") == "0 {'a': [1]} {'b': 2}\n"
    assert text(directory / "idle.txt").startswith("began\nflushed")


def test_a_killed_actor_restarts_and_is_found_again(outcome) -> None:
    ended, directory = outcome
    # Calls before the kill, the foreign address, the call that died, the count and the address after it.
    assert text(directory / "caller.txt") == "[1, 6] 10.0.0.1:0 True [1001] 10.0.0.1:1\n"
    assert (ended.nodes["counter"].restarts, ended.nodes["counter"].incarnation) == (1, 1)


def test_failures_are_counted_and_logged(outcome) -> None:
    ended, directory = outcome
    assert text(directory / "unlucky.txt") == "0\n1\n2\n"
    assert ended.nodes["unlucky"].restarts == 2
    assert ended.nodes["unlucky"].facts["start"] == 2
    log = text(directory / "logs" / "unlucky.log")
    assert "ValueError: failure number 0" in log
    assert [line.split(",")[1] for line in log.splitlines() if line.startswith("---")] == [
        " incarnation 0",
        " incarnation 1",
        " incarnation 2",
    ]


def test_faults_and_a_failure_beyond_the_bound(cluster, tmp_path: pathlib.Path) -> None:
    """A worker is killed once and works on; then one that may not be restarted ends the program."""
    nodes = [node("worker", "works", {"steps": 10**6}), node("unlucky", "fails_when_told", restarts=0)]
    stopping = threading.Event()
    plan = FaultPlan(kills=1, between_s=(0.0, 0.0), nodes=["worker"])

    def fail_later():
        path = tmp_path / "worker.steps"
        log = tmp_path / "logs" / "worker.log"
        stopping.wait(0.5)
        while not stopping.wait(0.1):
            # Its second incarnation has begun: the kill is behind it.
            if "incarnation 1" in text(log) and path.exists():
                stopping.wait(1.0)
                (tmp_path / "fail").touch()
                return

    thread = threading.Thread(target=fail_later)
    thread.start()
    try:
        ended = run_on_ray(Program("faulty", nodes), tmp_path, supervision=FAST, faults=plan)
    finally:
        stopping.set()
        thread.join()
    assert ended.state == "failed"
    assert "node unlucky failed" in ended.failure and ended.failure.endswith("ValueError: told to fail")
    assert ended.nodes["worker"].restarts == 1
    (recovery,) = ended.recoveries
    assert recovery.node == "worker"
    assert recovery.recovery_s is not None and recovery.recovery_s > 0.0


def test_nodes_are_placed_as_asked(cluster, tmp_path: pathlib.Path) -> None:
    """Three nodes of two cores beside each other fill one machine of six; the fourth is on the other one."""
    nodes = [
        node("a", "says_where", cpus=2),
        node("b", "says_where", cpus=2, beside="a"),
        node("c", "says_where", cpus=2, beside="a"),
        node("d", "says_where", cpus=4),
        node("last", "waits_for_all", {"nodes": ["a", "b", "c", "d"]}, cpus=0),
    ]
    ended = run_on_ray(Program("placed", nodes, until=["last"]), tmp_path, supervision=FAST)
    assert ended.state == "finished"
    places = {name: ended.nodes[name].facts["machine"] for name in "abcd"}
    assert places["a"] == places["b"] == places["c"] != places["d"]


def test_a_name_is_taken_once(cluster, tmp_path: pathlib.Path) -> None:
    taken = ray.remote(Taken).options(name="idle", namespace="taken", num_cpus=0).remote()
    ray.get(taken.ready.remote())
    with pytest.raises(ProgramError, match="program taken: node idle is on this cluster already"):
        run_on_ray(Program("taken", [node("idle", "waits")]), tmp_path, supervision=FAST)
    ray.kill(taken)


class Taken:
    """Holds a name."""

    def ready(self) -> bool:
        return True
