"""What a program refuses, and how entries are found."""

import pathlib
import sys

import pytest
from limbeck.launchers import Node, Outcome, Program, ProgramError, resolve
from limbeck.launchers.program import check_entries


def node(name: str = "a", **kwargs) -> Node:
    return Node(**{"name": name, "role": "worker", "entry": "json:dumps", **kwargs})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "a/b"}, "'a/b': expected letters"),
        ({"name": ".hidden"}, "expected letters"),
        ({"role": ""}, "role '': expected letters"),
        ({"entry": "json.dumps"}, r"entry is package\.module:function, got 'json\.dumps'"),
        ({"entry": "json:dumps()"}, "entry is package"),
        ({"settings": {"x": {1, 2}}}, "settings must be JSON values"),
        ({"settings": {"x": float("nan")}}, "settings must be JSON values"),
        ({"settings": [1]}, "settings are a dictionary, got list"),
        ({"cpus": -1}, "cpus is a number of at least 0, got -1"),
        ({"gpus": float("inf")}, "gpus is a number"),
        ({"restarts": 1.5}, "restarts is a whole number of at least 0, got 1.5"),
    ],
)
def test_a_bad_node_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        node(**change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"nodes": [node("a"), node("b"), node("a")]}, "more than one node is called a"),
        ({"nodes": []}, "has no nodes"),
        ({"until": ["c"]}, "until names 'c', which is no node; known: a, b"),
        ({"nodes": [node("a", beside="z")]}, "beside names 'z', which is no node"),
        ({"nodes": [node("a", beside="a")]}, "beside names itself"),
        ({"name": "a b"}, "program 'a b': expected"),
        ({"settings": {"x": object()}}, "settings must be JSON"),
    ],
)
def test_a_bad_program_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        Program(**{"name": "p", "nodes": [node("a"), node("b")], **change})


def test_settings_are_what_json_gives_back() -> None:
    assert node(settings={"shape": (1, 2)}).settings == {"shape": [1, 2]}


def test_nodes_beside_each_other_share_a_machine() -> None:
    nodes = [node("a"), node("b", beside="d"), node("c"), node("d"), node("e", beside="b")]
    program = Program("p", nodes)
    assert program.machines() == [["a"], ["b", "d", "e"], ["c"]]
    assert program.awaited == ("a", "b", "c", "d", "e")
    assert program.node("c") is nodes[2]


def test_resolve_finds_modules_of_the_current_directory(tmp_path: pathlib.Path, monkeypatch) -> None:
    (tmp_path / "own_nodes.py").write_text("def work(context):\n    return context + 1\n")
    # It must not hide an installed module.
    (tmp_path / "string.py").write_text("raise AssertionError\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert resolve("own_nodes:work")(1) == 2  # pyright: ignore[reportArgumentType]
    assert sys.path[-1] == str(tmp_path)
    assert resolve("string:capwords")("a b") == "A B"  # pyright: ignore[reportArgumentType]
    monkeypatch.delitem(sys.modules, "own_nodes")


def test_an_entry_that_is_missing_is_named(tmp_path: pathlib.Path, monkeypatch) -> None:
    (tmp_path / "broken_nodes.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ProgramError, match="entry no_such_package.x:f: there is no module no_such_package.x"):
        resolve("no_such_package.x:f")
    with pytest.raises(ProgramError, match="entry json:no: json has no function no"):
        resolve("json:no")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        resolve("broken_nodes:f")
    for entry in ("no_such_package.x:f", "json.no_such_module:f"):
        with pytest.raises(ProgramError, match=f"entry {entry}: there is no module"):
            check_entries(Program("p", [node(), node("b", entry=entry)]))
    check_entries(Program("p", [node("b", entry="broken_nodes:f")]))
    assert "broken_nodes" not in sys.modules


def test_exit_codes() -> None:
    codes = [Outcome(state, 1.0, {}).exit_code for state in ("finished", "stopped", "interrupted", "failed")]
    assert codes == [0, 0, 130, 1]
