"""`limbeck rewards`: what is done with reward models. Every action is imported when it is called."""

import difflib
import importlib
from collections.abc import Sequence

from ._usage import UsageError


# Name -> (module beside this one, function, what follows the name, what it does).
ACTIONS: dict[str, tuple[str, str, str, str]] = {
    "train": ("_rewards_train", "train", "[--out DIR]", "small CLIPs of rendered rooms or screens"),
    "evaluate": (
        "_rewards_evaluate",
        "evaluate_command",
        "NAME",
        "how good a model is on rooms or screens",
    ),
    "relabel": (
        "_relabel",
        "relabel_command",
        "PATH OUT --reward NAME",
        "stored histories with a model's rewards",
    ),
    "check": ("_rewards_check", "check", "NAME", "whether a reward model keeps the contract"),
}


def rewards(arguments: Sequence[str]) -> int:
    """`limbeck rewards ACTION …`; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name not in ACTIONS:
        close = difflib.get_close_matches(name, ACTIONS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UsageError(f"there is no action {name!r} on rewards; {hint}known: {', '.join(ACTIONS)}")
    module, function, _, _ = ACTIONS[name]
    return getattr(importlib.import_module(f".{module}", __package__), function)(rest) or 0


def _help() -> str:
    typed = {name: f"{name} {follows}" for name, (_, _, follows, _) in ACTIONS.items()}
    width = max(map(len, typed.values()))
    return "\n".join(
        [
            f"usage: limbeck rewards {'|'.join(ACTIONS)} …",
            "",
            *(f"  {typed[name]:<{width}}  {description}" for name, (_, _, _, description) in ACTIONS.items()),
            "",
            "limbeck rewards ACTION --help shows an action's options.",
        ]
    )
