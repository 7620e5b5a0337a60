"""Progress: rates and remaining time by a clock of the test's own, plain lines, the bar on a terminal."""

import io

import pytest
from limbeck.encoders import Progress
from limbeck.encoders.progress import duration


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_every_ten_seconds_and_one_at_the_end():
    clock, file = Clock(), io.StringIO()
    with Progress("Distilling", 40, unit="updates", file=file, clock=clock) as progress:
        for step in range(1, 41):
            clock.now += 1.0
            progress(step, None, {"loss": 2.5 - step / 20, "other": 1.0})
    assert file.getvalue().splitlines() == [
        "Distilling: 10/40 updates (25 %), 1 updates/s, 30 s left, loss 2",
        "Distilling: 20/40 updates (50 %), 1 updates/s, 20 s left, loss 1.5",
        "Distilling: 30/40 updates (75 %), 1 updates/s, 10 s left, loss 1",
        "Distilling: 40/40 updates (100 %), 1 updates/s, took 40 s, loss 0.5",
    ]


def test_the_rate_forgets_what_is_older_than_half_a_minute():
    clock = Clock()
    progress = Progress("Stage", 1000, file=io.StringIO(), clock=clock)
    for step in range(1, 11):
        clock.now += 10.0
        progress.update(step)
    assert progress.rate == pytest.approx(0.1)
    for step in range(15, 50, 5):
        clock.now += 10.0
        progress.update(step)
    assert progress.rate == pytest.approx(0.5)
    assert progress.remaining_s == pytest.approx((1000 - 45) / 0.5)


def test_work_done_before_a_resume_is_not_in_the_rate():
    clock, file = Clock(), io.StringIO()
    with Progress("Stage", 10, file=file, clock=clock) as progress:
        assert progress.remaining_s is None
        progress.start(600, 1000)
        clock.now += 10
        progress.update(620)
        assert progress.remaining_s == pytest.approx(190)
    assert file.getvalue() == "Stage: 620/1000 steps (62 %), 2 steps/s, 3 min 10 s left\n"


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    clock, file = Clock(), Terminal()
    with Progress("Evaluating", 10, unit="episodes", file=file, clock=clock) as progress:
        clock.now += 2
        progress.update(5, reward=1.25)
        progress.update(10, reward=3)
    text = file.getvalue()
    assert "Evaluating" in text
    assert "10/10 episodes" in text
    assert "100%" in text
    assert "took 2 s" in text
    assert "reward 3" in text


def test_durations():
    assert [duration(s) for s in (7.6, 59.4, 125, 12000)] == ["8 s", "59 s", "2 min 05 s", "3 h 20 min"]
