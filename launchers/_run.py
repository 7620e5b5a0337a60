"""`limbeck run`: finds out which kind of experiment it is, and begins to import what its nodes need at once."""

import contextlib
from collections.abc import Sequence

from . import experiments, nodes
from ._template import Template
from ._usage import given


def run(arguments: Sequence[str]) -> int:
    """`limbeck run EXPERIMENT [options]`. Returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_run_help())
        return 0
    name, *rest = arguments
    if name not in experiments.JOBS:
        from . import _experiment

        return _experiment.run(name, rest)
    with contextlib.ExitStack() as open_:
        template = None
        if given(rest, "launcher") in (None, "local") and not {"-h", "--help"} & set(rest):
            template = open_.enter_context(Template(nodes.IMPORTS))
        from . import _job

        return _job.run(name, rest, template)


def _run_help() -> str:
    described = {name: (experiments.load(name).__doc__ or "").strip() for name in experiments.NAMES}
    width = max(map(len, described))
    return "\n".join(
        [
            "usage: limbeck run EXPERIMENT [--name NAME] [--runs-dir DIRECTORY] [--seeds N] [--settings …]",
            "",
            *(f"  {name:<{width}}  {text}" for name, text in described.items()),
            "",
            "limbeck run EXPERIMENT --help shows its settings.",
        ]
    )
