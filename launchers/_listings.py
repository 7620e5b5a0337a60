"""`limbeck envs` and `limbeck agents`."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from typing import Any

from ._usage import parse


def envs(arguments: Sequence[str]) -> None:
    """`limbeck envs [--json] [--minigrid]`."""

    def options(json: bool = False, minigrid: bool = False) -> tuple[bool, bool]:
        """Lists the environments: what they are, their tasks and their specs.

        Args:
          json: print JSON.
          minigrid: list the MiniGrid and BabyAI ids instead.
        """
        return json, minigrid

    as_json, of_minigrid = parse(options, "envs", arguments)
    if of_minigrid:
        _minigrid(as_json)
        return
    from ..envs import describe, environment_names

    found = [describe(name) for name in environment_names()]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for about in found:
        tasks = "uncountable" if about["num_tasks"] is None else f"{about['num_tasks']:,}"
        specs = about["specs"]
        print(about["name"])
        print(f"  {about['description']}")
        print(f"  tasks {tasks}, at most {about['max_steps']} steps an episode")
        print(f"  observation {_spec(specs['observation'])}, action {_spec(specs['action'])}")
    print("Hosted jobs also take MiniGrid and BabyAI ids (limbeck envs --minigrid), other gymnasium ids and")
    print("package.module:factory.")


def _minigrid(as_json: bool) -> None:
    """The ids, those of one class of MiniGrid's in one paragraph."""
    import gymnasium

    from ..envs import minigrid_ids

    ids = minigrid_ids()
    classes = {id: str(gymnasium.spec(id).entry_point).rpartition(":")[2] for id in ids}
    if as_json:
        print(json.dumps([{"name": id, "class": classes[id]} for id in ids], indent=2))
        return
    print(f"{len(ids)} ids, by class:")
    for name in dict.fromkeys(classes.values()):
        same = " ".join(id for id in ids if classes[id] == name)
        print(textwrap.fill(f"{name}: {same}", 110, subsequent_indent="  ", break_on_hyphens=False))


def agents(arguments: Sequence[str]) -> None:
    """`limbeck agents [--json]`."""

    def options(json: bool = False) -> bool:
        """Lists the source algorithms and their settings.

        Args:
          json: print JSON.
        """
        return json

    as_json = parse(options, "agents", arguments)
    from ..agents import ALGORITHMS

    found = [
        {
            "name": name,
            "description": algorithm.description,
            "settings": json.loads(json.dumps(dataclasses.asdict(algorithm.config()))),
        }
        for name, algorithm in sorted(ALGORITHMS.items())
    ]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for about in found:
        print(about["name"])
        print(f"  {about['description']}")
        print(f"  {', '.join(f'{name} {value}' for name, value in about['settings'].items())}")


def _spec(spec: Any) -> str:
    if isinstance(spec, dict) and "dtype" not in spec:
        return "{" + ", ".join(f"{key}: {_spec(value)}" for key, value in spec.items()) + "}"
    bounds = ""
    if "num_values" in spec:
        bounds = f" below {spec['num_values']}"
    elif "minimum" in spec:
        bounds = f" from {spec['minimum']} to {spec['maximum']}"
    return f"{spec['dtype']}{spec['shape']}{bounds}"
