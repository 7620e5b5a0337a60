"""`limbeck rewards check`: the conformance kit on a reward model by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import tyro

from ..envs import make_hosted, space_from_spec
from ..rewards import check as check_model
from ..rewards import form_of, load
from ._usage import UsageError, parse


Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
Value = int | float | str | bool

_FRAMES = 16
_STEPS = 1000


def check(arguments: Sequence[str]) -> int:
    """`limbeck rewards check NAME …`; the exit code is 1 where a requirement is not met."""

    def options(
        name: Name,
        arguments: dict[str, Value] = {},  # noqa: B006  # tyro shows it; nothing changes it.
        goal: tuple[str, ...] = (),
        env: str | None = None,
        env_arguments: dict[str, Value] = {},  # noqa: B006
        json: bool = False,
    ) -> tuple[Any, ...]:
        """Checks whether a reward model keeps the contract of its form, a line for each requirement.

        Args:
          name: package.module:factory, or an entry point of the group limbeck.rewards.
          arguments: of the factory.
          goal: texts to check with, one or more; without them the model's own attribute `goals`, or some texts.
          env: a hosted environment whose frames under random actions to check with; without it, noise.
          env_arguments: of the environment, such as `image agent` for MiniGrid.
          json: print JSON.
        """
        return name, arguments, goal, env, env_arguments, json

    name, of_factory, goals, env, of_env, as_json = parse(options, "rewards check", arguments)
    frames = None if env is None else _frames(env, of_env)
    model = load(name, **of_factory)
    findings = check_model(model, list(goals) or None, frames)
    failures = [finding for finding in findings if not finding.passed]
    if as_json:
        about = {"model": name, "form": form_of(model), "passed": not failures}
        print(json.dumps({**about, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        for finding in findings:
            detail = f": {finding.detail}" if finding.detail else ""
            print(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.name}{detail}")
        print(
            f"{name}: {len(failures)} of {len(findings)} failed" if failures else f"{name} keeps the contract"
        )
    return 1 if failures else 0


def _frames(env: str, arguments: Mapping[str, Value]) -> np.ndarray:
    """Different frames of random play, uint8 `[N, H, W, 3]`."""
    environment = make_hosted(env, seed=0, dropped=None, **arguments)
    actions = space_from_spec(environment.action_spec())
    actions.seed(0)
    frames: dict[bytes, np.ndarray] = {}
    timestep = environment.reset()
    for _ in range(_STEPS):
        seen = timestep.observation
        frame = np.asarray(seen.get("image", seen) if isinstance(seen, Mapping) else seen)
        if frame.dtype != np.uint8 or frame.ndim != 3:
            raise UsageError(
                f"the observations of {env} have no frames, uint8 [H, W, 3], as an array or under the key image; "
                "MiniGrid has with --env-arguments image agent"
            )
        frames.setdefault(frame.tobytes(), frame)
        if len(frames) == _FRAMES:
            break
        timestep = environment.reset() if timestep.last() else environment.step(actions.sample())
    environment.close()
    return np.stack(list(frames.values()))
