"""Reports: the numbers by hand, the form of the JSON, pages that stand alone, environments without bounds."""

import csv
import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest
import scipy.stats
from limbeck.distillation import Evaluation, compare, summary_lines, write_report


EPISODES = 20
HELD_OUT, TRAIN = np.array([4, 0]), np.array([1, 2, 3, 5, 6, 7, 8])


def evaluation(tasks, final, seed=0, bounds=True):
    """Returns that rise in a line from 1 to `final`, with noise, on tasks of optimum 11 and chance 1."""
    rng = np.random.default_rng(seed)
    rising = np.linspace(1, final, EPISODES) + rng.normal(scale=0.3, size=(len(tasks), 6, EPISODES))
    optimal = np.full(len(tasks), 11.0 if bounds else np.nan, np.float32)
    return Evaluation(rising.astype(np.float32), tasks, np.ones(len(tasks), np.float32), optimal)


def parts(**changes):
    return {
        "train": [evaluation(TRAIN, 10, 1, **changes), evaluation(TRAIN, 10, 2, **changes)],
        "held_out": [evaluation(HELD_OUT, 9, 3, **changes), evaluation(HELD_OUT, 9, 4, **changes)],
        "controls.rewards_zeroed": [evaluation(HELD_OUT, 1, 5, **changes)] * 2,
        "controls.context_cleared": [evaluation(HELD_OUT, 1.5, 6, **changes)] * 2,
    }


def write(directory, **changes):
    reference = {"posterior_sampling": np.linspace(2, 11, 15)}
    return write_report(
        directory, parts(**changes), reference, np.linspace(1, 8, 40), {"model": {"layers": 4}},
        windows=[(6, 9)], grid=3, resamples=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    return directory, write(directory)


def test_numbers_by_hand(written):
    part = written[1]["held_out"]
    returns = np.concatenate([e.returns for e in parts()["held_out"]]).astype(np.float64)
    last = returns[..., -10:].mean(-1)
    expected = scipy.stats.trim_mean(last.ravel(), 0.25)
    assert part["last_10"]["iqm"] == pytest.approx(expected)
    assert part["last_10_normalised"]["iqm"] == pytest.approx((expected - 1) / 10)
    assert part["last_10"]["ci"][0] < expected < part["last_10"]["ci"][1]
    assert (part["optimum"], part["random"]) == (11, 1)
    assert part["by_episode"]["iqm"] == pytest.approx(scipy.stats.trim_mean(returns.reshape(24, -1), 0.25))
    assert part["by_episode"]["mean"] == pytest.approx(returns.mean((0, 1)))
    assert part["auc"]["iqm"] == pytest.approx(
        (scipy.stats.trim_mean(returns.mean(-1).ravel(), 0.25) - 1) / 10
    )
    lost = np.linspace(2, 11, 15).sum() - returns[..., :15].sum(-1).mean()
    assert part["regret"]["mean"] == pytest.approx(lost)
    assert part["regret"]["episodes"] == 15
    assert part["windows"]["6-9"]["mean"] == pytest.approx(returns[..., 5:9].mean())
    by_task = {row["id"]: row for row in part["by_task"]}
    # The tasks stand as 4, 0 in each training seed: task 0 is the strata 1 and 3.
    assert by_task[0]["mean"] == pytest.approx(last[[1, 3]].mean())
    assert part["worst_task"]["id"] == min(by_task, key=lambda task: by_task[task]["mean"])
    assert part["episodes_to_90"] is None
    assert part["dead_tasks"] == 0
    assert written[1]["controls"]["rewards_zeroed"]["dead_tasks"] == 2


def test_a_task_dead_for_one_training_seed_is_dead(tmp_path):
    low = evaluation(np.array([7]), 1)
    report = write_report(tmp_path, {"held_out": [evaluation(np.array([7]), 11), low]}, resamples=50)
    assert report["held_out"]["dead_tasks"] == 1
    assert report["held_out"]["by_task"][0]["normalised"] > 0.2


def test_episodes_to_90_and_references_per_task(tmp_path):
    tasks = np.array([3, 9])
    returns = np.broadcast_to(np.array([0.0, 5, 9, 10]), (2, 3, 4)) * np.array([1.0, 2.0])[:, None, None]
    one = Evaluation(returns, tasks, np.zeros(2), np.array([10.0, 20.0]))
    reference = np.stack([np.full((5, 4), 10.0), np.full((5, 4), 20.0)])
    report = write_report(
        tmp_path, {"held_out": [one]}, {"posterior_sampling": {"held_out": reference}}, resamples=20
    )
    assert report["held_out"]["episodes_to_90"] == 3
    # Task 3 loses 10 + 5 + 1, task 9 twice that.
    assert report["held_out"]["regret"]["mean"] == pytest.approx(24)
    assert report["references"]["held_out"]["posterior_sampling"]["normalised"] == [1.0] * 4


def test_json_round_trip_and_form(written):
    directory, report = written
    assert json.loads((directory / "report.json").read_text()) == report
    assert set(report) == {
        "format", "title", "train", "held_out", "controls", "references", "source", "settings", "method",
    }  # fmt: skip
    assert set(report["controls"]) == {"rewards_zeroed", "context_cleared"}
    for part in (report["train"], report["held_out"], *report["controls"].values()):
        assert set(part) == {
            "tasks", "training_seeds", "evaluation_seeds", "episodes", "last_10", "last_10_normalised",
            "optimum", "random", "auc", "episodes_to_90", "regret", "dead_tasks", "worst_task", "windows",
            "by_training_seed", "by_episode", "by_task",
        }  # fmt: skip
        assert isinstance(part["dead_tasks"], int)
        assert len(part["by_episode"]["iqm"]) == len(part["by_episode"]["ci"]) == EPISODES
        assert len(part["by_task"]) == part["tasks"]


def assert_stands_alone(path):
    text = path.read_text()
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import", text)
    for target in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert target.startswith(("#", "data:"))
    names = re.findall(r'\bid="([^"]*)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', text) + re.findall(r"url\(#([^)]*)\)", text)) <= set(names)
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    for drawing in drawings:
        xml.etree.ElementTree.fromstring(drawing.replace("<svg", '<svg xmlns:xlink="x"', 1))
    return text, drawings


