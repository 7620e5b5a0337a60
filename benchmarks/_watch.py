"""What a job publishes while it runs, and how much replay had been given when its server died."""

import contextlib
import json
import pathlib
import re
import threading
import time
from typing import Any

from limbeck.agents import ReplayError
from limbeck.launchers.jobs import TABLE, published


_LOOK_S = 0.05


class Watch(threading.Thread):
    """Looks at a run directory until it is told to stop. A context manager.

    Attributes:
      published: what was published with every checkpoint that was seen, in order; see `jobs.published`.
      newest: (node, incarnation) -> what was the newest when that start of the learner or of replay was first seen.
      inserts: incarnation of replay -> items that it had been given when it was last asked.
    """

    def __init__(self, run: pathlib.Path):
        super().__init__(name="watch", daemon=True)
        self._run, self._over = run, threading.Event()
        self._client: Any = None
        self.published: list[dict[str, Any]] = []
        self.newest: dict[tuple[str, int], dict[str, Any] | None] = {}
        self.inserts: dict[int, int] = {}

    def run(self) -> None:
        asked = 0.0
        while not self._over.wait(_LOOK_S):
            self._note_checkpoint()
            nodes = {name: node_state(self._run, name) for name in ("learner", "replay")}
            for name, state in nodes.items():
                if state is not None and (name, state["incarnation"]) not in self.newest:
                    self._note_start(name, state["incarnation"])
            if nodes["replay"] is not None and time.monotonic() - asked > 0.2:
                asked = time.monotonic()
                self._ask(nodes["replay"])

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        if self._client is not None:
            self._client.close()
        self._note_checkpoint()

    def _note_checkpoint(self) -> None:
        # One that is being removed is looked for in vain.
        with contextlib.suppress(OSError, ValueError):
            about = published(self._run)
            if about is not None and (not self.published or about != self.published[-1]):
                self.published.append(about)

    def _note_start(self, node: str, incarnation: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.newest[node, incarnation] = published(self._run)

    def _ask(self, state: dict[str, Any]) -> None:
        from limbeck.agents.replay import ReplayClient  # Only where Reverb is.

        address = state["address"].get("replay")
        if address is None:
            return
        if self._client is None or self._client.address != address:
            if self._client is not None:
                self._client.close()
            self._client = ReplayClient(address)
        with contextlib.suppress(ReplayError):
            self.inserts[state["incarnation"]] = self._client.status(timeout_s=1.0)[TABLE]["inserts"]


def node_state(run: pathlib.Path, node: str) -> dict[str, Any] | None:
    """What the supervisor says of a node: `state`, `pid`, `incarnation`, `address`, …; None before it does."""
    try:
        return json.loads((run / "nodes" / f"{node}.json").read_text())
    except OSError:
        return None


def starts(run: pathlib.Path, node: str, pattern: str) -> dict[int, re.Match[str]]:
    """incarnation -> the first line of that start's log that fits."""
    path, found = run / "logs" / f"{node}.log", {}
    text = path.read_text() if path.exists() else ""
    for start in re.split(rf"^--- {node}, incarnation ", text, flags=re.M)[1:]:
        if match := re.search(pattern, start):
            found[int(start.partition(",")[0])] = match
    return found


def learner_fell_back(run: pathlib.Path, watch: Watch) -> bool:
    """Whether a start of the learner went on from less than what was published."""
    updates = [about["updates"] for about in watch.published]
    if updates != sorted(updates):
        return True
    for incarnation, match in starts(run, "learner", r"the learner goes on from update (\d+)").items():
        newest = watch.newest.get(("learner", incarnation))
        if newest is not None and int(match[1]) < newest["updates"]:
            return True
    return False


def replay_losses(run: pathlib.Path, watch: Watch) -> list[tuple[int, int]]:
    """(items lost, items inserted since the checkpoint) for every start of replay after the first.

    Both are counted up to the last look at the server before it died.
    """
    losses = []
    restored = starts(run, "replay", r"replay goes on from (\S+): \d+ items after (\d+) inserts")
    since = {str(run / about["replay"]): about["inserts"] for about in watch.published}
    for incarnation, match in restored.items():
        before = watch.inserts.get(incarnation - 1)
        newest = watch.newest.get(("replay", incarnation))
        if before is None or newest is None:
            continue
        bound = max(newest["inserts"], since.get(match[1], 0))
        losses.append((max(0, before - int(match[2])), max(0, before - bound)))
    return losses
