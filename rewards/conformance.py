"""The conformance kit: whether a reward model keeps the contract of its form."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..agents import Trajectory
from ..envs import LAST, MID
from .contract import UNIT_TOLERANCE, RewardError, check_frames, form_of


# How far rewards and coordinates of embeddings may move with the batch that they are computed in.
TOLERANCE = 1e-4

_GOALS = ("a red ball", "a blue key", "a green box")
_FRAMES = 7
_SIDE = 64


class Finding(NamedTuple):
    """One requirement.

    Attributes:
      name: of the requirement.
      passed: whether it is met.
      detail: what was found; where it is not met, what to do.
    """

    name: str
    passed: bool
    detail: str


def check(
    model: Any,
    goals: Sequence[str] | None = None,
    frames: np.ndarray | None = None,
    trajectory: Trajectory | None = None,
) -> list[Finding]:
    """Checks a reward model of any of the three forms.

    Args:
      model: the model.
      goals: texts that it knows. None: its own attribute `goals` where it has one, else some texts.
      frames: uint8 `[N, H, W, 3]`, 2 or more, better different ones. None: noise of 64 x 64 pixels.
      trajectory: for a trajectory scorer `[T, …]`. None: two episodes of `frames`, under the key `image`.

    Returns:
      One finding for each requirement, the speed last. After one that makes the rest pointless (the model has no
      form, a call raises) none follows.

    Raises:
      RewardError: the frames or goals to check with are themselves unfit.
    """
    goals = list(goals if goals is not None else getattr(model, "goals", None) or _GOALS)
    if not goals:
        raise RewardError("a check needs at least one goal")
    if frames is None:
        frames = np.random.default_rng(0).integers(0, 256, (_FRAMES, _SIDE, _SIDE, 3), np.uint8)
    frames = check_frames(frames)
    if len(frames) < 2:
        raise RewardError(f"a check needs at least 2 frames, got {len(frames)}")
    report = _Report()
    try:
        form = report.require("form", lambda: form_of(model))
        if form == "callable":
            _check_callable(report, model, goals, frames)
        elif form == "encoder":
            _check_encoder(report, model, goals, frames)
        else:
            _check_scorer(report, model, goals, _trajectory(frames) if trajectory is None else trajectory)
    except _PointlessError:
        pass
    return report.findings


class _PointlessError(Exception):
    """Nothing more can be found out."""


class _Report:
    def __init__(self):
        self.findings: list[Finding] = []

    def add(self, name: str, passed: bool, detail: str = "", otherwise: str = "") -> None:
        self.findings.append(Finding(name, bool(passed), detail if passed else otherwise))

    def require(self, name: str, call: Callable[[], Any]) -> Any:
        """What a call returns. A failure where it raises, and the end."""
        try:
            result = call()
        except Exception as error:  # Whatever a model raises is a finding.
            kind = "" if isinstance(error, RewardError) else f"{type(error).__name__}: "
            self.add(name, False, otherwise=" ".join(f"{kind}{error}".split()))
            raise _PointlessError from error
        self.add(name, True, result if isinstance(result, str) else "")
        return result

    def numbers(
        self, of: str, found: np.ndarray, shape: tuple[int, ...], range: tuple[float, float] | None
    ) -> None:
        """Shape (the end where it is another), dtype, finiteness and range; a range of None is that of unit vectors."""

        def check_shape() -> None:
            if len(found.shape) != len(shape) or any(n not in (-1, m) for n, m in zip(shape, found.shape)):
                wanted = ", ".join("D" if n == -1 else str(n) for n in shape)
                raise RewardError(f"expected shape [{wanted}], got {list(found.shape)}")

        self.require(f"shape of {of}", check_shape)
        kind = found.dtype
        self.add(
            f"dtype of {of}", kind == np.float32, "", f"expected float32, got {kind}: .astype(np.float32)"
        )
        wrong = int((~np.isfinite(found)).sum())
        self.add(f"finite {of}", not wrong, "", f"{wrong} of {found.size} numbers are not finite")
        known = found[np.isfinite(found)] if range else np.linalg.norm(np.nan_to_num(found), axis=-1)
        low, high = range or (1 - UNIT_TOLERANCE, 1 + UNIT_TOLERANCE)
        span = f"from {known.min():g} to {known.max():g}" if known.size else "none"
        what = f"range of {of}" if range else f"length of {of}"
        self.add(
            what,
            not ((known < low) | (known > high)).any(),
            span,
            f"expected {low:g} to {high:g}, got {span}",
        )

    def refuses_floats(self, call: Callable[[], Any]) -> None:
        advice = "call rewards.check_frames(frames) first"
        try:
            call()
        except (ValueError, TypeError) as error:
            self.add("refuses float frames", True, " ".join(str(error).split()))
        except Exception as error:  # As above.
            self.add(
                "refuses float frames",
                False,
                otherwise=f"raises {type(error).__name__}, no ValueError: {advice}",
            )
        else:
            self.add("refuses float frames", False, otherwise=f"takes them without a word: {advice}")

    def same(
        self, name: str, one: np.ndarray, other: np.ndarray, otherwise: str, tolerance: float = TOLERANCE
    ) -> None:
        """Whether two results are the same; NaN equals NaN."""
        if one.shape != other.shape:
            self.add(
                name, False, otherwise=f"{otherwise} (shape {list(one.shape)}, then {list(other.shape)})"
            )
            return
        unlike = np.isnan(one) != np.isnan(other)
        apart = np.abs(np.nan_to_num(one.astype(np.float64)) - np.nan_to_num(other.astype(np.float64)))
        worst = max(float(apart.max(initial=0)), float(unlike.any()))
        self.add(
            name, worst <= tolerance, f"differs by at most {worst:.1e}", f"{otherwise} (by up to {worst:.1e})"
        )

    def stable(self, what: str, before: Sequence[str], after: Sequence[str]) -> None:
        self.add(f"{what} stable", before == after, "", f"was {before}, is {after} after some calls")


def _check_callable(report: _Report, model: Any, goals: list[str], frames: np.ndarray) -> None:
    about = (model.name, model.version)
    texts = [goals[i % len(goals)] for i in range(len(frames))]
    kept = frames.copy()

    def rewards(frames: np.ndarray, texts: list[str]) -> np.ndarray:
        return _numbers(model(frames, texts))

    found = report.require("answers", lambda: rewards(frames, texts))
    report.numbers("rewards", found, (len(frames),), (0.0, 1.0))
    report.add(
        "leaves frames alone", bool((frames == kept).all()), "", "it writes into the frames that it is given"
    )
    frames = kept
    _check_invariance(
        report, len(frames), found, lambda rows: rewards(frames[rows], [texts[i] for i in rows])
    )
    for goal in goals:
        report.require(f"goal {goal!r}", lambda goal=goal: rewards(frames[:2], [goal, goal]) is None)
    report.refuses_floats(lambda: rewards(frames.astype(np.float32) / 255, texts))
    report.stable("name and version", about, (model.name, model.version))
    _speed(report, len(frames), lambda: rewards(frames, texts), "frames")


def _check_encoder(report: _Report, model: Any, goals: list[str], frames: np.ndarray) -> None:
    before = (model.fingerprint,)
    kept = frames.copy()
    found = report.require("encodes frames", lambda: _numbers(model.encode_frames(frames)))
    report.numbers("frame vectors", found, (len(frames), -1), None)
    report.add(
        "leaves frames alone", bool((frames == kept).all()), "", "it writes into the frames that it is given"
    )
    frames = kept
    of_goals = report.require("encodes goals", lambda: _numbers(model.encode_goals(goals)))
    report.numbers("goal vectors", of_goals, (len(goals), -1), None)
    report.add(
        "one space",
        found.shape[1] == of_goals.shape[1],
        f"D is {found.shape[1]}",
        f"frames have {found.shape[1]} coordinates, goals {of_goals.shape[1]}",
    )
    _check_invariance(report, len(frames), found, lambda rows: _numbers(model.encode_frames(frames[rows])))
    again = np.concatenate([_numbers(model.encode_goals([goal])) for goal in goals])
    report.same(
        "goals one by one", of_goals, again, "a goal's vector depends on the goals that it comes with"
    )
    report.refuses_floats(lambda: model.encode_frames(frames.astype(np.float32) / 255))
    report.stable("fingerprint", before, (model.fingerprint,))
    _speed(report, len(frames), lambda: model.encode_frames(frames), "frames")


def _check_scorer(report: _Report, model: Any, goals: list[str], trajectory: Trajectory) -> None:
    about = (model.name, model.version)
    steps = len(trajectory.step_type)
    for goal in goals:
        found = report.require(f"goal {goal!r}", lambda goal=goal: _numbers(model.score(trajectory, goal)))
        abstained = np.isnan(found)
        report.numbers(
            f"scores of {goal!r}",
            np.where(abstained, found.dtype.type(model.range[0]), found),
            (steps,),
            model.range,
        )
        report.add(f"abstains for {goal!r}", True, f"on {abstained.sum()} of {steps} steps")
        again = _numbers(model.score(trajectory, goal))
        report.same(f"deterministic for {goal!r}", found, again, "the same call gives other scores", 0.0)
    if isinstance(trajectory.next_observation, dict) and "image" in trajectory.next_observation:
        floats = {
            kind: {**seen, "image": np.asarray(seen["image"]).astype(np.float32) / 255}
            for kind in ("observation", "next_observation")
            for seen in [getattr(trajectory, kind)]
        }
        report.refuses_floats(lambda: model.score(trajectory._replace(**floats), goals[0]))
    report.stable("name and version", about, (model.name, model.version))
    _speed(report, steps, lambda: model.score(trajectory, goals[0]), "steps")


def _check_invariance(
    report: _Report, count: int, found: np.ndarray, call: Callable[[list[int]], np.ndarray]
) -> None:
    """Whether rows depend on nothing but themselves."""
    rows = list(range(count))

    def run() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return call(rows), np.concatenate([call([i]) for i in rows]), call(rows[::-1])[::-1]

    again, alone, backwards = report.require("any batch size", run)
    report.same("deterministic", found, again, "the same call gives something else", 0.0)
    report.same("one by one", found, alone, "a row depends on the batch that it comes in")
    report.same("any order", found, backwards, "a row depends on its place in the batch")


def _numbers(result: Any) -> np.ndarray:
    """What a model returned as an array. RewardError where it is none of numbers."""
    array = np.asarray(result)
    if not np.issubdtype(array.dtype, np.number):
        raise RewardError(f"expected an array of float32, got {type(result).__name__} of {array.dtype}")
    return array


def _speed(report: _Report, count: int, call: Callable[[], Any], unit: str) -> None:
    """Informational: the best of three calls, in batches of `count`."""
    seconds = []
    for _ in range(3):
        since = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - since)
    report.add("speed", True, f"{count / max(min(seconds), 1e-9):,.0f} {unit}/s in batches of {count}")


def _trajectory(frames: np.ndarray) -> Trajectory:
    """A stream that holds two episodes' frames: the second begins in the middle, and ends with the stream."""
    steps = len(frames) - 1
    step_type = np.full(steps, MID, np.int32)
    step_type[[(steps - 1) // 2, -1]] = LAST
    numbers: Any = np.zeros(steps, np.float32)
    kinds: Any = step_type
    discounts: Any = (step_type != LAST).astype(np.float32)
    return Trajectory({"image": frames[:-1]}, kinds * 0, numbers, discounts, kinds, {"image": frames[1:]})
