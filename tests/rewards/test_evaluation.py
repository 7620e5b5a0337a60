"""An evaluation agrees with its metrics by stratum, family and goal; files that read back; a page that stands alone."""

import base64
import csv
import dataclasses
import io
import json
import re
import xml.etree.ElementTree

import numpy as np
import PIL.Image
import pytest
from limbeck.rewards import metrics
from limbeck.rewards._report import write_report
from limbeck.rewards.bootstrap import Bootstrap
from limbeck.rewards.calibration import CalibrationConfig, calibrate
from limbeck.rewards.evaluation import EvaluationConfig, evaluate
from limbeck.rewards.hits import false_success, first_hit_precision
from limbeck.rewards.pairs import Pairs


FEW = Bootstrap(resamples=60)
CONFIG = EvaluationConfig(frames=5, examples=4, bootstrap=FEW)
GOALS = ["hold <red> ball", "face key", "never"]
THRESHOLDS = np.array([0.8, 0.6, np.inf])


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    truth = rng.random((300, 3)) < [0.2, 0.1, 0.05]
    scores = 1 / (1 + np.exp(-rng.normal(size=(300, 3)) - 2 * truth))
    return dict(
        scores=scores.astype(np.float32),
        truth=truth,
        episodes=np.repeat(np.arange(30), 10),
        steps=np.tile(np.arange(10), 30),
        strata=np.repeat(["reset", "random walk"], 150),
        goals=GOALS,
        thresholds=THRESHOLDS,
    )


@pytest.fixture(scope="module")
def evaluation(arrays):
    rng = np.random.default_rng(1)
    labelled = rng.normal(size=8)
    return evaluate(
        **arrays,
        families={GOALS[0]: "hold", GOALS[1]: "face", GOALS[2]: "face"},
        returns=(labelled, labelled + 0.1 * rng.normal(size=8)),
        swaps=([1, 2], [0, 3], ["a", "b"]),
        config=CONFIG,
    )


def pairs_of(arrays):
    return Pairs.of(*(arrays[name] for name in ("scores", "truth", "episodes", "steps", "goals")))


def test_parts_are_the_metrics_of_their_frames(arrays, evaluation):
    pairs = pairs_of(arrays)
    parts = {
        "all": (evaluation.parts["all"], pairs),
        "reset": (evaluation.parts["reset"], pairs.select(pairs.frame < 150)),
        "random walk": (evaluation.parts["random walk"], pairs.select(pairs.frame >= 150)),
        "face": (evaluation.families["face"], pairs.select(pairs.goal > 0)),
    }
    assert list(evaluation.parts) == ["all", "reset", "random walk"]
    assert list(evaluation.families) == ["hold", "face"]
    for part, of in parts.values():
        hits = first_hit_precision(of, THRESHOLDS, 0, FEW)
        expected = {
            "average_precision": metrics.average_precision(of, FEW),
            "partial_auroc": metrics.partial_auroc(of, 1e-2, FEW),
            **metrics.operating_point(of, THRESHOLDS, FEW)._asdict(),
            "first_hit_precision": hits.precision,
            "false_success": false_success(of, THRESHOLDS, 5, 0, FEW),
            "expected_calibration_error": metrics.reliability(of, 15, FEW).error,
            "epic_distance": metrics.epic_distance(of, FEW),
        }
        for name, estimate in expected.items():
            assert part[name] == estimate._asdict(), name
        assert (part["episodes_with_hit"], part["episodes_without_hit"]) == (hits.hits, hits.without)
        assert part["positives"] == of.truth.sum()
    assert evaluation.parts["reset"]["frames"] == 150
    assert evaluation.parts["reset"]["episodes"] == 15


def test_goals(arrays, evaluation):
    pairs = pairs_of(arrays)
    for i, goal in enumerate(GOALS):
        part = pairs.select(pairs.goal == i)
        point = metrics.operating_point(part, THRESHOLDS, FEW)
        assert evaluation.by_goal[goal]["recall"] == pytest.approx(point.recall._asdict(), nan_ok=True)
        assert evaluation.by_goal[goal]["average_precision"] == metrics.average_precision(part, FEW)._asdict()
    assert evaluation.by_goal["never"]["recall"]["value"] == 0
    assert np.isnan(evaluation.by_goal["never"]["precision"]["value"])


def test_agreement(evaluation):
    assert evaluation.agreement["swapped_pair_accuracy"]["value"] == 0.5
    assert evaluation.agreement["kendall_tau"]["value"] > 0.8


