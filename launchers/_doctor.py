"""`limbeck doctor`: versions, devices, what is installed here and what each missing extra would give."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from ._usage import parse


# Extra -> (the modules that it brings, what they give).
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "replay": (
        ("reverb", "tensorflow"),
        "histories and experience through a Reverb server (Python 3.11, Linux)",
    ),
    "minari": (("minari",), "histories to and from Minari data sets"),
    "wandb": (("wandb",), "training metrics to Weights & Biases"),
    "cuda": (("jax_cuda12_plugin",), "JAX on NVIDIA GPUs"),
    "clip": (("open_clip", "torch", "torchvision"), "vision-language encoders for reward models"),
    "ray": (("ray",), "programs on a Ray cluster"),
    "bench": (("stable_baselines3", "torch"), "the peers that the benchmarks run beside Limbeck"),
    "dev": (("pytest", "ruff"), "every check and test"),
}

PACKAGES = (
    "jax",
    "jaxlib",
    "numpy",
    "dm-haiku",
    "optax",
    "rlax",
    "chex",
    "dm-env",
    "gymnasium",
    "orbax-checkpoint",
    "tensorstore",
    "tyro",
    "rich",
    "matplotlib",
    "tensorboardX",
    "safetensors",
    "dm-reverb",
    "tensorflow-cpu",
)

REVERB_WARNING = (
    "A Reverb server listens on every network interface and cannot be told otherwise: close its port to other "
    "machines by a firewall rule (docs/install.md)."
)


def doctor(arguments: Sequence[str]) -> None:
    """`limbeck doctor [--json]`."""

    def options(json: bool = False) -> bool:
        """Says what is installed here, which devices there are, and what each missing extra would give.

        Args:
          json: print JSON.
        """
        return json

    as_json = parse(options, "doctor", arguments)
    found = examine()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"limbeck {found['limbeck']} on Python {found['python']}, {found['platform']}, {found['cores']} cores"
    )
    print("\nPackages")
    for name, version in found["packages"].items():
        print(f"  {name:<18} {version or 'not installed'}")
    print("\nDevices")
    for device in found["devices"]:
        print(f"  {device}")
    print("\nExtras")
    for name, extra in found["extras"].items():
        state = "installed" if extra["installed"] else f"missing: pip install 'limbeck[{name}]' would give"
        print(f"  {name:<8} {state} {'' if not extra['installed'] else 'for '}{extra['gives']}")
    for note in found["notes"]:
        print(f"\n{note}")


def examine() -> dict[str, Any]:
    """What `limbeck doctor --json` prints."""
    from .. import __version__  # pyright: ignore[reportMissingImports] (as in command_line.py)

    extras = {
        name: {"installed": all(map(_installed, modules)), "gives": gives}
        for name, (modules, gives) in EXTRAS.items()
    }
    notes = []
    if extras["replay"]["installed"]:
        notes.append(REVERB_WARNING)
    elif sys.version_info[:2] > (3, 11):
        notes.append(
            f"Reverb has no wheel for Python {platform.python_version()}: histories go straight to the store "
            "(--transport direct). Python 3.11 has it."
        )
    return {
        "limbeck": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "extras": extras,
        "notes": notes,
    }


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    import jax

    try:
        return [f"{device.platform} {device.id}: {device.device_kind}" for device in jax.devices()]
    except RuntimeError as error:
        return [f"none: {error}"]
