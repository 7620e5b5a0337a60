"""Limbeck distils reinforcement-learning algorithms into networks.

The subpackages (`limbeck.envs`, `limbeck.agents`, …) are imported on first use, so that
`import limbeck` costs nothing.
"""

import importlib as _importlib
import pathlib as _pathlib


__version__ = "0.1.0"

_SUBPACKAGES = ("agents", "distillation", "encoders", "envs", "launchers", "rewards")

# In a clone the subpackages are the folders beside this one. Without this line an installed
# wheel's `limbeck` would be shadowed by this folder and its subpackages would be missing.
_root = _pathlib.Path(__file__).resolve().parent.parent
if (_root / "setup.cfg").is_file() and (_root / "envs" / "__init__.py").is_file():
    __path__.append(str(_root))


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBPACKAGES])