def test_worst_examples(arrays, evaluation):
    margins = arrays["scores"].astype(float) - THRESHOLDS
    for found, wrong, order in (
        (evaluation.false_positives, ~arrays["truth"] & (margins >= 0), -margins),
        (evaluation.false_negatives, arrays["truth"] & (margins < 0) & np.isfinite(margins), margins),
    ):
        # Frame by frame, the worst pair of each episode and goal.
        worst = {}
        for frame, goal in np.argwhere(wrong):
            key = (frame // 10, goal)
            if key not in worst or order[frame, goal] < order[worst[key], goal]:
                worst[key] = frame
        expected = sorted((order[frame, goal], frame, GOALS[goal]) for (_, goal), frame in worst.items())
        assert [(x.frame, x.goal) for x in found] == [(frame, goal) for _, frame, goal in expected[:4]]
        assert all(x.episode == x.frame // 10 and x.step == x.frame % 10 for x in found)


def test_scores_that_are_no_probabilities_have_no_reliability(arrays):
    result = evaluate(**{**arrays, "scores": arrays["scores"] * 10, "thresholds": 8.0}, config=CONFIG)
    assert result.parts["all"]["reliability"] is None
    assert result.parts["all"]["expected_calibration_error"] is None
    json.loads(result.to_json())


def test_one_goal_a_row(arrays):
    rng = np.random.default_rng(2)
    goal = np.repeat(rng.integers(2, size=30), 10)
    rows = np.arange(300)
    result = evaluate(
        **{**arrays, "scores": arrays["scores"][rows, goal], "truth": arrays["truth"][rows, goal]},
        goal=goal,
        config=CONFIG,
    )
    hit = arrays["scores"][rows, goal] >= THRESHOLDS[goal]
    assert result.parts["all"]["precision"]["value"] == pytest.approx(arrays["truth"][rows, goal][hit].mean())
    assert list(result.by_goal) == GOALS[:2]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"strata": ["a"] * 299}, "300 frames"),
        ({"strata": ["all"] * 300}, "no stratum may be called"),
        ({"thresholds": [0.5]}, "one threshold"),
        ({"families": {GOALS[0]: "hold"}}, "families has no entry"),
    ],
)
def test_wrong_input_is_refused(arrays, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**{**arrays, **change}, config=CONFIG)


def test_json_and_csv(evaluation):
    content = json.loads(evaluation.to_json())
    assert content["parts"]["reset"]["recall"] == evaluation.parts["reset"]["recall"]
    assert content["thresholds"] == {GOALS[0]: 0.8, GOALS[1]: 0.6, "never": None}
    assert content["by_goal"]["never"]["precision"]["value"] is None
    assert content["false_positives"][0]["frame"] == evaluation.false_positives[0].frame
    rows = {(r["kind"], r["name"], r["metric"]): r for r in csv.DictReader(io.StringIO(evaluation.to_csv()))}
    for kind, table in (
        ("part", evaluation.parts),
        ("family", evaluation.families),
        ("goal", evaluation.by_goal),
    ):
        for name, part in table.items():
            row = rows[kind, name, "recall"]
            assert float(row["low"]) == pytest.approx(part["recall"]["low"], rel=1e-5)
    assert rows["goal", "never", "precision"]["value"] == ""
    assert rows["part", "all", "episodes_with_hit"]["value"] == str(
        evaluation.parts["all"]["episodes_with_hit"]
    )
    assert ("agreement", "all", "kendall_tau") in rows


def test_the_page_stands_alone_and_shows_the_frames(arrays, evaluation, tmp_path):
    frames = np.random.default_rng(0).integers(256, size=(300, 6, 5, 3), dtype=np.uint8)
    pairs = pairs_of(arrays)
    card = calibrate(pairs, "abc", {}, CalibrationConfig(target=0.1, min_positives=20))
    write_report(tmp_path, evaluation, frames, card, "Report & more")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["report.csv", "report.html", "report.json"]
    page = (tmp_path / "report.html").read_text()
    body = page.split("\n", 1)[1].replace("<svg", '<svg xmlns:xlink="x"')
    root = xml.etree.ElementTree.fromstring(re.sub(r"<(meta|img)([^>]*)>", r"<\1\2/>", body))
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)', page)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "<script" not in page
    assert root.findtext(".//h1") == "Report & more"
    shown = [
        np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(image.get("src").split(",")[1]))))
        for image in root.iter("img")
    ]
    worst = [*evaluation.false_positives, *evaluation.false_negatives]
    assert len(shown) == len(worst) == 8
    for picture, example in zip(shown, worst):
        np.testing.assert_array_equal(picture, frames[example.frame])
    headings = [x.text for x in root.iter("h2")]
    assert headings == [
        "By stratum", "Precision and recall", "By family of goals", "Reliability", "Agreement", "Goals",
        "Calibration", "Worst false positives", "Worst false negatives", "Settings", "How the numbers are made",
    ]  # fmt: skip
    assert "abstained" in page
    first = f"{evaluation.parts['all']['first_hit_precision']['value']:.3f}"
    assert root.findtext(".//div[@class='card']/b") == first
    again = tmp_path / "again"
    write_report(again, evaluation, frames, card, "Report & more")
    assert (again / "report.html").read_text() == page


def test_a_report_without_frames_or_with_wrong_ones(evaluation, tmp_path):
    write_report(tmp_path, dataclasses.replace(evaluation, families={}, agreement={}))
    page = (tmp_path / "report.html").read_text()
    assert "<img" not in page
    assert f"<td>{evaluation.false_positives[0].step}</td>" in page
    for frames in (
        np.zeros((300, 6, 5, 3)),
        np.zeros((1, 6, 5, 3), np.uint8),
        np.zeros((300, 6, 5), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"uint8 \[N, H, W, 3\]"):
            write_report(tmp_path, evaluation, frames)
    assert (tmp_path / "report.html").read_text() == page
