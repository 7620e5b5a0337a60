"""The Ray back end: a program's nodes as named actors of a cluster, or of a Ray of this machine's own."""

import math
import os
import pathlib
import secrets
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

from ._context import describe
from ._ray_node import CONTROL, SHARED, NodeHost
from ._supervisor import End, Supervision, log_path, log_tail, supervise
from .faults import FaultPlan
from .program import Node, Outcome, Program, ProgramError


_ASK_EVERY_S = 0.25  # Between two questions to a node how it is.
_PLACE_S = 30.0  # A node that has no place for so long is mentioned, again and again.
_LAST_WORDS_S = 2.0


def run_on_ray(
    program: Program,
    run_directory: str | os.PathLike[str],
    address: str | None = None,
    supervision: Supervision | None = None,
    faults: FaultPlan | None = None,
    stopping: threading.Event | None = None,
) -> Outcome:
    """Runs a program on Ray, each node a named actor in the namespace of the program's name.

    Nodes `beside` each other are placed on one machine, the others are spread. The process that calls this is the
    program's supervisor: it restarts nodes and stops them as `run_local` does, and must live as long as the program.

    Args:
      program: what to run.
      run_directory: seen under the same path by every machine, where the cluster has more than one. Machines that
        do not see it are named; their nodes' logs are in Ray's, and what their nodes keep is lost with the machine.
      address: of a running cluster, such as "auto" or "10.0.0.1:6379". By default the one of the environment variable
        RAY_ADDRESS, which jobs of Ray have; else a Ray is started on this machine, and ended with the program.
      supervision: how nodes are restarted and stopped; the defaults if None.
      faults: kills nodes on purpose while the program runs.
      stopping: stops the program when it is set.

    Returns:
      How the program ended. A node's failure is told there and not raised.

    Raises:
      ProgramError: Ray is not installed, the cluster cannot be reached, this machine lacks a GPU that a node needs,
        or the same program runs there already.
      ValueError: another process runs a program in the directory.
    """
    directory = pathlib.Path(run_directory).resolve()
    back_end = RayBackEnd(program, directory, address)
    return supervise(program, directory, back_end, supervision or Supervision(), faults, stopping)


