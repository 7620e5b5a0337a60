"""Pictures of a report: in-context curves and the map of tasks, as figures of matplotlib."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..encoders.pages import STYLE


DISTILLED, POSTERIOR, SOURCE, CHANCE, BEST = "#1f5fd0", "#7a3fb5", "#d07a1f", "#8a8f98", "#22252a"
CONTROLS = ("#c23b4b", "#e08a96", "#a04f7f")
RUNS = ("#1f5fd0", "#d07a1f", "#2a8c5a", "#c23b4b", "#7a3fb5", "#0f8b8d", "#8c6d1f", "#5b6470")


class Line(NamedTuple):
    """One curve: `values` `[episode]`, the first at episode 1, and its interval `[episode, 2]` if any."""

    label: str
    values: np.ndarray
    colour: str
    style: Any = "-"
    band: np.ndarray | None = None
    width: float = 1.6


def curves(panels: Sequence[tuple[str, Sequence[Line]]], ylabel: str, episodes: int, width: float = 5.4):
    """A figure of curves over the episodes, one panel of `width` inches beside the other on one scale."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width * len(panels), 4.3), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (title, lines) in zip(axes, panels, strict=True):
            for line in lines:
                values = np.asarray(line.values, float)[:episodes]
                x = np.arange(1, len(values) + 1)
                if line.band is not None:
                    low, high = np.asarray(line.band, float)[:episodes].T
                    ax.fill_between(x, low, high, color=line.colour, alpha=0.18, linewidth=0)
                ax.plot(x, values, line.style, color=line.colour, label=line.label, linewidth=line.width)
            ax.set_title(title)
            ax.set_xlabel("episode in context")
            ax.set_xlim(1, max(episodes, 2))
            ax.grid(axis="y")
            ax.set_axisbelow(True)
        axes[0].set_ylabel(ylabel)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def task_map(values: np.ndarray, outlined: np.ndarray, label: str):
    """A figure of numbers on a square grid, `[row, column]`; NaN cells are empty, `outlined` ones framed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    side = len(values)
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.6), layout="compressed")
        ax = figure.subplots()
        image = ax.imshow(values, vmin=0.0, vmax=1.0, cmap="YlGnBu")
        for row, column in np.argwhere(np.isfinite(values)):
            if side <= 12:
                ink = "white" if values[row, column] > 0.55 else "#22252a"
                text = f"{values[row, column]:.2f}".replace("0.", ".", 1)
                ax.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
        for row, column in np.argwhere(outlined):
            frame = Rectangle(
                (column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor="#c23b4b", linewidth=2
            )
            ax.add_patch(frame)
        ticks = range(0, side, 1 if side <= 12 else 4)
        ax.set_xticks(ticks)
        ax.set_yticks(ticks)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        figure.colorbar(image, ax=ax, shrink=0.85, label=label)
    return figure
