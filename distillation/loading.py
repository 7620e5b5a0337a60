"""A distilled model on disk: written beside its checkpoints, exported, and loaded to play."""

import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from dm_env import specs

from ..encoders import TransformerConfig, load_params
from .agent import InContextAgent, in_context_agent
from .model import ModelConfig
from .player import Player


_DESCRIPTION = "model.json"
_WEIGHTS = "model.safetensors"
_FORMAT = 1


class DistilledAgent(NamedTuple):
    """A trained agent.

    Attributes:
      agent: the pure functions, an `Agent`.
      params: its weights.
      description: what `model.json` says.
    """

    agent: InContextAgent
    params: Any
    description: dict[str, Any]

    def player(self, seed: int = 0) -> Player:
        """A player of host environments with an empty context."""
        return Player(self.agent, self.params, seed)


def describe_model(config: ModelConfig, environment: Any) -> dict[str, Any]:
    """What must be known to build the network again, JSON-able."""
    spec = environment.observation_spec()
    bounds = {}
    if isinstance(spec, specs.BoundedArray):
        bounds = {
            side: np.broadcast_to(getattr(spec, side), spec.shape).tolist() for side in ("minimum", "maximum")
        }
    return {
        "format": _FORMAT,
        "model": dataclasses.asdict(config),
        "environment": environment.name,
        "observation": {"shape": list(spec.shape), "dtype": np.dtype(spec.dtype).name, **bounds},
        "num_actions": int(environment.action_spec().num_values),
        "max_steps": int(environment.max_steps),
    }


def write_description(directory: str | os.PathLike, description: dict[str, Any]) -> None:
    """Writes `model.json` into a directory, whole or not at all."""
    place = pathlib.Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    aside = place / f".{_DESCRIPTION}.tmp"
    aside.write_text(json.dumps(description, indent=2) + "\n")
    os.replace(aside, place / _DESCRIPTION)


def load(run: str | os.PathLike, temperature: float = 1.0) -> DistilledAgent:
    """Loads a distilled agent from a run directory, its checkpoints or an export.

    Args:
      run: a directory that `limbeck run` or `limbeck export` wrote.
      temperature: of the sampled actions; 0 is greedy.

    Raises:
      ValueError: where there is no model, or one of another format.
    """
    place = pathlib.Path(run)
    if (place / "checkpoints" / _DESCRIPTION).is_file():
        place = place / "checkpoints"
    if not (place / _DESCRIPTION).is_file():
        seeds = sorted(place.glob("seed_*"))
        advice = f" It holds several seeds: load one of them, such as {seeds[0]}." if seeds else ""
        raise ValueError(
            f"No distilled model in {run}: expected {_DESCRIPTION} there or in its checkpoints.{advice} "
            "`limbeck run` trains one."
        )
    description = json.loads((place / _DESCRIPTION).read_text())
    written = description.get("format") if isinstance(description, dict) else None
    if written != _FORMAT:
        raise ValueError(f"{place / _DESCRIPTION} has format {written!r}, this version reads {_FORMAT}.")
    if (place / _WEIGHTS).is_file():
        from safetensors.numpy import load_file

        params = _nested(load_file(place / _WEIGHTS))
    else:
        params, _ = load_params(place)
    agent = in_context_agent(
        _model_config(description["model"]),
        _spec(description["observation"]),
        specs.DiscreteArray(description["num_actions"], name="action"),
        description["max_steps"],
        temperature,
    )
    expected = jax.eval_shape(agent.init, jax.random.key(0))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), expected)
    found = jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype).name), params)
    if shapes != found:
        raise ValueError(
            f"The weights in {place} are not those of the model that its {_DESCRIPTION} describes."
        )
    return DistilledAgent(agent, jax.tree.map(jax.numpy.asarray, params), description)


def export(run: str | os.PathLike, out: str | os.PathLike) -> pathlib.Path:
    """Writes a run's model as `model.safetensors` (named `module/parameter`) and `model.json`.

    Returns:
      The directory, which `load` reads.

    Raises:
      ValueError: as `load`.
    """
    from safetensors.numpy import save_file

    loaded = load(run)
    place = pathlib.Path(out)
    place.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{module}/{name}": np.ascontiguousarray(value)
        for module, parameters in loaded.params.items()
        for name, value in parameters.items()
    }
    aside = place / f".{_WEIGHTS}.tmp"
    save_file(flat, aside, metadata={"format": str(_FORMAT)})
    os.replace(aside, place / _WEIGHTS)
    write_description(place, loaded.description)
    return place


def _nested(flat: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    params: dict[str, dict[str, np.ndarray]] = {}
    for path, value in flat.items():
        module, name = path.rsplit("/", 1)
        params.setdefault(module, {})[name] = value
    return params


def _model_config(values: dict[str, Any]) -> ModelConfig:
    try:
        return ModelConfig(**{**values, "transformer": TransformerConfig(**values["transformer"])})
    except TypeError as error:
        raise ValueError(f"The model was written by another version of Limbeck: {error}.") from None


def _spec(values: dict[str, Any]) -> specs.Array:
    shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
    if "minimum" not in values:
        return specs.Array(shape, dtype, "observation")
    low, high = (np.asarray(values[side], dtype).reshape(shape) for side in ("minimum", "maximum"))
    return specs.BoundedArray(shape, dtype, low, high, "observation")
