"""The fault kit: kills nodes of a running program at seeded times and measures how long they take to be back."""

import dataclasses
import random
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from .program import NodeState, ProgramError, Recovery


_LOOK_S = 0.02
_ENDED = ("done", "stopped", "failed")


@dataclasses.dataclass(frozen=True)
class FaultPlan:
    """Which nodes are killed, and when.

    Attributes:
      seed: of the choice of nodes and times.
      kills: how many.
      between_s: shortest and longest time from one kill to the next, and to the first, in seconds.
      nodes: names to choose among; empty means all.
      at_work: count from when every node has reported or ended, not from the launch, which takes as long as the
        machine is busy. For programs whose nodes all report.
    """

    seed: int = 0
    kills: int = 3
    between_s: tuple[float, float] = (5.0, 15.0)
    nodes: Sequence[str] = ()
    at_work: bool = False

    def __post_init__(self):
        object.__setattr__(self, "nodes", tuple(self.nodes))
        if self.kills < 0:
            raise ProgramError(f"kills are at least 0, got {self.kills}")
        if len(self.between_s) != 2 or not 0 <= self.between_s[0] <= self.between_s[1]:
            raise ProgramError(f"between_s is the shortest and the longest time, got {self.between_s}")

    def schedule(self, names: Sequence[str]) -> list[tuple[float, str]]:
        """(seconds since the faults began, node) of every kill, in order.

        Args:
          names: the program's nodes.

        Raises:
          ProgramError: the plan names another one.
        """
        unknown = [name for name in self.nodes if name not in names]
        if unknown:
            raise ProgramError(
                f"faults are planned for {', '.join(unknown)}, which is no node; known: {', '.join(names)}"
            )
        choice = random.Random(self.seed)
        now, kills = 0.0, []
        for _ in range(self.kills):
            now += choice.uniform(*self.between_s)
            kills.append((now, choice.choice(self.nodes or tuple(names))))
        return kills


class Target(Protocol):
    """A running program that can be hurt."""

    def states(self) -> dict[str, NodeState]:
        """The present state of each node, copied."""
        ...

    def kill(self, node: str) -> None:
        """SIGKILLs a node's process."""
        ...


class Saboteur(threading.Thread):
    """Carries a plan out on a running program, from `start` to `finish`.

    A node is killed at its time, or later: once it runs and has reported, so that every kill hits a node at work and
    every recovery is measured from a healthy state. A node that has returned is spared.

    Args:
      plan: what to do.
      target: the running program.
    """

    def __init__(self, plan: FaultPlan, target: Target):
        super().__init__(name="saboteur", daemon=True)
        self._target, self._at_work = target, plan.at_work
        self._schedule = plan.schedule(list(target.states()))
        self._over = threading.Event()
        self._kills: list[tuple[str, float, int]] = []  # Node, time, incarnation.
        self._back: dict[
            tuple[str, int], float
        ] = {}  # (node, killed incarnation) -> when the next one reported.
        self._begun = time.monotonic()

    def run(self) -> None:
        self._begun, waits = time.monotonic(), self._at_work
        waiting = list(self._schedule)
        while not self._over.wait(_LOOK_S):
            states = self._target.states()
            self._look(states)
            if waits:
                self._begun = time.monotonic()
                waits = not all(_is_at_work(state) for state in states.values())
            elif waiting and time.monotonic() - self._begun >= waiting[0][0]:
                state = states[waiting[0][1]]
                if state.state in _ENDED:
                    waiting.pop(0)
                elif state.state == "running" and state.reported is not None and not self._is_dead(state):
                    waiting.pop(0)
                    self._kills.append((state.name, time.monotonic(), state.incarnation))
                    self._target.kill(state.name)

    def finish(self) -> list[Recovery]:
        """Ends it; one `Recovery` for each kill, in order."""
        self._over.set()
        if self.is_alive():
            self.join()
        self._look(self._target.states())
        return [
            Recovery(
                node,
                killed - self._begun,
                self._back[node, incarnation] - killed if (node, incarnation) in self._back else None,
            )
            for node, killed, incarnation in self._kills
        ]

    def _look(self, states: dict[str, NodeState]) -> None:
        for node, _, incarnation in self._kills:
            state = states[node]
            if state.incarnation > incarnation and state.reported is not None:
                self._back.setdefault((node, incarnation), state.reported)

    def _is_dead(self, state: NodeState) -> bool:
        """Whether this incarnation was killed already, and its end has not been seen yet."""
        return any(kill[0] == state.name and kill[2] == state.incarnation for kill in self._kills)


def _is_at_work(state: NodeState) -> bool:
    """Whether a node has reported since its last start, or has ended."""
    return state.reported is not None or state.state in _ENDED


def summarise(recoveries: Sequence[Recovery]) -> dict[str, float | int | None]:
    """`kills`, how many `recovered`, and the `median_s` and `worst_s` of those that did (None without any)."""
    times = [recovery.recovery_s for recovery in recoveries if recovery.recovery_s is not None]
    return {
        "kills": len(recoveries),
        "recovered": len(times),
        "median_s": statistics.median(times) if times else None,
        "worst_s": max(times) if times else None,
    }
