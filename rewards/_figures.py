"""Drawings of an evaluation: precision over recall, and reliability."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..encoders.pages import STYLE


_INKS = ("#22252a", "#1f5fd0", "#d07a1f", "#2a8c5a", "#c23b4b", "#7a3fb5", "#0f8b8d", "#8c6d1f", "#5b6470")


def precision_recall(parts: Mapping[str, Mapping[str, Any]]):
    """A figure of each part's curve, its operating point as a dot; the first part's with its interval."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        ax = figure.subplots()
        for i, (name, part) in enumerate(parts.items()):
            ink, curve = _INKS[i % len(_INKS)], part["curve"]
            if curve["thresholds"]:
                recall, precision = (
                    np.asarray(curve[key]["value"], float) for key in ("recall", "precision")
                )
                ax.step(recall, precision, where="post", color=ink, label=name, linewidth=1.2 if i else 2.2)
                if i == 0:
                    low, high = (np.asarray(curve["precision"][key], float) for key in ("low", "high"))
                    ax.fill_between(recall, low, high, step="post", color=ink, alpha=0.15, linewidth=0)
            ax.plot(part["recall"]["value"], part["precision"]["value"], "o", color=ink, markersize=5)
        ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        ax.grid()
        ax.set_axisbelow(True)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def reliability(parts: Mapping[str, Mapping[str, Any]]):
    """A figure of the frequency of truth over the score, a line for each part that has scores in [0, 1]."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        ax = figure.subplots()
        ax.plot((0, 1), (0, 1), ":", color="#8a8f98")
        for i, (name, part) in enumerate(parts.items()):
            if (bins := part["reliability"]) is None:
                continue
            x, y = np.asarray(bins["confidence"], float), np.asarray(bins["frequency"]["value"], float)
            filled = np.isfinite(x)
            ink = _INKS[i % len(_INKS)]
            ax.plot(
                x[filled], y[filled], "o-", color=ink, label=name, markersize=4, linewidth=1.2 if i else 2.2
            )
            if i == 0:
                low, high = (np.asarray(bins["frequency"][key], float) for key in ("low", "high"))
                ax.vlines(x[filled], low[filled], high[filled], color=ink, alpha=0.5)
        ax.set(
            xlabel="mean score of the bin",
            ylabel="share that is true",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        ax.grid()
        ax.set_axisbelow(True)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
