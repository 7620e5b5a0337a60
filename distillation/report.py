"""The report of a run: report.json, report.csv, report.png and one self-contained report.html."""

import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..encoders import pages
from . import _figures
from . import statistics as st
from ._summary import LAST, RESAMPLES, align, normalised_curve, summarise
from ._types import Evaluation


FORMAT = 1
_TITLES = {
    "held_out": "Held-out tasks",
    "train": "Training tasks",
    "controls.rewards_zeroed": "Control: rewards zeroed",
    "controls.context_cleared": "Control: context cleared every episode",
}
_REFERENCES = {
    "posterior_sampling": ("posterior sampling", _figures.POSTERIOR, "--"),
    "optimal": ("optimal", _figures.BEST, ":"),
    "random": ("random", _figures.CHANCE, ":"),
}
_METHOD = (
    "iqm: interquartile mean over all runs of all tasks and training seeds (a run is one evaluation seed on "
    "one task). ci: 95 % percentile bootstrap that draws evaluation seeds within each (training seed, "
    "task); tasks and training seeds are not drawn. Normalised: (return - random) / (optimal - random) of "
    "the task. last_10: mean of a run's last 10 episodes. auc: mean normalised return over all episodes. "
    "episodes_to_90: first episode at which the normalised iqm is at least 0.9. regret: return lost against "
    "posterior sampling, summed over the episodes, mean over runs. dead_tasks: tasks whose normalised "
    "last_10 is under 0.2 in the mean over evaluation seeds, for any training seed."
)

Reference = np.ndarray | Mapping[str, np.ndarray]


