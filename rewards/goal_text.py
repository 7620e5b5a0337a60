"""The goal of an episode as text: where an environment keeps it, and as bytes of a fixed size."""

from collections.abc import Sequence
from typing import Any

import numpy as np


# UTF-8 bytes of a goal in an item; BabyAI's longest sentence has fewer.
GOAL_BYTES = 512


def goal_of(environment: Any) -> str:
    """The goal of an environment's episode: its `goal`, else its `mission`, an attribute or a method.

    Raises:
      ValueError: it has neither, or one that is no text.
    """
    for name in ("goal", "mission"):
        found = getattr(environment, name, None)
        if found is not None:
            text = found() if callable(found) else found
            if not isinstance(text, str):
                raise ValueError(f"The environment's {name} is a {type(text).__name__}; expected a text.")
            return text
    raise ValueError(
        "The environment has no goal for a reward model to judge by: give it an attribute or a method `goal` "
        "that returns a text."
    )


def encode_goals(goals: Sequence[str]) -> np.ndarray:
    """Texts as UTF-8, uint8 `[N, GOAL_BYTES]`, zeros after the end. Raises ValueError for one too long."""
    encoded = np.zeros((len(goals), GOAL_BYTES), np.uint8)
    for row, goal in zip(encoded, goals):
        data = goal.encode()
        if len(data) > GOAL_BYTES:
            raise ValueError(
                f"A goal has at most {GOAL_BYTES} bytes of UTF-8, got {len(data)}: {goal[:80]!r}…"
            )
        row[: len(data)] = np.frombuffer(data, np.uint8)
    return encoded


def decode_goals(encoded: np.ndarray) -> list[str]:
    """The inverse of `encode_goals`, of `[N, GOAL_BYTES]`."""
    return [row.tobytes().rstrip(b"\0").decode() for row in encoded]
