"""What all heads share: unbatched scores, and thresholds, one for all goals or one per goal."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from .contract import RewardError


PerGoal = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThresholdedHead:
    """A head that is a score in [0, 1] of one frame, and a threshold on it.

    Attributes:
      threshold: beta: the reward is 1 where the score is above it and 0 elsewhere (Baumli et al., equation 2);
        a mapping has one per goal. None: the score itself is the reward.
    """

    threshold: float | Mapping[str, float] | PerGoal | None = None

    def __post_init__(self):
        object.__setattr__(self, "threshold", _checked(self.threshold))

    def parameters(
        self, goals: Sequence[str], encode: Callable[[Sequence[str]], Any]
    ) -> dict[str, jax.Array]:
        """See `Head`."""
        goals = list(goals)
        made = self._texts(goals, encode)
        if self.threshold is None:
            return made
        if isinstance(self.threshold, float):
            betas = np.full(len(goals), self.threshold, np.float32)
        else:
            known: dict[str, float] = dict(cast(Any, self.threshold))
            betas = np.asarray([of_goal("threshold", known, goal) for goal in goals], np.float32)
        return {**made, "threshold": jnp.asarray(betas)}

    def __call__(self, parameters: Any, frames: jax.Array, goal: jax.Array) -> jax.Array:
        """See `Head`."""
        own = jax.tree.map(lambda leaf: leaf[goal], parameters)
        score = jax.vmap(self._score)(own, frames)
        if self.threshold is None:
            return score
        return (score > own["threshold"]).astype(jnp.float32)

    def _texts(self, goals: list[str], encode: Callable[[Sequence[str]], Any]) -> dict[str, jax.Array]:
        """What `_score` needs, leading axis G."""
        raise NotImplementedError

    def _score(self, own: dict[str, jax.Array], frame: jax.Array) -> jax.Array:
        """The score in [0, 1], `[]`, of one frame `[D]` by the parameters of its goal."""
        raise NotImplementedError


def of_goal(what: str, known: Mapping[str, Any], goal: str) -> Any:
    """A goal's entry. RewardError where there is none."""
    if goal not in known:
        close = difflib.get_close_matches(goal, list(known), n=1)
        hint = f"; the closest is {close[0]!r}" if close else ""
        raise RewardError(f"{what} has no entry for the goal {goal!r}{hint}")
    return known[goal]


def check_number(
    what: str, value: Any, low: float = -math.inf, high: float = math.inf, above: bool = False
) -> float:
    """A finite number from `low` (or above it) to `high`, as a float. RewardError for anything else."""
    number = isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and low <= value <= high and not (above and value == low)):
        least = "" if low == -math.inf else f" {'above' if above else 'of at least'} {low:g}"
        most = "" if high == math.inf else f" and at most {high:g}"
        raise RewardError(f"{what} is a finite number{least}{most}, got {value!r}")
    return float(value)


def pairs(mapping: Any) -> PerGoal:
    """A mapping as pairs, which cannot change later and can be hashed."""
    return tuple((str(goal), value) for goal, value in dict(mapping).items())


def _checked(threshold: Any) -> Any:
    if threshold is None:
        return None
    if isinstance(threshold, Mapping | tuple | list):
        return tuple(
            (goal, check_number(f"threshold of {goal!r}", beta, 0, 1)) for goal, beta in pairs(threshold)
        )
    return check_number("threshold", threshold, 0, 1)
