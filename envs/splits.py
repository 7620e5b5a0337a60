"""Which tasks a learner may see: a split by hash, stored with the data and never tuned."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Task ids, train and held out, each in the order of their hashes.

    The order makes a prefix of `train` a uniformly random subset: `split.train[:2000]`.

    Attributes:
      seed: what the salt was made of.
      salt: `limbeck-<seed>`.
      train: ids that learning histories may come from.
      held_out: ids that no history may have.
    """

    seed: int
    salt: str
    train: tuple[int, ...]
    held_out: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values, to be stored with the data."""
        return {
            "seed": self.seed,
            "salt": self.salt,
            "train": list(self.train),
            "held_out": list(self.held_out),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Split":
        """The split that `to_json` wrote.

        Raises:
          ValueError: where a field is missing, or the ids are not those that the seed gives.
        """
        try:
            seed, salt = int(fields["seed"]), str(fields["salt"])
            train, held_out = (tuple(int(i) for i in fields[part]) for part in ("train", "held_out"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Not a stored split: {error!r}. Expected seed, salt, train and held_out."
            ) from None
        split = cls(seed, salt, train, held_out)
        if split != split_tasks(len(train) + len(held_out), len(held_out), seed):
            raise ValueError(
                f"The stored split is not the one that seed {seed} gives: splits are never edited."
            )
        return split


def split_tasks(num_tasks: int, held_out: int, seed: int) -> Split:
    """Splits task ids 0 … num_tasks - 1 by the order of `sha256("limbeck-<seed>:<id>")`.

    Args:
      num_tasks: how many tasks there are.
      held_out: how many to hold out: the first in that order.
      seed: chooses the salt.

    Raises:
      ValueError: where `held_out` does not leave at least one task to train on.
    """
    if not 0 <= held_out < num_tasks:
        raise ValueError(f"Of {num_tasks} tasks 0 to {num_tasks - 1} can be held out, got {held_out}.")
    salt = f"limbeck-{seed}"
    order = sorted(range(num_tasks), key=lambda i: (hashlib.sha256(f"{salt}:{i}".encode()).digest(), i))
    return Split(seed, salt, tuple(order[held_out:]), tuple(order[:held_out]))


def split_of(task: bytes, salt: str, fraction: float) -> str:
    """The side, "train" or "held_out", of a task that has bytes but no id (a ruleset, a sampled task).

    Args:
      task: the task's canonical bytes.
      salt: `limbeck-<seed>`.
      fraction: the share of all tasks that is held out, in [0, 1].

    Raises:
      ValueError: for a fraction outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"The held-out fraction lies in [0, 1], got {fraction}.")
    digest = hashlib.sha256(salt.encode() + b":" + task).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") < fraction * 2**64 else "train"
