"""Figures and the table of `vlm_rewards`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np


matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw_curves(path: pathlib.Path, families: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
    """Labelled return and true success on held-out goals over steps, means and ranges over seeds, a row a family."""
    figure, axes = plt.subplots(
        len(families), 2, figsize=(11, 3.4 * len(families)), squeeze=False, sharex="row"
    )
    for row, (family, runs) in zip(axes, families.items()):
        for reward, seeds in runs.items():
            steps = np.array(seeds[0]["steps"])
            for axis, name in zip(row, ("labelled", "held_out")):
                values = np.array([run[name] for run in seeds], float)
                kept = np.isfinite(values).all(axis=0)
                (line,) = axis.plot(steps[kept], values[:, kept].mean(0), label=reward)
                low, high = values[:, kept].min(0), values[:, kept].max(0)
                axis.fill_between(steps[kept], low, high, color=line.get_color(), alpha=0.15)
        row[0].set(ylabel=family, title="paid episodes, training goals", ylim=(0, 1))
        row[1].set(title="true success, held-out goals", ylim=(0, 1))
        row[0].legend(fontsize=7)
    _save(figure, path)


def draw_precision_recall(path: pathlib.Path, offline: Mapping[str, Mapping[str, Any]]) -> None:
    """Curves of the ladder, on made frames and on frames of the agents that were trained by each."""
    figure, axes = plt.subplots(len(offline), 2, figsize=(9, 3.4 * len(offline)), squeeze=False)
    for row, (family, sizes) in zip(axes, offline.items()):
        for axis, part in zip(row, ("all", "on policy")):
            for size, parts in sizes.items():
                if part in parts:
                    axis.plot(parts[part]["curve"]["recall"], parts[part]["curve"]["precision"], label=size)
            axis.set(title=f"{family}, {part}", xlabel="recall", ylabel="precision", ylim=(0, 1.02))
        row[0].legend(fontsize=7)
    _save(figure, path)


def draw_correlation(
    path: pathlib.Path, points: Mapping[str, Mapping[str, tuple[float, Sequence[float]]]]
) -> None:
    """Average precision offline against true success online, a point a (size, seed)."""
    figure, axis = plt.subplots(figsize=(5, 4))
    for family, sizes in points.items():
        x = [score for score, seeds in sizes.values() for _ in seeds]
        axis.scatter(x, [value for _, seeds in sizes.values() for value in seeds], label=family, s=18)
    axis.set(xlabel="average precision, offline", ylabel="true success on held-out goals, online")
    axis.legend(fontsize=7)
    _save(figure, path)


def table(families: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row a family and reward."""
    rows = [
        "| family | reward | success on held-out goals | share of the truth's | first hits right |",
        "|---|---|---|---|---|",
    ]
    for family, rewards in families.items():
        for reward, found in rewards.items():
            cells = [found[name] for name in ("held_out_success", "share_of_truth", "first_hit_precision")]
            rows.append(f"| {family} | {reward} | " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(rows)


def _cell(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "none"
    low, high = found["ci"]
    return f"{found['value']:.3f} ({low:.3f} to {high:.3f})" if low is not None else f"{found['value']:.3f}"


def _save(figure: Any, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
