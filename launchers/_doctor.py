"""`limbeck doctor`: what is installed here and what is missing; or what a replay server holds and who waits."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from ._usage import UsageError, parse


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
    "xland": (("xminigrid",), "XLand-MiniGrid"),
    "media": (("av", "resvg_py"), "films, sounds and pictures from files"),
    "probes": (("sklearn",), "the SVM probe of frozen features"),
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
    "minigrid",
    "orbax-checkpoint",
    "tensorstore",
    "tyro",
    "rich",
    "matplotlib",
    "tensorboardX",
    "safetensors",
    "open_clip_torch",
    "torch",
    "torchvision",
    "scikit-learn",
    "dm-reverb",
    "tensorflow-cpu",
)

REVERB_WARNING = (
    "A Reverb server listens on every network interface and cannot be told otherwise: close its port to other "
    "machines by a firewall rule (docs/install.md)."
)


def doctor(arguments: Sequence[str]) -> None:
    """`limbeck doctor [--address HOST:PORT] [--deadline SECONDS] [--json]`."""

    def options(address: str | None = None, deadline: float = 5.0, json: bool = False) -> tuple[Any, ...]:
        """Says what is installed here, which devices there are, and what each missing extra would give.

        Args:
          address: HOST:PORT of a replay server: says instead what its tables hold and who waits for whom.
          deadline: seconds that the server has to answer.
          json: print JSON.
        """
        return address, deadline, json

    address, deadline, as_json = parse(options, "doctor", arguments)
    found = examine() if address is None else examine_server(address, deadline)
    if as_json:
        print(json.dumps(found, indent=2))
    elif address is None:
        _print_machine(found)
    else:
        _print_server(found)


def _print_machine(found: dict[str, Any]) -> None:
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


def _print_server(found: dict[str, Any]) -> None:
    print(f"replay server at {found['address']}")
    for name, table in found["tables"].items():
        ratio = table["samples_per_insert"]
        limit = f", {ratio:g} samples an insert" if ratio is not None and table["kind"] != "queue" else ""
        print(f"\n{name}: {table['kind']}, sampled from {table['min_size']} items on{limit}")
        print(f"  {table['summary']}")
    print(f"\n{REVERB_WARNING}")


def examine_server(address: str, deadline_s: float) -> dict[str, Any]:
    """What `limbeck doctor --address HOST:PORT --json` prints.

    Raises:
      UsageError: not an address.
      ValueError: Reverb is not installed, or nothing answers within the deadline.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--address is HOST:PORT, such as localhost:8000; got {address!r}")
    if not deadline_s > 0:
        raise UsageError(f"--deadline is a number of seconds above 0; got {deadline_s:g}")
    if not _installed("reverb"):
        raise ValueError("A replay server can only be asked with Reverb: pip install 'limbeck[replay]'.")
    # Reverb and TensorFlow take seconds to import.
    from ..agents.replay import ReplayClient, ReplayError, describe_status

    with ReplayClient(address) as client:
        try:
            tables = client.status(deadline_s)
        except ReplayError as error:
            raise ValueError(
                f"No replay server answers at {address}: {error} Is it running, is this its address, does a firewall "
                "keep this machine out?"
            ) from error
    described = {name: {**table, "summary": describe_status(table)} for name, table in tables.items()}
    return {"address": address, "tables": described, "notes": [REVERB_WARNING]}


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
    if extras["clip"]["installed"]:
        notes.append(_open_clip())
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


def _open_clip() -> str:
    """Whether open_clip imports: torch and torchvision are often of builds that do not fit each other."""
    from ..rewards import clip_versions

    try:
        return f"CLIP in PyTorch works: {clip_versions()}."
    except ImportError as error:
        return f"CLIP in PyTorch does not work: {error}"


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
