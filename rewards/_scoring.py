"""An encoder under a head, for goals that are known beforehand: what both kinds of reward made of them share."""

import collections
import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .contract import (
    FrameEncoder,
    Head,
    RewardError,
    SequenceHead,
    check_embeddings,
    check_frames,
    check_goals,
    form_of,
)


class Scoring:
    """Goals embedded once, frames embedded on call, and a name and a version for what comes of it.

    Attributes:
      encoder: the encoder.
      head: the head.
      goals: the texts that may be asked for.
      name: of encoder and head, unless another was given.
      version: a hash of the encoder's fingerprint, the head with its negatives and all settings, and the goals.
    """

    def __init__(
        self, encoder: FrameEncoder, head: Head | SequenceHead, goals: Sequence[str], name: str | None
    ):
        if form_of(encoder) != "encoder":
            raise RewardError(
                f"a head takes an encoder, got a model of the form {form_of(encoder)}: {encoder!r}"
            )
        self.encoder, self.head = encoder, head
        goals = goals if isinstance(goals, str) else list(goals)
        self.goals = tuple(check_goals(goals, len(goals)))
        if not self.goals:
            raise RewardError("goals is empty; give the texts that this reward will be asked for")
        twice = [goal for goal, count in collections.Counter(self.goals).items() if count > 1]
        if twice:
            raise RewardError(f"goals are different texts, got {', '.join(map(repr, twice))} more than once")
        of_encoder = getattr(encoder, "name", None) or type(encoder).__name__
        self.name = name or f"{of_encoder}/{type(head).__name__}"
        about = {"encoder": encoder.fingerprint, "head": head_settings(head), "goals": self.goals}
        self.version = hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()
        self.parameters = head.parameters(self.goals, self._encode)
        self._index = {goal: i for i, goal in enumerate(self.goals)}
        # Behind a function, so that a head need not be hashable.
        self._head: Callable[..., jax.Array] = jax.jit(lambda *arguments: head(*arguments))

    def embed(self, frames: np.ndarray) -> np.ndarray:
        """Unit vectors float32 `[N, D]` of frames uint8 `[N, H, W, 3]`; RewardError for other frames."""
        frames = check_frames(frames)
        return check_embeddings(self.encoder.encode_frames(frames), len(frames), f"{self.name}: frames")

    def index(self, goals: Sequence[str], count: int) -> np.ndarray:
        """The places in `goals` of `count` texts, int32.

        Raises:
          RewardError: a text that is not among them, with the closest ones that are.
        """
        given = check_goals(goals, count)
        for goal in set(given) - self._index.keys():
            close = difflib.get_close_matches(goal, self.goals, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            raise RewardError(
                f"{self.name} was made for {len(self.goals)} goals and {goal!r} is none of them; {hint}"
                "Give all goals when it is made"
            )
        return np.asarray([self._index[goal] for goal in given], np.int32)

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        return check_embeddings(self.encoder.encode_goals(list(texts)), len(texts), f"{self.name}: goals")


def padded(array: np.ndarray, length: int) -> np.ndarray:
    """The array with its last row repeated up to `length` rows."""
    if len(array) == length:
        return array
    return np.concatenate([array, np.repeat(array[-1:], length - len(array), axis=0)])


def power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`, so that few shapes are compiled."""
    return 1 << max(0, count - 1).bit_length()


def head_settings(head: Any) -> dict[str, Any]:
    """A head's class and fields as JSON values, heads within it too.

    Raises:
      RewardError: it is no dataclass, or a field is something that JSON cannot say.
    """
    if not dataclasses.is_dataclass(head) or isinstance(head, type):
        raise RewardError(
            f"a head is an instance of a frozen dataclass, got {head!r}: its version is its fields"
        )
    fields = {field.name: _setting(head, field.name) for field in dataclasses.fields(head)}
    return {"head": f"{type(head).__module__}.{type(head).__qualname__}", **fields}


def _setting(head: Any, name: str) -> Any:
    value = getattr(head, name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return head_settings(value)
    try:
        return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))
    except (TypeError, ValueError) as error:
        raise RewardError(f"{type(head).__name__}.{name} is no JSON value, got {value!r}: {error}") from error
