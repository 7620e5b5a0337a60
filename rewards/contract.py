"""The three forms of a reward model, and the checks that all of them share.

- `RewardModel`, a callable: `model(frames, goals) -> rewards`.
- `FrameEncoder`: frames and goals to unit vectors, from which a `Head` makes rewards.
- `TrajectoryScorer`: `score(trajectory, goal) -> [T]`, whatever the observations are.

No base class: whatever has the members is of the form.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np


Form = Literal["callable", "encoder", "scorer"]

# How far from 1 the length of a unit vector may be: vectors that were normalised in bfloat16 pass.
UNIT_TOLERANCE = 1e-2


class RewardError(ValueError):
    """A reward model, or what it was given or gave, breaks the contract. One clear line."""


class RewardModel(Protocol):
    """The callable form.

    Attributes:
      name: what the model is called.
      version: changes whenever the rewards may; labels carry it, and caches are keyed by it.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def __call__(self, frames: np.ndarray, goals: Sequence[str]) -> np.ndarray:
        """Rewards of frames, each for its own goal.

        Args:
          frames: uint8 RGB `[N, H, W, 3]`.
          goals: N texts.

        Returns:
          float32 `[N]` in [0, 1]. The reward of a pair depends on nothing else in the call.

        Raises:
          RewardError: anything else than such frames (`check_frames`) or goals (`check_goals`).
        """
        ...


