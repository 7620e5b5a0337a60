"""The fault kit: seeded kills, and how long nodes take to be back."""

import pathlib
import time

import pytest
from limbeck.launchers import (
    FaultPlan,
    Node,
    Program,
    ProgramError,
    Recovery,
    Supervision,
    run_local,
    summarise,
)
from limbeck.launchers.faults import Saboteur
from limbeck.launchers.program import NodeState


def test_a_plan_is_its_seed() -> None:
    plan = FaultPlan(seed=3, kills=200, between_s=(1.0, 2.0), nodes=("a", "c"))
    kills = plan.schedule(["a", "b", "c"])
    assert kills == plan.schedule(["a", "b", "c"])
    assert kills != FaultPlan(seed=4, kills=200, between_s=(1.0, 2.0), nodes=("a", "c")).schedule(
        ["a", "b", "c"]
    )
    assert {node for _, node in kills} == {"a", "c"}
    gaps = [later - earlier for (earlier, _), (later, _) in zip([(0.0, "")] + kills, kills)]
    assert 1.0 <= min(gaps) < 1.1 and 1.9 < max(gaps) <= 2.0
    assert {node for _, node in FaultPlan(kills=100).schedule(["a", "b", "c"])} == {"a", "b", "c"}


def test_a_bad_plan_is_refused() -> None:
    with pytest.raises(ProgramError, match="faults are planned for z, which is no node; known: a, b"):
        FaultPlan(nodes=("z",)).schedule(["a", "b"])
    with pytest.raises(ProgramError, match="between_s"):
        FaultPlan(between_s=(3.0, 1.0))
    with pytest.raises(ProgramError, match="kills are at least 0"):
        FaultPlan(kills=-1)


def test_the_summary() -> None:
    recoveries = [
        Recovery("a", 1.0, 0.5),
        Recovery("b", 2.0, 4.0),
        Recovery("a", 3.0, 1.5),
        Recovery("a", 9.0, None),
    ]
    assert summarise(recoveries) == {"kills": 4, "recovered": 3, "median_s": 1.5, "worst_s": 4.0}
    assert summarise([]) == {"kills": 0, "recovered": 0, "median_s": None, "worst_s": None}


class Pretended:
    """A program whose node is back, and has reported, a known time after each kill."""

    def __init__(self, back_s: float):
        self._back_s = back_s
        self.node = NodeState("a", "a", "running", 1, reported=time.monotonic())
        self.over = NodeState("b", "b", "done")
        self.kills: list[str] = []
        self._killed: float | None = None

    def states(self) -> dict[str, NodeState]:
        if self._killed is not None and time.monotonic() - self._killed > self._back_s:
            self.node = NodeState(
                "a", "a", "running", 1, self.node.incarnation + 1, reported=self._killed + self._back_s
            )
            self._killed = None
        return {"a": self.node, "b": self.over}

    def kill(self, node: str) -> None:
        assert self._killed is None, "killed a node that is not back yet"
        self.kills.append(node)
        self._killed = time.monotonic()


def test_recovery_is_measured_from_kill_to_report() -> None:
    target = Pretended(back_s=0.3)
    saboteur = Saboteur(FaultPlan(kills=5, between_s=(0.05, 0.05)), target)
    saboteur.start()
    deadline = time.monotonic() + 30.0
    planned = [node for _, node in FaultPlan(kills=5).schedule(["a", "b"])].count("a")
    while len(target.kills) < planned and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    recoveries = saboteur.finish()
    # A node that has returned is spared.
    assert [recovery.node for recovery in recoveries] == ["a"] * planned == target.kills
    for recovery in recoveries:
        assert recovery.recovery_s == pytest.approx(0.3, abs=0.02)


def test_faults_begin_when_all_nodes_are_at_work() -> None:
    """A node that has not reported holds them up; one that has returned does not."""
    target = Pretended(back_s=0.05)
    target.node.reported = None
    saboteur = Saboteur(FaultPlan(kills=1, between_s=(0.3, 0.3), nodes=("a",), at_work=True), target)
    saboteur.start()
    time.sleep(0.5)
    assert target.kills == []
    target.node.reported = time.monotonic()
    deadline = time.monotonic() + 30.0
    while not target.kills and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    (recovery,) = saboteur.finish()
    assert recovery.killed_s >= 0.3 and recovery.recovery_s == pytest.approx(0.05, abs=0.02)


def test_a_program_survives_its_faults(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
    nodes = [
        Node("counter", "server", "toy_nodes:counts"),
        Node("worker", "worker", "toy_nodes:works", {"steps": 250}),
    ]
    plan = FaultPlan(seed=1, kills=3, between_s=(0.1, 0.5))
    program = Program("toy", nodes, until=["worker"])
    outcome = run_local(program, tmp_path, Supervision(first_pause_s=0.05, status_every_s=60.0), faults=plan)
    assert outcome.state == "finished"
    assert (tmp_path / "worker.steps").read_text() == "250"
    assert [recovery.node for recovery in outcome.recoveries] == [
        node for _, node in plan.schedule(["counter", "worker"])
    ]
    assert sum(state.restarts for state in outcome.nodes.values()) == 3
    assert all(
        recovery.recovery_s is not None and 0.02 < recovery.recovery_s < 30.0
        for recovery in outcome.recoveries
    )
