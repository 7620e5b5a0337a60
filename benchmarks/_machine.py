"""What a result says about the machine it was measured on, and the file that it goes to."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from typing import Any


RESULTS = pathlib.Path(__file__).parent / "results"
_PACKAGES = ("jax", "dm-haiku", "optax", "torch", "stable-baselines3", "dm-reverb")


def hardware() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    return f"{name}, {cores()} cores"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def circumstances(module: str) -> dict[str, Any]:
    """Command, hardware, date, versions, and the load average at this moment: call it before measuring."""
    return {
        "command": f"python -m benchmarks.{module} {' '.join(sys.argv[1:])}".strip(),
        "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "load_before": round(os.getloadavg()[0], 1),
    }


def write(path: pathlib.Path, result: dict[str, Any]) -> None:
    """Writes a result and says where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {os.path.relpath(path)}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
