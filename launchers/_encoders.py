"""`limbeck encoders`: the networks and the recipes of perception."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from typing import Any

from ._usage import parse


def encoders(arguments: Sequence[str]) -> None:
    """`limbeck encoders [--json]`."""

    def options(json: bool = False) -> bool:
        """Lists the perception networks with their parameter counts, and the recipes that train them.

        Args:
          json: print JSON.
        """
        return json

    as_json = parse(options, "encoders", arguments)
    from ..encoders import NETWORKS, RECIPES

    networks = [
        {
            "name": name,
            "source": network.source,
            "configurations": {size: network.count(size) for size in network.configurations},
        }
        for name, network in sorted(NETWORKS.items())
    ]
    recipes = [_about(recipe) for _, recipe in sorted(RECIPES.items())]
    if as_json:
        print(json.dumps({"networks": networks, "recipes": recipes}, indent=2))
        return
    print("Networks (parameters)")
    for about in networks:
        counts = ", ".join(f"{size} {count:,}" for size, count in about["configurations"].items())
        print(f"  {about['name']}: {counts}")
        print(f"    {about['source']}")
    print("Recipes")
    for about in recipes:
        inputs = ", ".join(f"{name} {x['dtype']}{x['shape']}" for name, x in about["inputs"].items())
        training = about["training"]
        print(f"  {about['name']}")
        print(textwrap.fill(about["source"], 110, initial_indent="    ", subsequent_indent="    "))
        print(f"    inputs {inputs}; views {', '.join(about['views'])}")
        print(
            f"    batch {about['batch']}, {training['steps']:,} updates of {training['optimiser']}, peak rate "
            f"{training['learning_rate']:g}, {about['parameters']:,} parameters with heads"
        )


def _about(recipe: Any) -> dict[str, Any]:
    import jax

    params, _ = jax.eval_shape(recipe.init, jax.random.key(0))
    return {
        "name": recipe.name,
        "source": recipe.source,
        "inputs": {
            name: {"shape": list(spec.shape), "dtype": str(spec.dtype)}
            for name, spec in recipe.inputs.items()
        },
        "views": sorted(recipe.views),
        "mixed": list(recipe.mixed),
        "batch": recipe.batch,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "training": dataclasses.asdict(recipe.training),
    }