def write_report(
    directory: str | os.PathLike[str],
    parts: Mapping[str, Sequence[Evaluation]],
    references: Mapping[str, Reference] | None = None,
    source_curve: np.ndarray | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    windows: Sequence[tuple[int, int]] = (),
    grid: int | None = None,
    title: str = "In-context evaluation",
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Summarises evaluations and writes `report.json`, `report.csv`, `report.png` and `report.html`.

    Args:
      directory: made if it is missing; each file is written aside and renamed.
      parts: evaluations by name, each a list with one per training seed. Names: `train`, `held_out`,
        `controls.rewards_zeroed`, `controls.context_cleared`; a dot nests in the result. `held_out` must be
        there.
      references: curves of agents to compare with, by name: `posterior_sampling`, `optimal`, `random` or any
        other. Each is the mean return per episode `[episode]`, or returns `[task, seed, episode]` in the
        order of the part's tasks, or a mapping from a part's name to one of these; a control takes those of
        `held_out`. Optimal and random lines come from the evaluations' own bounds where they are not given.
      source_curve: mean return of the source algorithm per episode of its own, `[episode]`.
      settings: what to show of the run's configuration, nested as it is; must be JSON-able.
      windows: further summaries over episodes, first and last counted from 1, such as `(36, 45)`.
      grid: side of the square that the tasks are cells of (task = row * grid + column), for the map of tasks.
      title: of the page.
      resamples: of the bootstrap.

    Returns:
      The content of `report.json`: `train`, `held_out` and `controls`, `references`, `source`, `settings`,
      `method`, `format`. Numbers that do not exist (no bounds, no reference) are None.

    Raises:
      ValueError: if `held_out` is missing, shapes do not agree, or a window is outside the episodes.
    """
    if "held_out" not in parts:
        raise ValueError(f"a report needs the part 'held_out'; it was given {sorted(parts)}")
    references, settings = dict(references or {}), dict(settings or {})
    report: dict[str, Any] = {"format": FORMAT, "title": title}
    for name, evaluations in parts.items():
        posterior = _of_part(references.get("posterior_sampling"), name)
        *parents, last = name.split(".")
        node = report
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = summarise(evaluations, posterior, windows, resamples)
    report["references"] = {
        part: {
            name: _both_curves(curve, parts[part])
            for name in references
            if (curve := _of_part(references[name], part)) is not None
        }
        for part in ("train", "held_out")
        if part in parts
    }
    report["source"] = None
    if source_curve is not None:
        reference = parts["train"] if "train" in parts else parts["held_out"]
        report["source"] = _both_curves(np.asarray(source_curve), reference)
    report["settings"] = settings
    report["method"] = _METHOD
    report = _without_nan(report)

    # All is made before anything is written: an error leaves an earlier report as it was.
    figure = curves_figure(report)
    files = {
        "report.json": json.dumps(report, indent=1, allow_nan=False) + "\n",
        "report.csv": _csv(parts),
        "report.png": pages.png(figure),
        "report.html": _page(report, figure, grid),
    }
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        pages.write(directory / name, content)
    return report


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """Five lines that say what was measured."""
    held_out, controls = report["held_out"], report.get("controls", {})
    bounded = held_out["optimum"] is not None
    last = held_out[f"last_{LAST}"]["episodes"]
    lines = [f"Held-out tasks, last {last} of {held_out['episodes']} episodes: {_sentence(held_out)}"]
    lines.append(
        f"Training tasks: {_sentence(report['train'])}"
        if "train" in report
        else "Training tasks: not evaluated"
    )
    key = f"last_{LAST}_normalised" if bounded else f"last_{LAST}"
    curve = (held_out["by_episode"]["normalised"] if bounded else held_out["by_episode"])["iqm"]
    marks = sorted({1, 10, 40, len(curve)} & set(range(1, len(curve) + 1)))
    within = ", ".join(f"{curve[i - 1]:.2f} at episode {i}" for i in marks)
    if bounded:
        reached = held_out["episodes_to_90"]
        within += f"; 90 % of the optimum {f'from episode {reached}' if reached else 'not reached'}"
    lines.append(f"Learning in context: {within}")
    shown = [f"{name.replace('_', ' ')} {pages.show(part[key]['iqm'], 2)}" for name, part in controls.items()]
    lines.append(
        f"Controls that a real in-context learner fails: {', '.join(shown)}"
        if shown
        else "Controls: not evaluated"
    )
    worst = held_out["worst_task"]
    of = f" of {worst['optimum']:.2f}" if bounded else ""
    dead = f"; dead held-out tasks: {held_out['dead_tasks']} of {held_out['tasks']}" if bounded else ""
    lines.append(f"Worst held-out task: {worst['id']} with {worst['mean']:.2f}{of}{dead}")
    return lines


def curves_figure(report: Mapping[str, Any]):
    """The in-context curves of a report as a matplotlib figure."""
    bounded = report["held_out"]["by_episode"]["normalised"] is not None
    kind = "normalised" if bounded else "raw"
    panels = []
    for part in ("held_out", "train"):
        if part not in report:
            continue
        summary = report[part]
        curve = summary["by_episode"]["normalised"] if bounded else summary["by_episode"]
        lines = [_figures.Line("distilled", curve["iqm"], _figures.DISTILLED, "-", curve["ci"], 2.2)]
        references = {name: curves[kind] for name, curves in report["references"][part].items()}
        flat = {
            "optimal": 1.0 if bounded else summary["optimum"],
            "random": 0.0 if bounded else summary["random"],
        }
        for name, level in flat.items():
            if level is not None:
                references.setdefault(name, [level] * summary["episodes"])
        for name, values in references.items():
            label, ink, style = _REFERENCES.get(name, (name.replace("_", " "), _figures.SOURCE, ":"))
            lines.append(_figures.Line(label, values, ink, style))
        if report["source"] is not None:
            lines.append(_figures.Line("source's own", report["source"][kind], _figures.SOURCE, "-."))
        if part == "held_out":
            for (name, control), ink in zip(
                report.get("controls", {}).items(), _figures.CONTROLS, strict=False
            ):
                values = control["by_episode"]["normalised"] if bounded else control["by_episode"]
                lines.append(
                    _figures.Line(name.replace("_", " "), values["iqm"], ink, "-", values["ci"], 1.2)
                )
        panels.append((_TITLES[part], lines))
    ylabel = "normalised return" if bounded else "return"
    return _figures.curves(panels, ylabel, report["held_out"]["episodes"])


def _of_part(reference: Reference | None, part: str) -> np.ndarray | None:
    if isinstance(reference, Mapping):
        return reference.get(part, reference.get("held_out") if part.startswith("controls.") else None)
    return reference


def _both_curves(curve: np.ndarray, evaluations: Sequence[Evaluation]) -> dict[str, list[float]]:
    aligned, data = align(curve, evaluations), st.strata(evaluations)
    return {"raw": aligned[None].tolist(), "normalised": normalised_curve(aligned, data).tolist()}


def _sentence(part: Mapping[str, Any]) -> str:
    raw, normalised = part[f"last_{LAST}"], part[f"last_{LAST}_normalised"]
    text = f"{raw['iqm']:.2f} (95 % interval {pages.interval(raw['ci'], 2)})"
    if part["optimum"] is None:
        return f"{text}, random {pages.show(part['random'], 2)}"
    within = pages.interval(normalised["ci"])
    return f"{text} of {part['optimum']:.2f}; normalised {normalised['iqm']:.3f} ({within})"


def _page(report: Mapping[str, Any], figure, grid: int | None) -> str:
    shown = {name: part for name, part in _all_parts(report) if part is not None}
    held_out = report["held_out"]
    bounded = held_out["optimum"] is not None
    key = f"last_{LAST}_normalised" if bounded else f"last_{LAST}"
    cards = [
        (
            "held-out, last 10, normalised" if bounded else "held-out, last 10",
            pages.show(held_out[key]["iqm"]),
        )
    ]
    cards.append(("95 % interval", pages.interval(held_out[key]["ci"])))
    if "train" in shown:
        cards.append(("training tasks", pages.show(shown["train"][key]["iqm"])))
    if bounded:
        cards.append(("dead held-out tasks", f"{held_out['dead_tasks']} of {held_out['tasks']}"))
        cards.append(("episodes to 90 % of the optimum", pages.show(held_out["episodes_to_90"])))
    seeds = held_out["training_seeds"]
    lead = (
        f"{held_out['tasks']} held-out tasks, {seeds} training seed{'s' if seeds > 1 else ''}, "
        f"{held_out['evaluation_seeds']} evaluation seeds, {held_out['episodes']} episodes in context, "
        "weights frozen."
    )
    sections = [
        pages.cards(cards),
        pages.heading("Learning in context"),
        pages.figure(pages.svg(figure, "curves")),
        pages.note(
            "Lines with bands are interquartile means with 95 % intervals; posterior sampling and the "
            "source's own curve are means. The source learns by updating weights or tables; its episodes are "
            "counted from 1."
        ),
        pages.heading("Summary"),
        _summary_table(shown),
        *_window_table(shown),
    ]
    if grid is not None and bounded:
        values, outlined = _on_grid(report, grid)
        drawn = _figures.task_map(values, outlined, "normalised return, last 10 episodes")
        sections += [
            pages.heading("Tasks on the grid"),
            pages.figure(pages.svg(drawn, "tasks"), small=True),
            pages.note("Each cell is the task whose goal is there; red frames are held out."),
        ]
    sections += [pages.heading("Tasks"), _task_table(held_out)]
    sections += [
        pages.folded(f"{_TITLES.get(name, name)}, {part['tasks']} tasks", _task_table(part))
        for name, part in shown.items()
        if name != "held_out"
    ]
    if seeds > 1:
        rows = [
            (i, row["last_10"], row["last_10_normalised"])
            for i, row in enumerate(held_out["by_training_seed"])
        ]
        sections += [pages.heading("Training seeds"), pages.table(("seed", "last 10", "normalised"), rows)]
    settings = [(name, str(value)) for name, value in pages.flatten(report["settings"]).items()]
    sections += [
        pages.heading("Settings"),
        pages.table(("setting", "value"), settings, words=True)
        if settings
        else pages.note("None were given."),
        pages.heading("How the numbers are made"),
        pages.note(report["method"]),
    ]
    return pages.page(report["title"], lead, sections)


def _all_parts(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None]]:
    controls = [(f"controls.{name}", part) for name, part in report.get("controls", {}).items()]
    return [("held_out", report["held_out"]), ("train", report.get("train")), *controls]


def _summary_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    headers = (
        "",
        "last 10",
        "95 %",
        "optimum",
        "random",
        "normalised",
        "95 %",
        "AUC",
        "to 90 %",
        "regret",
        "dead",
        "worst",
    )
    rows = [
        (
            _TITLES.get(name, name),
            part["last_10"]["iqm"],
            pages.interval(part["last_10"]["ci"], 2),
            part["optimum"],
            part["random"],
            part["last_10_normalised"]["iqm"],
            pages.interval(part["last_10_normalised"]["ci"], 2),
            part["auc"]["iqm"],
            part["episodes_to_90"],
            None if part["regret"] is None else pages.show(part["regret"]["mean"], 1),
            None if part["dead_tasks"] is None else f"{part['dead_tasks']} of {part['tasks']}",
            part["worst_task"]["normalised" if part["optimum"] is not None else "mean"],
        )
        for name, part in parts.items()
    ]
    return pages.table(headers, rows)


def _window_table(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            _TITLES.get(name, name),
            episodes,
            window["iqm"],
            pages.interval(window["ci"], 2),
            window["normalised"]["iqm"],
            pages.interval(window["normalised"]["ci"]),
        )
        for name, part in parts.items()
        for episodes, window in part["windows"].items()
    ]
    headers = ("", "episodes", "return", "95 %", "normalised", "95 %")
    return [pages.heading("Other windows"), pages.table(headers, rows)] if rows else []


def _task_table(part: Mapping[str, Any]) -> str:
    headers = ("task", "last 10", "10 % quantile", "90 % quantile", "random", "optimum", "normalised")
    names = ("id", "mean", "low", "high", "random", "optimum", "normalised")
    tasks = sorted(
        part["by_task"], key=lambda row: row["mean"] if row["normalised"] is None else row["normalised"]
    )
    return pages.table(
        headers, [[row[name] for name in names] for row in tasks], [row["dead"] for row in tasks]
    )


def _on_grid(report: Mapping[str, Any], side: int) -> tuple[np.ndarray, np.ndarray]:
    values, outlined = np.full((side, side), np.nan), np.zeros((side, side), bool)
    for name in ("train", "held_out"):
        for row in report.get(name, {}).get("by_task", ()):
            if not 0 <= row["id"] < side * side:
                raise ValueError(f"task {row['id']} is not a cell of a {side} by {side} grid")
            cell = divmod(row["id"], side)
            values[cell] = row["normalised"]
            outlined[cell] |= name == "held_out"
    return values, outlined


def _csv(parts: Mapping[str, Sequence[Evaluation]]) -> str:
    """One row per part, training seed, task and episode: mean and deviation over the evaluation seeds."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ("part", "training_seed", "task", "episode", "mean", "standard_deviation", "random", "optimum")
    )
    for name, evaluations in parts.items():
        for seed, evaluation in enumerate(evaluations):
            returns = np.asarray(evaluation.returns, np.float64)
            means, deviations = returns.mean(axis=1), returns.std(axis=1)
            for i, task in enumerate(np.asarray(evaluation.task_ids).tolist()):
                bounds = [_cell(evaluation.random[i]), _cell(evaluation.optimal[i])]
                for episode in range(returns.shape[-1]):
                    numbers = (f"{means[i, episode]:.6g}", f"{deviations[i, episode]:.6g}")
                    writer.writerow((name, seed, task, episode + 1, *numbers, *bounds))
    return file.getvalue()


def _cell(number: float) -> str:
    return f"{float(number):.6g}" if math.isfinite(number) else ""


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _without_nan(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(x) for x in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
