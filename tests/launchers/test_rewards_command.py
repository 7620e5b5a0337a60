"""`limbeck rewards check`: a line for each requirement, and exit codes."""

import json
import pathlib
import sys

import pytest
from limbeck.launchers import command_line


TOYS = pathlib.Path(__file__).parents[1] / "rewards" / "toy_models.py"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(TOYS.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_rewards", None)


def run(capsys, *arguments):
    code = command_line.main(["rewards", *arguments])
    return code, *capsys.readouterr()


def test_a_model_that_keeps_the_contract(capsys):
    code, out, _ = run(capsys, "check", "my_rewards:a_callable", "--goal", "red", "a blue key")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "ok    form: callable"
    assert lines[-1] == "my_rewards:a_callable keeps the contract"
    assert all(line.startswith("ok    ") for line in lines[:-1])
    assert {"ok    goal 'red'", "ok    goal 'a blue key'"} <= set(lines)


def test_a_model_that_does_not(capsys):
    code, out, _ = run(capsys, "check", "my_rewards:of_doubles")
    failures = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert code == 1
    assert failures == ["FAIL  dtype of rewards: expected float32, got float64: .astype(np.float32)"]
    assert out.splitlines()[-1].startswith("my_rewards:of_doubles: 1 of ")


def test_json_arguments_and_frames_of_an_environment(capsys):
    env = ["--env", "MiniGrid-Empty-5x5-v0", "--env-arguments", "image", "agent", "tile_size", "4"]
    code, out, _ = run(
        capsys, "check", "my_rewards:an_encoder", "--arguments", "fingerprint", "mine", *env, "--json"
    )
    about = json.loads(out)
    assert code == 0 and (about["form"], about["passed"]) == ("encoder", True)
    assert all(set(finding) == {"name", "passed", "detail"} for finding in about["findings"])
    refusal = next(finding for finding in about["findings"] if finding["name"] == "refuses float frames")
    assert "28, 28, 3]" in refusal["detail"]
    code, out, _ = run(capsys, "check", "my_rewards:of_doubles", "--json")
    assert code == 1 and json.loads(out)["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["chek"], "there is no action 'chek' on rewards; did you mean check?"),
        (["check"], "NAME"),
        (["check", "my_rewards:a_calable"], "did you mean a_callable"),
        (["check", "my_rewards:nothing"], "returned something else than a reward model"),
        (["check", "reddish"], "there is no reward model 'reddish'"),
        (["check", "my_rewards:a_callable", "--env", "CartPole-v1"], "CartPole-v1 have no frames"),
        (["check", "my_rewards:a_callable", "--arguments", "x", "1"], "does not take the arguments {'x': 1}"),
    ],
)
def test_what_is_wrong_is_one_line(capsys, arguments, match):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == ""
    assert err.startswith("limbeck: ") and len(err.splitlines()) == 1 and match in err
