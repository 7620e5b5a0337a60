"""The nodes of an actor/learner job: each module has a function `run(context)`."""

_LIMBECK = __name__.partition(".")[0]

# What their processes need, heavy imports that come late included.
IMPORTS = (
    *(f"{__name__}.{name}" for name in ("actor", "evaluator", "labeller", "learner", "replay", "sink")),
    f"{_LIMBECK}.agents.replay",
    "tensorboardX",
)
