"""What an algorithm needs of replay when it learns from hosted actors."""

import dataclasses
from typing import Literal, get_args


ReplayKind = Literal["queue", "uniform", "prioritised"]


@dataclasses.dataclass(frozen=True)
class ReplayPlan:
    """How experience passes from the actors to the learner of one algorithm.

    An item is `unroll` consecutive rows of one stream.

    Attributes:
      kind: `queue` (each item once, in order, for on-policy learners), `uniform`, or `prioritised` by
        the priorities that `update` returns.
      unroll: rows of an item.
      period: rows between the starts of two items of a stream; below `unroll` they overlap.
      batch: items per update.
      samples_per_insert: how many times an item is sampled, on average; 1 for a queue.
      min_size: items in the table before the first update.
      max_size: items that the table holds; a queue's actors wait when it is full.
      priority_exponent: power of the priorities in the sampling probabilities, 0 where they do not count.
      importance_exponent: power of the importance weights that correct for prioritised sampling: 0 no
        correction, 1 a full one.
    """

    kind: ReplayKind
    unroll: int
    period: int
    batch: int
    samples_per_insert: float = 1.0
    min_size: int = 1
    max_size: int = 1024
    priority_exponent: float = 0.0
    importance_exponent: float = 0.0

    def __post_init__(self):
        if self.kind not in get_args(ReplayKind):
            raise ValueError(f"kind must be one of {', '.join(get_args(ReplayKind))}, got {self.kind!r}.")
        for name in ("unroll", "period", "batch", "min_size", "max_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.period > self.unroll:
            raise ValueError(
                f"period must be at most unroll ({self.unroll}), or rows would be left out, got {self.period}."
            )
        if not self.samples_per_insert > 0:
            raise ValueError(f"samples_per_insert must be positive, got {self.samples_per_insert}.")
        if self.min_size > self.max_size:
            raise ValueError(f"min_size must be at most max_size ({self.max_size}), got {self.min_size}.")
        for name in ("priority_exponent", "importance_exponent"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
            if getattr(self, name) and self.kind != "prioritised":
                raise ValueError(f"{name} counts only where kind is 'prioritised', which is {self.kind!r}.")
        if self.kind == "queue":
            self._check_queue()

    def _check_queue(self):
        if self.samples_per_insert != 1:
            raise ValueError(
                f"A queue gives each item once: samples_per_insert must be 1, got {self.samples_per_insert}."
            )
        if self.max_size < self.batch:
            raise ValueError(f"A queue of {self.max_size} items never holds a batch of {self.batch}.")