class FrameEncoder(Protocol):
    """The encoder form.

    Attributes:
      fingerprint: a hash of weights, preprocessing and precision: the same fingerprint, the same vectors.
    """

    @property
    def fingerprint(self) -> str: ...

    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        """Unit vectors float32 `[N, D]` of frames uint8 `[N, H, W, 3]`; RewardError for other frames."""
        ...

    def encode_goals(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 `[G, D]` of G texts."""
        ...


class TrajectoryScorer(Protocol):
    """The form that sees whole trajectories.

    Attributes:
      name: what the scorer is called.
      version: as of `RewardModel`.
      range: lowest and highest score.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def range(self) -> tuple[float, float]: ...

    def score(self, trajectory: Any, goal: str) -> np.ndarray:
        """Scores the steps of one stream.

        Args:
          trajectory: `limbeck.agents.Trajectory` `[T, …]` without a batch axis; any observations.
          goal: a text, of the whole trajectory.

        Returns:
          float32 `[T]`. Row t is about `next_observation` of row t, what the action led to. NaN abstains:
          it is paid as 0 and counted.
        """
        ...


class Head(Protocol):
    """Scores from embeddings: a frozen dataclass in pure JAX, whose fields are all that it depends on."""

    def parameters(self, goals: Sequence[str], encode: Callable[[Sequence[str]], Any]) -> Any:
        """What the head knows of each goal, made once.

        Args:
          goals: G texts.
          encode: n texts to unit vectors `[n, D]`.

        Returns:
          A tree of arrays with leading axis G.
        """
        ...

    def __call__(self, parameters: Any, frames: Any, goal: Any) -> Any:
        """Scores float32 `[N]` in [0, 1] of embeddings float32 `[N, D]` for goals int32 `[N]` by index."""
        ...


class SequenceHead(Protocol):
    """A head whose scores depend on the frames before.

    Attributes:
      range: lowest and highest score.
    """

    @property
    def range(self) -> tuple[float, float]: ...

    def parameters(self, goals: Sequence[str], encode: Callable[[Sequence[str]], Any]) -> Any:
        """As of `Head`."""
        ...

    def __call__(self, parameters: Any, frames: Any, goal: Any, first: Any) -> Any:
        """Scores one stream's frames in the order of time.

        Args:
          parameters: of `parameters`.
          frames: float32 `[T, D]`.
          goal: int32 `[T]`.
          first: bool `[T]`, where an episode begins. Row 0 begins one whatever `first` says: nothing is known
            from before it.

        Returns:
          float32 `[T]`.
        """
        ...


def form_of(model: Any) -> Form:
    """Which of the three forms a reward model has.

    The more particular form wins where there are members of several, since whatever can be called (any PyTorch
    module) looks like the simplest.

    Raises:
      RewardError: none of them, or a member such as `version` is missing.
    """
    if isinstance(model, type):
        raise RewardError(f"{model.__name__} is a class and no reward model: make an instance of it")
    if callable(getattr(model, "encode_frames", None)) and callable(getattr(model, "encode_goals", None)):
        form, texts = "encoder", ("fingerprint",)
    elif callable(getattr(model, "score", None)) and hasattr(model, "range"):
        form, texts = "scorer", ("name", "version")
        _check_range(model)
    elif callable(model):
        form, texts = "callable", ("name", "version")
    else:
        raise RewardError(
            f"{_called(model)} is no reward model; expected model(frames, goals) with name and version, an encoder "
            "(encode_frames, encode_goals, fingerprint) or a trajectory scorer (score, range, name, version)"
        )
    for member in texts:
        value = getattr(model, member, None)
        if not isinstance(value, str) or not value:
            raise RewardError(
                f"{_called(model)} has the form of a reward model ({form}), but {member} is {value!r}; expected a "
                "non-empty string"
            )
    return form


def check_frames(frames: Any) -> np.ndarray:
    """Frames as every form takes them: uint8 RGB `[N, H, W, 3]`, N at least 1.

    Raises:
      RewardError: anything else, with what to do about it.
    """
    if not (hasattr(frames, "shape") and hasattr(frames, "dtype")):
        raise RewardError(
            f"frames are one array, uint8 [N, H, W, 3], got {type(frames).__name__}: np.stack a list of frames"
        )
    frames = np.asarray(frames)
    given = f"got {frames.dtype} {list(frames.shape)}"
    if frames.dtype != np.uint8:
        raise RewardError(f"frames are uint8 [N, H, W, 3] from 0 to 255, {given}: {_to_uint8(frames)}")
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise RewardError(f"frames are RGB, uint8 [N, H, W, 3], {given}{_to_rgb(frames.shape)}")
    if 0 in frames.shape:
        raise RewardError(f"frames are uint8 [N, H, W, 3] with at least one frame and one pixel, {given}")
    return frames


def check_goals(goals: Any, count: int) -> list[str]:
    """One goal for each of `count` frames.

    Raises:
      RewardError: another number of goals, or something else than texts.
    """
    if isinstance(goals, str):
        raise RewardError(
            f"goals are a list with one text a frame, got the text {goals!r}: [goal] * len(frames)"
        )
    try:
        goals = list(goals)
    except TypeError:
        raise RewardError(f"goals are a list with one text a frame, got {type(goals).__name__}") from None
    for goal in goals:
        if not isinstance(goal, str):
            raise RewardError(f"goals are texts, got {goal!r}")
    if len(goals) != count:
        raise RewardError(f"there is one goal for each frame: {count} frames, but {len(goals)} goals")
    return [str(goal) for goal in goals]


def check_rewards(
    rewards: Any,
    count: int,
    range: tuple[float, float] = (0.0, 1.0),
    abstains: bool = False,
    what: str = "rewards",
) -> np.ndarray:
    """What a reward model returned: float32 `[count]`, finite, in its range.

    Args:
      rewards: what it returned.
      count: how many there must be.
      range: lowest and highest, both allowed.
      abstains: whether NaN is allowed, as for trajectory scorers.
      what: the word for them in errors, with the model's name where there is one.

    Raises:
      RewardError: anything else.
    """
    rewards = np.asarray(rewards)
    if rewards.shape != (count,):
        raise RewardError(
            f"{what}: expected {count} numbers, shape [{count}], got shape {list(rewards.shape)}"
        )
    if rewards.dtype != np.float32:
        raise RewardError(f"{what}: expected float32, got {rewards.dtype}: return .astype(np.float32)")
    known = rewards[~np.isnan(rewards)] if abstains else rewards
    if not np.isfinite(known).all():
        raise RewardError(f"{what}: {int((~np.isfinite(known)).sum())} of {count} are not finite")
    low, high = range
    if known.size and (known.min() < low or known.max() > high):
        raise RewardError(
            f"{what}: expected numbers from {low:g} to {high:g}, got some from {known.min():g} to {known.max():g}"
        )
    return rewards


def check_embeddings(embeddings: Any, count: int, what: str = "embeddings") -> np.ndarray:
    """What an encoder returned: unit vectors, float32 `[count, D]`.

    Raises:
      RewardError: anything else.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or embeddings.shape[0] != count or embeddings.shape[1] < 1:
        raise RewardError(f"{what}: expected shape [{count}, D], got {list(embeddings.shape)}")
    if embeddings.dtype != np.float32:
        raise RewardError(f"{what}: expected float32, got {embeddings.dtype}: return .astype(np.float32)")
    lengths = np.linalg.norm(embeddings, axis=1)
    if not np.isfinite(lengths).all():
        raise RewardError(f"{what}: {int((~np.isfinite(lengths)).sum())} of {count} vectors are not finite")
    worst = lengths[np.argmax(np.abs(lengths - 1))]
    if abs(worst - 1) > UNIT_TOLERANCE:
        raise RewardError(f"{what}: expected unit vectors, got one of length {worst:g}: divide by the norm")
    return embeddings


def _check_range(model: Any) -> None:
    try:
        low, high = (float(bound) for bound in model.range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise RewardError(
            f"{_called(model)}: range is (lowest, highest) score, two finite numbers, got {model.range!r}"
        )


def _to_uint8(frames: np.ndarray) -> str:
    if (
        np.issubdtype(frames.dtype, np.floating)
        and frames.size
        and 0 <= np.nanmin(frames) <= np.nanmax(frames) <= 1
    ):
        return "these lie in 0..1: (frames * 255).round().astype(np.uint8)"
    return "frames.astype(np.uint8), if they lie in 0..255"


def _to_rgb(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] == 3:
        return ": one frame needs a batch axis, frames[None]"
    if len(shape) == 4 and shape[1] == 3:
        return ": channels come last, np.moveaxis(frames, 1, -1)"
    if len(shape) == 5 and shape[-1] == 3:
        return ": join the leading axes, frames.reshape(-1, *frames.shape[-3:])"
    if len(shape) == 4 and shape[-1] in (1, 4):
        return (
            ": repeat the grey channel three times"
            if shape[-1] == 1
            else ": leave out alpha, frames[..., :3]"
        )
    return ""


def _called(model: Any) -> str:
    return f"{type(model).__name__} {getattr(model, 'name', None) or getattr(model, '__name__', '')}".strip()
