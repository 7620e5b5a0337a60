"""How a running program is doing: a live table on a terminal, plain lines elsewhere."""

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TextIO

from .program import NodeState


_COLOURS = {"running": "green", "waiting": "yellow", "failed": "red", "done": "blue", "stopped": "dim"}
_REDRAW_S = 0.5


class StatusTable:
    """Shows the nodes of a program and what they report; a context manager.

    On a terminal a table is redrawn twice a second, and notes stand above it; elsewhere (a file, a pipe, a cluster's
    log) there is a line for each node every so often, and one for each note.

    Args:
      title: the program's name.
      every_s: seconds between the lines where there is no terminal.
      file: where to write; standard output if None.
      clock: seconds, never decreasing.
    """

    def __init__(
        self,
        title: str,
        every_s: float = 30.0,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title, self._every_s, self._clock = title, every_s, clock
        self._file = sys.stdout if file is None else file
        self._live: Any = None
        self._begun = self._shown = clock()

    def __enter__(self) -> Self:
        if self._file.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._file), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, states: Mapping[str, NodeState], last: bool = False) -> None:
        """Shows the states if it is time to, or if they are the `last` ones."""
        now = self._clock()
        if not last and now - self._shown < (self._every_s if self._live is None else _REDRAW_S):
            return
        self._shown = now
        if self._live is not None:
            self._live.update(table(self._title, states), refresh=True)
            return
        for line in lines(states):
            self._print(f"{_clock_time(now - self._begun)} {line}")

    def note(self, text: str) -> None:
        """Says that something happened, once."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self._print(f"{_clock_time(self._clock() - self._begun)} {text}")

    def _print(self, line: str) -> None:
        # The program does not end because nobody reads of it any more (`| head`).
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._file, flush=True)


def table(title: str, states: Mapping[str, NodeState]) -> Any:
    """The states as a rich table, nodes of one role together."""
    from rich.table import Table
    from rich.text import Text

    result = Table(title=title, title_justify="left")
    for name in ("node", "role", "state"):
        result.add_column(name)
    for name in ("pid", "uptime", "restarts"):
        result.add_column(name, justify="right")
    result.add_column("reports", overflow="fold")
    role = None
    for state in _by_role(states):
        if role not in (None, state.role):
            result.add_section()
        role = state.role
        result.add_row(
            Text(state.name),
            Text(state.role),
            Text(state.state, style=_COLOURS[state.state]),
            str(state.pid or ""),
            _uptime(state),
            str(state.restarts),
            Text(_facts(state)),
        )
    return result


def lines(states: Mapping[str, NodeState]) -> list[str]:
    """The states as a line each, nodes of one role together."""
    width = max(map(len, states))
    result = []
    for state in _by_role(states):
        restarts = f"{state.restarts} restarts" if state.restarts else ""
        parts = [state.state, _uptime(state) and f"up {_uptime(state)}", restarts, _facts(state)]
        result.append(f"{state.name:<{width}}  {', '.join(filter(None, parts))}")
    return result


def _by_role(states: Mapping[str, NodeState]) -> list[NodeState]:
    roles = list(dict.fromkeys(state.role for state in states.values()))
    return sorted(states.values(), key=lambda state: roles.index(state.role))


def _uptime(state: NodeState) -> str:
    return _clock_time(time.time() - state.since) if state.state == "running" else ""


def _clock_time(seconds: float) -> str:
    return str(datetime.timedelta(seconds=max(0, int(seconds))))


def _facts(state: NodeState) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in state.facts.items())


def _number(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
