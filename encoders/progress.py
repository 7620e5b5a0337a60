"""Progress of a long stage: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

import collections
import sys
import time
from collections.abc import Callable
from typing import Any, Self, TextIO


_WINDOW_S = 30.0
_LINE_S = 10.0


class Progress:
    """Shows how far a stage is; a context manager, and a callback of the training loop.

        with Progress("Evaluating", total=150, unit="episodes") as progress:
            for episode in range(150):
                ...
                progress.update(episode + 1, reward=3.2)

    On a terminal a bar is redrawn; elsewhere (a file, a pipe, a continuous-integration log) a line is written
    every ten seconds and one at the end. The rate is that of the last half minute.

    Args:
      label: what is going on.
      total: amount of work.
      unit: what the amounts count, in the plural.
      file: where to write; standard error if None.
      clock: seconds, never decreasing.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str = "steps",
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._label, self._total, self._unit = label, total, unit
        self._file = sys.stderr if file is None else file
        self._clock = clock
        self._bar: Any = None
        self._task: Any = None
        self.start(0, total)

    def start(self, done: int, total: int) -> None:
        """Begins, or goes on, with `done` of `total` finished; earlier work does not count in the rate."""
        now = self._clock()
        self._total, self._done, self._first = total, done, done
        self._begun = self._line_at = now
        self._line_done: int | None = None
        self._recent = collections.deque([(now, done)])
        self._shown = ""
        self._draw()

    def update(self, done: int, **shown: float) -> None:
        """Says that `done` of the total are finished; `shown` are numbers to show beside it."""
        now = self._clock()
        self._done = done
        self._recent.append((now, done))
        while len(self._recent) > 2 and self._recent[1][0] < now - _WINDOW_S:
            self._recent.popleft()
        self._shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())
        if self._bar is not None:
            self._draw()
        elif now - self._line_at >= _LINE_S:
            self._write_line(now)

    def __call__(self, step: int, state: Any, metrics: dict[str, float]) -> None:
        """As a callback of `train`: shows the loss, and tokens per second where they are known."""
        self.update(
            step, **{name: metrics[name] for name in ("loss", "tokens_per_second") if name in metrics}
        )

    @property
    def rate(self) -> float:
        """Amount per second over the last half minute; 0 before it is known."""
        (begun, before), (now, done) = self._recent[0], self._recent[-1]
        return (done - before) / (now - begun) if now > begun else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds left at the present rate; None before it is known."""
        return (self._total - self._done) / self.rate if self.rate > 0 else None

    def __enter__(self) -> Self:
        if self._file.isatty():
            self._open_bar()
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._draw()
            self._bar.stop()
            self._bar = None
        elif self._line_done != self._done:
            self._write_line(self._clock())

    def _facts(self) -> str:
        facts = []
        if self.rate > 0:
            facts.append(
                f"{self.rate:.3g} {self._unit}/s" if self.rate < 1000 else f"{self.rate:,.0f} {self._unit}/s"
            )
        if self.remaining_s is not None and self._done < self._total:
            facts.append(f"{duration(self.remaining_s)} left")
        elif self._done >= self._total:
            facts.append(f"took {duration(self._clock() - self._begun)}")
        if self._shown:
            facts.append(self._shown)
        return ", ".join(facts)

    def _write_line(self, now: float) -> None:
        share = 100 * self._done // max(self._total, 1)
        facts = self._facts()
        print(
            f"{self._label}: {self._done}/{self._total} {self._unit} ({share} %)"
            f"{', ' if facts else ''}{facts}",
            file=self._file,
            flush=True,
        )
        self._line_at, self._line_done = now, self._done

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
            TextColumn("[dim]{task.fields[facts]}"),
            console=Console(file=self._file),
        )
        self._task = self._bar.add_task(self._label, total=self._total, unit=self._unit, facts="")
        self._bar.start()
        self._draw()

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, total=self._total, facts=self._facts())


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "2 min 05 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
