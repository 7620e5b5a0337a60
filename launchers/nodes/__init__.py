"""The nodes of an actor/learner job: each module has a function `run(context)`."""
