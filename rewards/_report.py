"""The report of a reward model: report.json, report.csv and one self-contained report.html."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..encoders import pages
from . import _figures
from .card import Calibration
from .evaluation import Evaluation, Example


_COLUMNS = {
    "average_precision": "AP",
    "partial_auroc": "partial AUROC",
    "precision": "precision",
    "recall": "recall",
    "false_positive_rate": "FPR",
    "first_hit_precision": "first-hit precision",
    "false_success": "false success",
    "expected_calibration_error": "ECE",
    "epic_distance": "EPIC",
}
# A rate of false positives of one in ten thousand matters.
_DIGITS = {"false_positive_rate": 5}


def write_report(
    directory: str | os.PathLike[str],
    evaluation: Evaluation,
    frames: np.ndarray | None = None,
    card: Calibration | None = None,
    title: str = "Evaluation of a reward model",
) -> None:
    """Writes `report.json`, `report.csv` and `report.html`, each aside and then renamed.

    The page needs no other file, no network and no script. The same evaluation gives the same files.

    Args:
      directory: made if it is missing.
      evaluation: the results.
      frames: uint8 `[N, H, W, 3]`, the frames evaluated, in the same rows: the worst errors are then shown.
      card: the calibration behind the thresholds, shown as a table.
      title: of the page.

    Raises:
      ValueError: if frames are not uint8 `[N, H, W, 3]`, or fewer than an example's row.
    """
    worst = [*evaluation.false_positives, *evaluation.false_negatives]
    if frames is not None:
        least = max((example.frame for example in worst), default=-1) + 1
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or len(frames) < least:
            raise ValueError(
                f"frames must be uint8 [N, H, W, 3] with N at least {least}; they are {frames.dtype} {frames.shape}"
            )
    # All is made before anything is written: an error leaves an earlier report as it was.
    files = {
        "report.json": evaluation.to_json(),
        "report.csv": evaluation.to_csv(),
        "report.html": _page(evaluation, frames, card, title),
    }
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        pages.write(directory / name, content)


def _page(evaluation: Evaluation, frames: np.ndarray | None, card: Calibration | None, title: str) -> str:
    whole, settings = evaluation.parts["all"], evaluation.settings
    lead = (
        f"{whole['frames']:,} frames of {whole['episodes']:,} episodes, {len(evaluation.thresholds)} goals; "
        f"{whole['pairs']:,} pairs of a frame and a goal, {100 * whole['prevalence']:.2f} % of them true."
    )
    hits = f"{whole['episodes_with_hit']:,} hit, {whole['episodes_without_hit']:,} not"
    sections = [
        pages.cards(
            [
                (f"first-hit precision ({hits})", pages.show(whole["first_hit_precision"]["value"])),
                (
                    f"false success within {settings['frames']} frames",
                    pages.show(whole["false_success"]["value"]),
                ),
                ("false positives per frame", pages.show(whole["false_positive_rate"]["value"], 5)),
                ("average precision", pages.show(whole["average_precision"]["value"])),
            ]
        ),
        pages.heading("By stratum"),
        *_metrics_table(evaluation.parts, "stratum"),
        pages.heading("Precision and recall"),
        pages.figure(pages.svg(_figures.precision_recall(evaluation.parts), "curve")),
        pages.note("Dots: at the thresholds in use. Band: interval of precision over all strata."),
    ]
    if evaluation.families:
        sections += [pages.heading("By family of goals"), *_metrics_table(evaluation.families, "family")]
    if whole["reliability"] is not None:
        shown = evaluation.families or evaluation.parts
        sections += [
            pages.heading("Reliability"),
            pages.figure(pages.svg(_figures.reliability({"all": whole, **shown}), "reliability")),
            pages.note("On the diagonal a score is a probability. Bars: interval over all."),
        ]
    if evaluation.agreement:
        rows = [
            (name.replace("_", " "), number["value"], pages.interval((number["low"], number["high"])))
            for name, number in evaluation.agreement.items()
        ]
        sections += [pages.heading("Agreement"), pages.table(("", "value", "interval"), rows)]
    sections += [pages.heading("Goals"), _goal_table(evaluation)]
    if card is not None:
        sections += [pages.heading("Calibration"), *_card_table(card)]
    for name, examples in (
        ("Worst false positives", evaluation.false_positives),
        ("Worst false negatives", evaluation.false_negatives),
    ):
        sections += [pages.heading(name), _examples(examples, frames)]
    rows = [(name, str(value)) for name, value in pages.flatten(settings).items()]
    sections += [
        pages.heading("Settings"),
        pages.table(("setting", "value"), rows, words=True),
        pages.heading("How the numbers are made"),
        pages.note(_method(settings)),
    ]
    return pages.page(title, lead, sections)


def _metrics_table(parts: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """Values, and folded away, intervals."""
    counts = ("frames", "episodes", "positives", "prevalence")
    values, intervals = [], []
    for name, part in parts.items():
        numbers = {metric: part[metric] for metric in _COLUMNS}
        values.append(
            [
                name,
                *(part[count] for count in counts),
                *(
                    pages.show(None if number is None else number["value"], _DIGITS.get(metric, 3))
                    for metric, number in numbers.items()
                ),
            ]
        )
        intervals.append(
            [
                name,
                *(
                    pages.interval(
                        (None,) if number is None else (number["low"], number["high"]), _DIGITS.get(metric, 3)
                    )
                    for metric, number in numbers.items()
                ),
            ]
        )
    head = list(_COLUMNS.values())
    return [
        pages.table((kind, *counts, *head), values),
        pages.folded("Intervals", pages.table((kind, *head), intervals)),
    ]


def _goal_table(evaluation: Evaluation) -> str:
    rows = []
    for goal, part in evaluation.by_goal.items():
        point = [part[name]["value"] for name in ("average_precision", "precision", "recall")]
        rate = part["false_positive_rate"]
        rows.append(
            (
                goal,
                part["positives"],
                evaluation.thresholds[goal],
                *point,
                pages.show(rate["value"], 5),
                pages.interval((rate["low"], rate["high"]), 5),
            )
        )
    # The worst first: those that pay most often for nothing.
    rows.sort(key=lambda row: -float(evaluation.by_goal[row[0]]["false_positive_rate"]["value"] or 0))
    headers = ("goal", "positives", "threshold", "AP", "precision", "recall", "FPR", "interval")
    return pages.table(headers, rows)


def _card_table(card: Calibration) -> list[str]:
    rows = [
        (
            entry.name,
            entry.threshold if entry.threshold is not None else f"abstained: {entry.reason}",
            entry.positives,
            entry.trials,
            entry.false_trials,
            pages.show(entry.bound, 5),
            entry.recall,
            entry.prevalence,
            entry.precision,
            entry.precision_low,
        )
        for entry in card.thresholds
    ]
    unit = "frame" if card.unit == "frame" else "episode"
    headers = (
        "goal or family", "threshold", "positives", f"false {unit}s", "rewarded", "bound",
        "recall", "prevalence", "precision", "at the bounds",
    )  # fmt: skip
    abstained = [entry.threshold is None for entry in card.thresholds]
    return [
        pages.table(headers, rows, abstained),
        pages.note(
            f"Encoder {card.fingerprint}; at most {card.target:g} false positives per {unit} with confidence "
            f"{1 - card.delta:g} for each row; {len(card.episodes):,} episodes."
        ),
    ]


def _examples(examples: Sequence[Example], frames: np.ndarray | None) -> str:
    if not examples:
        return pages.note("None.")
    if frames is None:
        rows = [(x.goal, str(x.episode), x.step, x.score, x.threshold) for x in examples]
        return pages.table(("goal", "episode", "step", "score", "threshold"), rows)
    return pages.gallery(
        [
            (
                frames[x.frame],
                f"{x.goal}: {x.score:.3f} at {x.threshold:.3f}; episode {x.episode}, step {x.step}",
            )
            for x in examples
        ]
    )


def _method(settings: Mapping[str, Any]) -> str:
    boot = settings["bootstrap"]
    return (
        f"Intervals: {100 * boot['level']:g} % percentile bootstrap, {boot['resamples']} resamples of whole episodes. "
        "A pair is rewarded where its score is at or above the goal's threshold. AP: average precision over all "
        f"thresholds. Partial AUROC: area under the ROC curve up to {settings['max_fpr']:g} false positives per "
        "frame, standardised (McClish): 0.5 is chance. FPR: share of the false pairs that are rewarded. First-hit "
        "precision: share of the episodes and goals with a rewarded frame whose first one comes where the goal is "
        f"true, or at most {settings['tolerance']} steps after. False success: probability of a wrong first hit "
        f"within {settings['frames']} frames (Aalen-Johansen; none where no episode is as long). "
        f"ECE: expected calibration error, {settings['bins']} bins. "
        "EPIC: distance from the goal's indicator, mean over goals; 0 is equal, 0.707 is "
        "unrelated."
    )
