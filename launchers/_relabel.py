"""`limbeck rewards relabel`: a copy of stored histories with the rewards of a model."""

import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from ..rewards.loading import load
from ..rewards.relabelling import relabel
from ._usage import parse


Store = Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
Copy = Annotated[pathlib.Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Arguments = dict[str, int | float | str | bool]


def relabel_command(arguments: Sequence[str]) -> None:
    """`limbeck rewards relabel PATH OUT --reward package.module:factory`."""

    def options(
        path: Store,
        out: Copy,
        reward: str,
        reward_arguments: Arguments = {},  # noqa: B006  # tyro shows it.
        goal: str | None = None,
        batch: int = 256,
    ) -> dict[str, Any]:
        """Writes a copy of a history store whose rewards are a model's.

        Args:
          path: the store, or the directory of a run.
          out: the store to make.
          reward: the model's name, or package.module:factory.
          reward_arguments: of its factory.
          goal: what all rows are judged by; by default the mission in the observations.
          batch: frames of one call of the model at most.
        """
        return {
            "path": path, "out": out, "reward": reward, "arguments": reward_arguments, "goal": goal, "batch": batch
        }  # fmt: skip

    given = parse(options, "rewards relabel", arguments)
    path: pathlib.Path = given["path"]
    store = path / "histories" if (path / "config.json").exists() else path
    model = load(given["reward"], **given["arguments"])
    done = relabel(store, model, given["out"], given["goal"], given["batch"])
    print(f"{given['out']}: {done.rows:,} rows, {done.distinct:,} frames seen by the model")
    if done.unseen:
        print(f"  {done.unseen:,} rows have no next frame and are paid 0: histories end there or were cut")
