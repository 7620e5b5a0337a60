"""Draws Zorro's masks: `python -m limbeck.encoders.mask_figure docs/zorro_mask.png`."""

import argparse
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .masks import FUSION, GLOBAL, allow, readout_allow
from .pages import STYLE, png


def draw_masks(counts: Mapping[str, int]) -> Any:
    """The trunk's mask and the readouts'.

    Args:
      counts: tokens by name; `fusion` is one of the names, the others are modalities in the order of their types.

    Returns:
      A matplotlib figure.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    modalities = [name for name in counts if name != "fusion"]
    numbers = {name: i for i, name in enumerate(modalities, start=1)} | {"fusion": FUSION}
    types = np.repeat([numbers[name] for name in counts], list(counts.values()))
    rows = {**{name: numbers[name] for name in counts}, "global": GLOBAL}
    ends = np.cumsum(list(counts.values()))
    middles = ends - np.array(list(counts.values())) / 2
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        trunk, readouts = figure.subplots(1, 2)
        for axes, mask, title in (
            (trunk, allow(types, types), "Trunk"),
            (readouts, readout_allow(np.array(list(rows.values())), types), "Readouts"),
        ):
            axes.pcolormesh(mask, cmap="Blues", vmin=-0.1, vmax=1.4, edgecolors="white", linewidth=1.5)
            axes.invert_yaxis()
            axes.set_title(title)
            axes.set_xlabel("is read (keys)")
            axes.set_xticks(middles, list(counts))
            axes.tick_params(length=0)
            for end in ends[:-1]:
                axes.axvline(end, color="#5b6470", linewidth=1.2)
        for end in ends[:-1]:
            trunk.axhline(end, color="#5b6470", linewidth=1.2)
        trunk.set_yticks(middles, list(counts))
        trunk.set_ylabel("reads (queries)")
        readouts.set_yticks(np.arange(len(rows)) + 0.5, list(rows))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.parse_args().out.write_bytes(png(draw_masks({"audio": 4, "fusion": 2, "video": 6})))


if __name__ == "__main__":
    main()