def test_the_page_stands_alone(written):
    text, drawings = assert_stands_alone(written[0] / "report.html")
    assert len(drawings) == 2
    for words in (
        "posterior sampling",
        "source's own",
        "optimal",
        "random",
        "rewards zeroed",
        "model.layers",
    ):
        assert words in text
    assert (written[0] / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_has_a_row_per_task_and_episode(written):
    with open(written[0] / "report.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (7 + 2 + 2 + 2) * EPISODES
    row = next(
        r
        for r in rows
        if (r["part"], r["training_seed"], r["task"], r["episode"]) == ("held_out", "1", "0", "3")
    )
    values = parts()["held_out"][1].returns[1, :, 2]
    assert float(row["mean"]) == pytest.approx(values.mean(), rel=1e-5)
    assert float(row["standard_deviation"]) == pytest.approx(values.std(), rel=1e-4)


def test_the_same_evaluations_give_the_same_files(written, tmp_path):
    write(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "report." + x for x in ("csv", "html", "json", "png")
    ]
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (written[0] / file.name).read_bytes()


def test_without_bounds_raw_returns_stand_beside_random(tmp_path):
    report = write(tmp_path, bounds=False)
    part = json.loads((tmp_path / "report.json").read_text())["held_out"]
    assert part["optimum"] is None
    assert part["last_10_normalised"]["iqm"] is None
    assert part["dead_tasks"] is None
    assert part["by_episode"]["normalised"] is None
    assert part["random"] == 1
    assert part["last_10"]["iqm"] > 6
    assert_stands_alone(tmp_path / "report.html")
    lines = summary_lines(report)
    assert len(lines) == 5
    assert lines[0].endswith("random 1.00")


def test_five_lines(written):
    lines = summary_lines(written[1])
    assert len(lines) == 5
    assert re.fullmatch(
        r"Held-out tasks, last 10 of 20 episodes: 7\.\d\d \(95 % interval 7\.\d\d to 7\.\d\d\) of 11\.00; "
        r"normalised 0\.6\d\d \(0\.6\d\d to 0\.6\d\d\)", lines[0]
    )  # fmt: skip
    assert "not reached" in lines[2]
    assert "rewards zeroed -0.0" in lines[3] or "rewards zeroed 0.0" in lines[3]
    assert lines[4].endswith("dead held-out tasks: 0 of 2")


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs the part 'held_out'"):
        write_report(tmp_path, {"train": []})
    one = {"held_out": [evaluation(HELD_OUT, 5)]}
    with pytest.raises(ValueError, match="episodes 15 to 30 is not within the 20 that"):
        write_report(tmp_path, one, windows=[(15, 30)], resamples=20)
    with pytest.raises(ValueError, match=r"with the 2 tasks .* shape is \(3, 1, 20\)"):
        write_report(tmp_path, one, {"posterior_sampling": np.zeros((3, 1, 20))}, resamples=20)
    with pytest.raises(ValueError, match="task 4 is not a cell of a 2 by 2 grid"):
        write_report(tmp_path, one, grid=2, resamples=20)
    assert not list(tmp_path.iterdir())


def test_comparison(written, tmp_path):
    other = json.loads(json.dumps(written[1]))
    other["settings"] = {"model": {"layers": 2}, "window": 80}
    result = compare({"first": written[1], "second": other}, tmp_path)
    assert json.loads((tmp_path / "compare.json").read_text()) == result
    assert result["settings"] == {
        "model.layers": {"first": 4, "second": 2},
        "window": {"first": None, "second": 80},
    }
    assert result["same_tasks"]
    assert result["runs"]["second"]["last_10"] == written[1]["held_out"]["last_10"]
    _, drawings = assert_stands_alone(tmp_path / "compare.html")
    assert len(drawings) == 1
    assert "second" in drawings[0]
    with pytest.raises(ValueError, match="two runs or more"):
        compare({"first": written[1]}, tmp_path)
