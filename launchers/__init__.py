"""Programs, the command line and experiments."""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ._supervisor import Supervision as Supervision
    from .faults import FaultPlan as FaultPlan
    from .faults import summarise as summarise
    from .local import run_local as run_local
    from .on_ray import run_on_ray as run_on_ray
    from .program import Context as Context
    from .program import Node as Node
    from .program import NodeState as NodeState
    from .program import Outcome as Outcome
    from .program import Program as Program
    from .program import ProgramError as ProgramError
    from .program import Recovery as Recovery
    from .program import resolve as resolve
    from .rpc import AccessRefused as AccessRefused
    from .rpc import CallTimeout as CallTimeout
    from .rpc import Handle as Handle
    from .rpc import MessageError as MessageError
    from .rpc import NodeGone as NodeGone
    from .rpc import RemoteError as RemoteError
    from .rpc import RpcError as RpcError
    from .rpc import Server as Server


# The `limbeck` command starts in a moment because nothing is imported before it is asked for.
_HOMES = {
    "_supervisor": ("Supervision",),
    "faults": ("FaultPlan", "summarise"),
    "local": ("run_local",),
    "on_ray": ("run_on_ray",),
    "program": ("Context", "Node", "NodeState", "Outcome", "Program", "ProgramError", "Recovery", "resolve"),
    "rpc": (
        "AccessRefused",
        "CallTimeout",
        "Handle",
        "MessageError",
        "NodeGone",
        "RemoteError",
        "RpcError",
        "Server",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
