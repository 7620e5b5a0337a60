"""Several runs beside each other: held-out curves with their intervals, and the settings that differ."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ..encoders import pages
from . import _figures
from ._summary import LAST


def compare(reports: Mapping[str, Mapping[str, Any]], directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Lays held-out results of runs beside each other: `compare.json`, `compare.png`, `compare.html`.

    Curves are normalised where every run has bounds, and raw returns otherwise. Each interval says how well
    one run's evaluation is known; runs whose intervals are apart still have to be on the same held-out tasks
    to be compared, and `same_tasks` says whether they are.

    Args:
      reports: contents of `report.json` by the run's name, in the order to show them.
      directory: made if it is missing.

    Returns:
      The content of `compare.json`: `runs` (by name: `last_10`, `last_10_normalised`, `auc`,
      `episodes_to_90`, `dead_tasks`, `tasks`, `episodes`), `same_tasks`, and `settings` (those that differ:
      by name, the value in each run).

    Raises:
      ValueError: if there are fewer than two runs, or one is not a report.
    """
    if len(reports) < 2:
        raise ValueError(f"a comparison needs two runs or more; it was given {list(reports)}")
    for name, report in reports.items():
        if "held_out" not in report:
            raise ValueError(f"{name} is not a report: it has no held-out part")
    held_out = {name: report["held_out"] for name, report in reports.items()}
    flat = {name: pages.flatten(report.get("settings") or {}) for name, report in reports.items()}
    names = sorted({setting for settings in flat.values() for setting in settings})
    table = {setting: {name: settings.get(setting) for name, settings in flat.items()} for setting in names}
    first = next(iter(reports))
    differing = {
        setting: values
        for setting, values in table.items()
        if any(value != values[first] for value in values.values())
    }
    kept = (
        f"last_{LAST}",
        f"last_{LAST}_normalised",
        "auc",
        "episodes_to_90",
        "dead_tasks",
        "tasks",
        "episodes",
    )
    tasks = {tuple(row["id"] for row in part["by_task"]) for part in held_out.values()}
    result = {
        "runs": {name: {key: part[key] for key in kept} for name, part in held_out.items()},
        "same_tasks": len(tasks) == 1,
        "settings": differing,
    }
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    figure = _figure(held_out)
    pages.write(directory / "compare.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    pages.write(directory / "compare.png", pages.png(figure))
    pages.write(directory / "compare.html", _page(result, figure))
    return result


def _figure(held_out: Mapping[str, Mapping[str, Any]]):
    bounded = all(part["by_episode"]["normalised"] is not None for part in held_out.values())
    lines = []
    for i, (name, part) in enumerate(held_out.items()):
        curve = part["by_episode"]["normalised"] if bounded else part["by_episode"]
        colour = _figures.RUNS[i % len(_figures.RUNS)]
        # Colours come round after eight runs; the dashes then tell them apart.
        style = ("-", "--", ":")[i // len(_figures.RUNS) % 3]
        lines.append(_figures.Line(name, curve["iqm"], colour, style, curve["ci"], 2.0))
    episodes = max(part["episodes"] for part in held_out.values())
    ylabel = "normalised return" if bounded else "return"
    return _figures.curves([("Held-out tasks", lines)], ylabel, episodes, width=8.0)


def _page(result: Mapping[str, Any], figure) -> str:
    rows = [
        (
            name,
            run["last_10"]["iqm"],
            pages.interval(run["last_10"]["ci"], 2),
            run["last_10_normalised"]["iqm"],
            pages.interval(run["last_10_normalised"]["ci"]),
            run["auc"]["iqm"],
            run["episodes_to_90"],
            None if run["dead_tasks"] is None else f"{run['dead_tasks']} of {run['tasks']}",
            run["episodes"],
        )
        for name, run in result["runs"].items()
    ]
    headers = ("run", "last 10", "95 %", "normalised", "95 %", "AUC", "to 90 %", "dead", "episodes")
    same = (
        "on the same held-out tasks"
        if result["same_tasks"]
        else "on different held-out tasks: compare with care"
    )
    settings = [
        (setting, *("–" if value is None else str(value) for value in values.values()))
        for setting, values in result["settings"].items()
    ]
    sections = [
        pages.figure(pages.svg(figure, "compare")),
        pages.note(
            "Interquartile means over runs, with 95 % intervals by a bootstrap within training seed and task."
        ),
        pages.heading("Last 10 episodes"),
        pages.table(headers, rows),
        pages.heading("Settings that differ"),
        pages.table(("setting", *result["runs"]), settings, words=True) if settings else pages.note("None."),
    ]
    return pages.page("Comparison", f"{len(rows)} runs, {same}.", sections)
