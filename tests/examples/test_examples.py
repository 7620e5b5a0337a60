"""Every example runs, on tiny settings, and the README shows the code that is run here."""

import importlib.util
import inspect
import pathlib
import textwrap

import numpy as np
import pytest
from limbeck.envs import make, to_dm_env, to_gymnasium


ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
EPISODES, RUNS, HORIZON = 6, 4, 20


def example(number: int):
    (path,) = EXAMPLES.glob(f"{number:02d}_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    directory = tmp_path_factory.mktemp("examples") / "histories"
    streams = example(3).main(str(directory), runs=RUNS, episodes=EPISODES)
    assert streams.action.shape == (RUNS, EPISODES * HORIZON)
    return directory


@pytest.fixture(scope="module")
def distilled(histories):
    run = histories.parent / "distilled"
    result = example(4).main(str(histories), str(run), steps=10, window=20, width=16)
    assert result.returns.shape == (8, 2, 20)
    assert np.isfinite(result.returns).all()
    return run


def test_every_example_is_short_and_is_run_here():
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.name[:2] for path in paths] == ["01", "02", "03", "04", "05", "06", "07", "my"]
    assert all(len(path.read_text().splitlines()) <= 40 for path in paths[:-1])
    assert len(paths[-1].read_text().splitlines()) <= 85


def test_an_environment_is_made():
    # An optimal agent walks to the goal and stays: 20 steps less the way, the goal's own step included.
    optimal = example(1).main()
    # The centre is at most 8 steps away: 13 at least.
    assert 13 <= optimal <= 20


def test_a_source_agent_learns():
    curve = example(2).main(episodes=30, tasks=4)
    assert curve[-5:].mean() > 5 * max(curve[:2].mean(), 0.2)


def test_a_distilled_agent_plays_alike_in_both_loops(distilled):
    module, room = example(5), make("dark_room")
    by_gymnasium = module.play_gymnasium(str(distilled), to_gymnasium(room, task=30), 3)
    by_dm_env = module.play_dm_env(str(distilled), to_dm_env(room, task=30), 3)
    assert len(by_gymnasium) == 3
    assert by_gymnasium == by_dm_env


@pytest.mark.replay
@pytest.mark.skipif(importlib.util.find_spec("reverb") is None, reason="Reverb is not installed")
def test_a_job_runs_an_environment_and_an_algorithm_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)  # As for whoever runs it there.
    evaluated = example(6).main(str(tmp_path))
    assert (evaluated["updates"], evaluated["steps"], evaluated["episodes"]) == (50, 16_000, 10)
    # The policy's mode walks the six steps to the end.
    assert evaluated["success"] == evaluated["return"] == 1.0 and evaluated["episode_length"] == 6.0


def test_a_reward_model_of_ones_own():
    shares = example(7).main()
    # The green square comes into the view, a forty-ninth of it, and goes out of it again.
    assert shares.shape == (21,) and shares.min() == 0 < shares.max() <= 1 / 49
    red = np.zeros((1, 10, 10, 3), np.uint8)
    red[0, :3, :, 0], red[0, 5, :, :2] = 255, 255  # thirty red pixels and ten yellow ones
    model = example(7).ShareOfColour()
    assert model(np.repeat(red, 2, axis=0), ["a red door", "a green key"]).tolist() == [np.float32(0.3), 0]


def test_the_readme_shows_the_loop_that_is_tested():
    readme = (ROOT / "README.md").read_text()
    body = inspect.getsource(example(5).play_gymnasium).split("\n", 1)[1]
    lines = [line.strip() for line in textwrap.dedent(body).splitlines() if "return returns" not in line]
    assert all(line in readme for line in lines)
