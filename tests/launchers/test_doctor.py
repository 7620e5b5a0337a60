"""`limbeck doctor --address`: what a replay server holds, or that there is none."""

import importlib.util
import json

import numpy as np
import pytest
from limbeck.launchers import command_line


pytestmark = [
    pytest.mark.replay,
    pytest.mark.skipif(
        importlib.util.find_spec("reverb") is None, reason="Reverb, of the replay extra, is not installed"
    ),
]


def printed(capsys, *arguments: str) -> str:
    assert command_line.main(["doctor", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    assert command_line.main(["doctor", *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == "" and len(error.splitlines()) == 1 and error.startswith("limbeck: ")
    return error


def test_doctor_asks_a_replay_server(capsys) -> None:
    from limbeck.agents import Table
    from limbeck.agents.replay import ReplayClient, ReplayServer

    signature = {"a": ((), "int32")}
    tables = [
        Table("rows", "queue", signature, 2),
        Table("items", "prioritised", signature, 50, min_size=3, samples_per_insert=4, error_buffer=9),
    ]
    with ReplayServer(tables) as server, ReplayClient(server.address) as client:
        client.insert("rows", [{"a": np.int32(0)}] * 2)
        found = json.loads(printed(capsys, "--address", server.address, "--json"))
        assert found["address"] == server.address
        assert found["tables"]["items"] == {
            "kind": "prioritised", "size": 0, "max_size": 50, "min_size": 3, "inserts": 0, "samples": 0,
            "samples_per_insert": 4.0, "waiting": "samples",
            "summary": "the table holds 0 of at most 50 items after 0 inserts and 0 samples; samples wait for "
            "inserts: whoever inserts is slow or gone",
        }  # fmt: skip
        assert found["tables"]["rows"]["waiting"] == "inserts"
        text = printed(capsys, "--address", server.address)
        assert "items: prioritised, sampled from 3 items on, 4 samples an insert\n" in text
        assert (
            "rows: queue, sampled from 1 items on\n  the table holds 2 of at most 2 items after 2 inserts"
            in text
        )
        assert "listens on every network interface" in text


def test_doctor_says_that_nothing_answers(capsys) -> None:
    error = refused(capsys, "--address", "localhost:1", "--deadline", "0.5")
    assert "No replay server answers at localhost:1" in error and "within 0.5 s" in error
    for wrong in ("localhost", "localhost:x", ":80", "host:70000"):
        assert "--address is HOST:PORT" in refused(capsys, "--address", wrong)
    assert "--deadline is a number" in refused(capsys, "--address", "localhost:1", "--deadline", "0")
