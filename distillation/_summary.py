"""One part of a report: what a list of evaluations comes to, in plain numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import statistics as st
from ._types import Evaluation


LAST = 10
RESAMPLES = 2000
_CURVE_WORK = 30_000_000


def summarise(
    evaluations: Sequence[Evaluation],
    posterior: np.ndarray | None = None,
    windows: Sequence[tuple[int, int]] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Summary of one part (`train`, `held_out`, a control), JSON-able but for NaN where something is unknown.

    Args:
      evaluations: one per training seed.
      posterior: returns of posterior sampling, as in `align`.
      windows: first and last episode, counted from 1, of further summaries.
      resamples: of the bootstrap of single numbers; curves get fewer where there are many runs.
    """
    data = st.strata(evaluations)
    normalised = st.normalise(data.returns, data.random, data.optimal)
    episodes = data.returns.shape[-1]
    last = min(LAST, episodes)
    last_raw, last_normalised = data.returns[..., -last:].mean(-1), normalised[..., -last:].mean(-1)

    def estimated(values: np.ndarray, statistic=st.iqm, name: str = "iqm") -> dict[str, Any]:
        if not np.isfinite(values).all():
            return {name: math.nan, "ci": [math.nan, math.nan]}
        estimate = st.stratified_bootstrap(values, statistic, resamples)
        return {name: float(estimate.value), "ci": [float(estimate.low), float(estimate.high)]}

    def window(first: int, after: int) -> dict[str, Any]:
        raw, scaled = data.returns[..., first:after].mean(-1), normalised[..., first:after].mean(-1)
        return {**estimated(raw), "mean": float(raw.mean()), "normalised": estimated(scaled)}

    by_task = _by_task(data, last_raw, last_normalised)
    worst = min(by_task, key=lambda row: row["normalised"] if data.has_bounds else row["mean"])
    by_normalised = _curve(normalised, resamples) if data.has_bounds else None
    regret = None
    if posterior is not None:
        lost = st.cumulative_regret(data.returns, _per_stratum(align(posterior, evaluations), data))
        compared = min(episodes, np.shape(posterior)[-1])
        regret = {**estimated(lost, st.mean, "mean"), "episodes": compared}
    return {
        "tasks": len(by_task),
        "training_seeds": len(evaluations),
        "evaluation_seeds": data.returns.shape[1],
        "episodes": episodes,
        f"last_{LAST}": {**estimated(last_raw), "mean": float(last_raw.mean()), "episodes": last},
        f"last_{LAST}_normalised": {**estimated(last_normalised), "mean": float(last_normalised.mean())},
        "optimum": float(data.optimal.mean()),
        "random": float(data.random.mean()),
        "auc": estimated(st.area_under_curve(normalised)),
        "episodes_to_90": None if by_normalised is None else st.episodes_to(np.array(by_normalised["iqm"])),
        "regret": regret,
        "dead_tasks": sum(row["dead"] for row in by_task) if data.has_bounds else None,
        "worst_task": {name: worst[name] for name in ("id", "mean", "normalised", "optimum")},
        "windows": {
            f"{first}-{final}": window(first - 1, final) for first, final in _checked(windows, episodes)
        },
        "by_training_seed": [
            {
                "last_10": float(st.iqm(last_raw[data.training_seeds == i].ravel())),
                "last_10_normalised": float(st.iqm(last_normalised[data.training_seeds == i].ravel())),
            }
            for i in range(len(evaluations))
        ],
        "by_episode": {**_curve(data.returns, resamples), "normalised": by_normalised},
        "by_task": by_task,
    }


def align(reference: np.ndarray, evaluations: Sequence[Evaluation]) -> dict[int | None, np.ndarray]:
    """Mean curve of a reference agent per task id, and for all tasks together under the key None.

    Args:
      reference: mean return per episode `[episode]`, or returns `[task, seed, episode]` in the order of the
        first evaluation's tasks.
      evaluations: of the part that the reference is for.

    Raises:
      ValueError: if the reference has another shape, or other tasks.
    """
    reference = np.asarray(reference, np.float64)
    if reference.ndim == 1:
        return {None: reference}
    ids = np.asarray(evaluations[0].task_ids).tolist()
    if reference.ndim != 3 or len(reference) != len(ids):
        raise ValueError(
            f"a reference must be [episode], or [task, seed, episode] with the {len(ids)} tasks of the "
            f"evaluation; its shape is {reference.shape}"
        )
    by_task = reference.mean(axis=1)
    return {None: by_task.mean(axis=0), **dict(zip(ids, by_task, strict=True))}


def normalised_curve(curves: Mapping[int | None, np.ndarray], data: st.Strata) -> np.ndarray:
    """Mean normalised return per episode of an aligned reference."""
    if len(curves) == 1:
        return st.normalise(
            curves[None][None], data.random.mean(keepdims=True), data.optimal.mean(keepdims=True)
        )[0]
    return st.normalise(_per_stratum(curves, data)[:, 0], data.random, data.optimal).mean(axis=0)


def _per_stratum(curves: Mapping[int | None, np.ndarray], data: st.Strata) -> np.ndarray:
    """`[stratum, 1, episode]`: a task that the reference lacks gets the curve of all tasks."""
    return np.stack([curves.get(task, curves[None]) for task in data.task_ids.tolist()])[:, None]


def _curve(values: np.ndarray, resamples: int) -> dict[str, Any]:
    # A picture's band needs fewer resamples than a number in a table, and has one number per episode.
    affordable = min(resamples, int(np.clip(_CURVE_WORK // values.size, 200, 1000)))
    estimate = st.stratified_bootstrap(values, resamples=affordable)
    return {
        "iqm": estimate.value.tolist(),
        "ci": np.stack([estimate.low, estimate.high], axis=-1).tolist(),
        "mean": values.mean(axis=(0, 1)).tolist(),
        "resamples": affordable,
    }


def _by_task(data: st.Strata, last_raw: np.ndarray, last_normalised: np.ndarray) -> list[dict[str, Any]]:
    dead = st.dead(last_normalised)
    rows = []
    for task in np.unique(data.task_ids).tolist():
        chosen = data.task_ids == task
        rows.append(
            {
                "id": task,
                "mean": float(last_raw[chosen].mean()),
                "low": float(np.quantile(last_raw[chosen], 0.1)),
                "high": float(np.quantile(last_raw[chosen], 0.9)),
                "random": float(data.random[chosen].mean()),
                "optimum": float(data.optimal[chosen].mean()),
                "normalised": float(last_normalised[chosen].mean()),
                "dead": bool(dead[chosen].any()),
            }
        )
    return rows


def _checked(windows: Sequence[tuple[int, int]], episodes: int) -> list[tuple[int, int]]:
    for first, final in windows:
        if not 1 <= first <= final <= episodes:
            raise ValueError(
                f"a window of episodes {first} to {final} is not within the {episodes} that were evaluated"
            )
    return list(windows)
