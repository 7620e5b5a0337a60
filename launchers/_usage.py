"""How a command reads its arguments."""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any


_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class UsageError(ValueError):
    """What was typed is wrong. One clear line."""


def parse(target: Callable[..., Any], name: str, arguments: Sequence[str], **options: Any) -> Any:
    """`tyro.cli`, with what is wrong in one line.

    Args:
      target: a function or a dataclass.
      name: of the command, as typed.
      arguments: what follows it.
      **options: of `tyro.cli`.

    Raises:
      UsageError: the arguments do not fit.
      SystemExit: with code 0, after help was shown.
    """
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                target,
                prog=f"limbeck {name}",
                args=list(arguments),
                **options,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_plain(complaint.getvalue(), name)) from None
    return parsed


def given(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag that decides what the others begin from."""
    names = {f"--{flag}", f"--{flag.replace('_', '-')}"}
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            if equals:
                return value
            return arguments[i + 1] if i + 1 < len(arguments) else None
    return None


def _plain(text: str, name: str) -> str:
    """tyro's box without its frame, up to the rule above what it adds."""
    words: list[str] = []
    for line in _ESCAPE.sub("", text).splitlines():
        inside = line.strip().strip("│").strip()
        if line.startswith(("╭", "╰")):
            continue
        if set(inside) == {"─"}:
            break
        words.append(inside)
    return f"{' '.join(' '.join(words).split())} (see limbeck {name} --help)"