class RayBackEnd:
    """See `BackEnd`.

    Ray restarts an actor's process by itself as soon as it has died; its node begins again when the supervisor, which
    counts and delays restarts, asks the new process to run it.

    Args:
      program: whose nodes are run.
      run_directory: absolute.
      address: of the cluster; see `run_on_ray`.
    """

    def __init__(self, program: Program, run_directory: pathlib.Path, address: str | None):
        try:
            import ray
        except ImportError as error:
            raise ProgramError("Ray is not installed; pip install 'limbeck[ray]' brings it") from error
        self._ray, self._program, self._directory = ray, program, run_directory
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._token, self._launch = secrets.token_hex(32), secrets.token_hex(16)
        self._ours = False  # Whether the connection to Ray is this object's to end.
        self._groups: list[Any] = []
        self._actors: dict[str, Any] = {}
        self._runs: dict[str, Any] = {}  # Node -> what its `run` will return, None before it is asked to.
        self._lost: dict[str, str] = {}  # Node -> why Ray has given its actor up.
        self._asked: dict[str, float] = {}  # Node -> when it was asked how it is.
        self._answers: dict[Any, str] = {}  # The answers to be -> node.
        self._begun: dict[
            str, tuple[float, int]
        ] = {}  # Node -> when it was started or last missed; incarnation.
        self._seen: dict[str, tuple[Any, int]] = {}  # Node -> its place and its number of reports, as told.
        self._unread: list[tuple[str, dict[str, Any]]] = []
        self._off: set[str] = set()  # Machines that do not see the run directory.

    def __enter__(self) -> "RayBackEnd":
        ray = self._ray
        if not ray.is_initialized():
            self._connect()
        try:
            if self._address is None and self._ours:
                self._check_gpus()
            (self._directory / "nodes" / SHARED).write_text(self._launch)
            self._create_actors()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        ray = self._ray
        for actor in self._actors.values():
            ray.kill(actor)
        for group in self._groups:
            ray.util.remove_placement_group(group)
        if self._ours:
            ray.shutdown()

    def start(self, node: Node, incarnation: int) -> None:
        # It is asked to run as soon as a process that has not run it before answers.
        self._begun[node.name] = (time.monotonic(), incarnation)
        self._runs[node.name] = None
        self._seen.pop(node.name, None)

    def messages(self, wait_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        now = time.monotonic()
        for name in self._runs.keys() & self._actors.keys():
            if now - self._asked.get(name, 0.0) >= _ASK_EVERY_S and name not in self._answers.values():
                self._asked[name] = now
                self._answers[self._control(name, "status")] = name
        awaited = [*self._answers, *(run for run in self._runs.values() if run is not None)]
        if self._unread or not awaited:
            time.sleep(0.0 if self._unread else wait_s)
        else:
            self._ray.wait(awaited, timeout=wait_s)
        for answer in [answer for answer in self._answers if self._is_there(answer)]:
            self._take(self._answers.pop(answer), answer)
        self._mention_missing()
        unread, self._unread = self._unread, []
        yield from unread

    def ended(self, node: str) -> End | None:
        if node in self._lost:
            del self._runs[node]
            return End(False, self._lost.pop(node))
        run = self._runs[node]
        if run is None or not self._is_there(run):
            return None
        try:
            self._ray.get(run)
        except self._ray.exceptions.RayError as error:
            del self._runs[node]
            return End(False, _cause(error))
        actor = self._actors.pop(node, None)
        if actor is not None:
            self._take(node, actor.status.options(concurrency_group=CONTROL).remote())
            self._ray.kill(actor)  # What it holds is free for others.
            return None  # Its last words come first.
        del self._runs[node]
        return End(True, "returned")

    def ask_to_stop(self, node: str) -> None:
        if node in self._actors:
            self._control(node, "stop")

    def kill(self, node: str) -> None:
        if node in self._actors:
            self._control(node, "die")

    def log(self, node: str) -> str:
        path = log_path(self._directory, node)
        if path.is_file():
            return log_tail(path)
        return "its log is among Ray's: `ray logs actor` shows it on the cluster"

    def _control(self, node: str, method: str) -> Any:
        """Calls a method that is answered while the node runs; returns its answer to be."""
        return getattr(self._actors[node], method).options(concurrency_group=CONTROL).remote()

    def _is_there(self, answer: Any) -> bool:
        return bool(self._ray.wait([answer], timeout=0)[0])

    def _take(self, node: str, answer: Any) -> None:
        """Takes in what a node has answered to how it is, and asks a fresh process to run it."""
        if node not in self._runs:
            return  # It is over, and is not to run again yet.
        errors = self._ray.exceptions
        try:
            status = self._ray.get(answer, timeout=_LAST_WORDS_S)
        except errors.ActorDiedError as error:
            if self._runs[node] is None:
                self._lost[node] = _cause(error)  # Ray does not restart it any more.
            return
        except errors.RayError:
            return  # Between two lives.
        incarnation = self._begun[node][1]
        if self._runs[node] is None:
            if status["incarnation"] is None:
                self._runs[node] = self._actors[node].run.remote(incarnation)
            else:
                self._control(node, "die")  # Ray lost sight of it for a moment, and it ran on.
        elif status["incarnation"] == incarnation:
            self._tell(node, status)

    def _tell(self, node: str, status: dict[str, Any]) -> None:
        """Passes on what is new in a node's status."""
        where, reports = self._seen.get(node, (None, 0))
        self._seen[node] = ((status["pid"], status["address"]), status["reports"])
        if where != self._seen[node][0]:
            self._unread.append((node, {"pid": status["pid"], "address": status["address"]}))
        if reports != status["reports"]:
            self._unread.append((node, {"facts": status["facts"]}))
        if not status["shared"] and status["host"] not in self._off:
            self._off.add(status["host"])
            note = (
                f"its machine {status['host']} does not see {self._directory}: logs are in Ray's own there, and what "
                "nodes keep there is lost with the machine"
            )
            self._unread.append((node, {"note": note}))

    def _mention_missing(self) -> None:
        """Says which nodes still have no place on the cluster."""
        now = time.monotonic()
        for name in self._runs:
            begun, incarnation = self._begun[name]
            if name not in self._seen and now - begun > _PLACE_S:
                self._begun[name] = (now, incarnation)
                needs = ", ".join(
                    f"{amount:g} {kind}" for kind, amount in _resources(self._program.node(name)).items()
                )
                free = self._ray.available_resources()
                has = ", ".join(f"{free.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU", "memory"))
                self._unread.append(
                    (name, {"note": f"no place or no answer yet; needs {needs}; free are {has}"})
                )

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
        self._ours = True
        if self._address is None:
            # Nodes share the cores of one machine, as they do on the local back end.
            cores = max(os.cpu_count() or 1, math.ceil(sum(node.cpus for node in self._program.nodes)))
            with warnings.catch_warnings():
                # JAX warns where it is imported already; the forked processes become Ray's own at once.
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                self._ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
            return
        try:
            self._ray.init(address=self._address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ProgramError(f"no Ray cluster answers at {self._address}: {error}") from error

    def _check_gpus(self) -> None:
        gpus = self._ray.cluster_resources().get("GPU", 0)
        short = [node.name for node in self._program.nodes if node.gpus > gpus]
        if short:
            raise ProgramError(
                f"node {short[0]} needs {self._program.node(short[0]).gpus:g} GPUs and this machine has {gpus:g}; "
                "give it 0, or the address of a cluster"
            )

    def _create_actors(self) -> None:
        ray = self._ray
        host = ray.remote(concurrency_groups={CONTROL: 4})(NodeHost)
        for names in self._program.machines():
            nodes = [self._program.node(name) for name in names]
            strategies: list[Any] = ["SPREAD"]
            if len(nodes) > 1:
                bundles = [self._reserved(node) or {"CPU": 0.01} for node in nodes]
                group = ray.util.placement_group(bundles, strategy="STRICT_PACK")
                self._groups.append(group)
                strategies = [
                    ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, index)
                    for index in range(len(nodes))
                ]
            for node, strategy in zip(nodes, strategies):
                reserved = self._reserved(node)
                options = host.options(
                    name=node.name,
                    namespace=self._program.name,
                    max_restarts=node.restarts,
                    num_cpus=reserved.get("CPU", 0),
                    num_gpus=reserved.get("GPU", 0),
                    memory=reserved.get("memory"),
                    scheduling_strategy=strategy,
                )
                about = describe(self._program, node, self._directory, 0) | {"search_path": sys.path}
                try:
                    self._actors[node.name] = options.remote(
                        self._program.name, about, self._token, self._launch
                    )
                except ValueError as error:
                    raise ProgramError(
                        f"program {self._program.name}: node {node.name} is on this cluster already; stop the other "
                        "program of that name, or give this one another name"
                    ) from error

    def _reserved(self, node: Node) -> dict[str, float]:
        """What is reserved for a node; host memory only on a cluster."""
        reserved = _resources(node)
        if self._address is None and self._ours:
            reserved.pop("memory", None)
        return reserved


def _resources(node: Node) -> dict[str, float]:
    """What a node needs, by Ray's names; memory in bytes."""
    needs = {"CPU": node.cpus, "GPU": node.gpus, "memory": int(node.memory_gb * 2**30)}
    return {kind: amount for kind, amount in needs.items() if amount}


def _cause(error: Exception) -> str:
    """Why a node's process ended: Ray's first line where it says more than that it did."""
    text = str(error).strip()
    if getattr(error, "actor_init_failed", False) or type(error).__name__ not in (
        "ActorDiedError",
        "ActorUnavailableError",
    ):
        return text.splitlines()[0] if text else type(error).__name__
    return "its process died" + (" with its machine" if getattr(error, "preempted", False) else "")
