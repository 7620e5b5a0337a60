"""The `limbeck` command. Every command is imported when it is called, so that the others start fast."""

import difflib
import importlib
import logging
import os
import pathlib
import sys
import traceback
from collections.abc import Sequence

from ._usage import UsageError


# Name -> (module beside this one, function, what it does).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("_run", "run", "run an experiment, or go on with one that was stopped"),
    "evaluate": ("_experiment", "evaluate", "play a run's distilled agent in context"),
    "report": ("_experiment", "report", "write a run's report again"),
    "compare": ("_experiment", "compare", "lay several runs' curves over each other"),
    "watch": ("_watch", "watch", "draw a GIF of a distilled agent that learns a task"),
    "export": ("_experiment", "export", "write a run's network as safetensors and JSON"),
    "histories": ("_histories", "histories", "show, export and import learning histories"),
    "rewards": ("_rewards", "rewards", "check reward models"),
    "envs": ("_listings", "envs", "list the environments"),
    "agents": ("_listings", "agents", "list the source algorithms"),
    "encoders": ("_encoders", "encoders", "list the perception networks and the recipes that train them"),
    "doctor": ("_doctor", "doctor", "what is installed here, and what each missing extra would give"),
}


_MENDABLE = (ValueError, ImportError, ArithmeticError, RuntimeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for what the user can mend, 130 for an interruption.

    What the user can mend is one line on stderr. An exception that nobody foresaw keeps its traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _show_log()
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("limbeck: interrupted; the same command again goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read us (`| head`) has gone; so must the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not _foreseen(error):
            raise
        print(f"limbeck: {_one_line(error)}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("--version", "version"):
        # The root package is a folder beside this one in a clone, where no type checker looks for it.
        from .. import __version__  # pyright: ignore[reportMissingImports]

        print(f"limbeck {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UsageError(f"there is no command {name!r}; {hint}known: {', '.join(COMMANDS)}")
    module, function, _ = COMMANDS[name]
    command = getattr(importlib.import_module(f".{module}", __package__), function)
    return command(rest) or 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {description}" for name, (_, _, description) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: limbeck COMMAND [options]",
            "",
            "Distils reinforcement-learning algorithms into networks that learn in their context.",
            "",
            *lines,
            "",
            "limbeck COMMAND --help shows a command's options.",
        ]
    )


def _foreseen(error: Exception) -> bool:
    """Whether an exception was raised on purpose by Limbeck, or is the system's word about a file."""
    if isinstance(error, OSError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not isinstance(error, _MENDABLE):
        return False
    last = frames[-1]
    return _is_ours(last.filename) and (last.line or "").startswith("raise")


def _is_ours(filename: str) -> bool:
    # The same two folders up, in a clone and in an installed wheel.
    package = pathlib.Path(__file__).resolve().parent.parent
    path = pathlib.Path(filename).resolve()
    return path.is_relative_to(package) and "site-packages" not in path.relative_to(package).parts


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _show_log() -> None:
    """What Limbeck logs goes to stderr, a line each."""
    logger = logging.getLogger("limbeck")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


if __name__ == "__main__":
    sys.exit(main())
