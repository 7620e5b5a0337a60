"""Reverb's rate limiter as arithmetic: who has to wait at given counts."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limiter:
    """Holds `error = samples_per_insert · inserts − samples` between two bounds.

    Reverb's `RateLimiter` (arXiv 2102.04736, section 3.4; `reverb/cc/rate_limiter.cc`).

    Attributes:
      samples_per_insert: samples that one insert pays for.
      min_size: items below which no sample is let through; inserts up to it always are.
      min_diff: a sample waits where it would bring the error below this.
      max_diff: an insert waits where it would bring the error above this.
    """

    samples_per_insert: float
    min_size: int
    min_diff: float
    max_diff: float

    def insert_waits(self, size: int, inserts: int, samples: int) -> bool:
        """Whether the next insert has to wait, with `size` items in the table after those counts."""
        if size + 1 <= self.min_size:
            return False
        return self.samples_per_insert * (inserts + 1) - samples > self.max_diff

    def sample_waits(self, size: int, inserts: int, samples: int) -> bool:
        """Whether the next sample has to wait, with `size` items in the table after those counts."""
        if size < self.min_size:
            return True
        return self.samples_per_insert * inserts - samples - 1 < self.min_diff

    def starving(self, size: int, inserts: int, samples: int) -> str | None:
        """ "inserts" or "samples", whichever has to wait for the other; None where neither has."""
        if self.insert_waits(size, inserts, samples):
            return "inserts"
        return "samples" if self.sample_waits(size, inserts, samples) else None
