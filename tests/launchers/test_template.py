"""The process from which nodes are forked: what its children share, what they do not, and how they end."""

import json
import os
import pathlib
import select
import signal
import sys
import time

import pytest
from limbeck.launchers import ProgramError
from limbeck.launchers._template import Template


NODES = """
import os, sys, time
import numpy as np

def tells(context):
    (context.run_directory / f"{context.name}.txt").write_text(
        f"{os.getppid()} {os.environ.get('OF_ONE', '')} {np.random.randint(1 << 30)}"
    )

def waits(context):
    context.stopping.wait(60.0)

def exits(context):
    sys.exit(3)
"""


@pytest.fixture
def template(tmp_path, monkeypatch):
    (tmp_path / "template_nodes.py").write_text(NODES)
    monkeypatch.syspath_prepend(tmp_path)
    with Template(["numpy", "no_such_module"]) as template:
        yield template


class Started:
    """A process, its lifeline and its log."""

    def __init__(
        self, template: Template, directory: pathlib.Path, name: str, entry: str, **environment: str
    ):
        ends_at, self.lifeline = os.pipe()
        self.pipe, childs_end = os.pipe()
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as log:
            self.number = template.start(ends_at, childs_end, log.fileno(), environment)
        os.close(ends_at)
        os.close(childs_end)
        about = {
            "name": name, "entry": f"template_nodes:{entry}", "settings": {}, "program_settings": {},
            "nodes": [name], "run_directory": str(directory), "incarnation": 0, "token": "secret",
        }  # fmt: skip
        os.write(self.lifeline, json.dumps(about).encode() + b"\n")


def ends(template: Template, *started: Started) -> list[int]:
    """The exit codes of processes, in their order."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + 30.0
    while len(codes) < len(started) and time.monotonic() < deadline:
        select.select([template], [], [], 1.0)
        codes |= {m["ended"]: m["code"] for m in template.receive() if "ended" in m}
    return [codes[each.number] for each in started]


def test_processes_share_imports_but_neither_environment_nor_random_numbers(template, tmp_path) -> None:
    a = Started(template, tmp_path, "a", "tells", OF_ONE="only a")
    b = Started(template, tmp_path, "b", "tells")
    assert ends(template, a, b) == [0, 0]
    parents, ours, numbers = zip(
        *((tmp_path / f"{name}.txt").read_text().replace("only a", "only_a").split(" ") for name in "ab")
    )
    assert parents[0] == parents[1] != str(os.getpid())
    assert ours == ("only_a", "")
    assert numbers[0] != numbers[1]


def test_exit_codes_and_signals(template, tmp_path) -> None:
    exits = Started(template, tmp_path, "exits", "exits")
    missing = Started(template, tmp_path, "missing", "no_such_function")
    killed = Started(template, tmp_path, "killed", "waits")
    template.signal(killed.number, signal.SIGKILL, group=True)
    assert ends(template, exits, missing, killed) == [3, 1, -signal.SIGKILL]
    assert "no_such_function" in missing.log.read_text()
    template.signal(killed.number, signal.SIGKILL, group=True)  # It is gone: nothing.


def test_a_node_ends_with_its_lifeline(template, tmp_path) -> None:
    waits = Started(template, tmp_path, "waits", "waits")
    os.close(waits.lifeline)
    assert ends(template, waits)[0] in (1, -signal.SIGKILL)  # Before or after it knew what it is.


def test_leaving_ends_every_process(tmp_path, monkeypatch) -> None:
    (tmp_path / "template_nodes.py").write_text(NODES)
    monkeypatch.syspath_prepend(tmp_path)
    with Template([]) as template:
        started = Started(template, tmp_path, "waits", "waits")
        select.select([template], [], [], 30.0)
        (message,) = template.receive()
        assert message["started"] == started.number
    with pytest.raises(ProcessLookupError):
        os.kill(message["pid"], 0)


def test_a_template_that_was_killed_is_an_error(template) -> None:
    template._process.kill()
    template._process.wait()
    with pytest.raises(ProgramError, match="from which nodes are forked has died"):
        template.receive()
    with pytest.raises(ProgramError, match="from which nodes are forked has died"):
        template.start(0, 1, 2, {})


def test_one_that_has_nothing_to_do_is_not_waited_for(tmp_path, monkeypatch) -> None:
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(30)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    began = time.monotonic()
    with Template(["slow_module"]):
        pass
    assert time.monotonic() - began < 10
