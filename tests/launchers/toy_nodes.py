"""Nodes for the tests of programs: small functions without JAX."""

import os
import pathlib
import signal
import subprocess
import sys
import time


def returns(context):
    """Leaves its incarnation and what it was told in a file, and returns."""
    note(context, f"{context.incarnation} {context.settings} {context.program_settings}")


def fails_at_first(context):
    """Fails in its first incarnations, `settings["times"]` of them, in various ways."""
    note(context, str(context.incarnation))
    context.report(start=context.incarnation)
    if context.incarnation < context.settings["times"]:
        if context.incarnation % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(f"failure number {context.incarnation}")


def waits(context):
    """Waits until it is to stop, then flushes a file."""
    note(context, "began")
    context.report(ready=True)
    context.stopping.wait()
    time.sleep(context.settings.get("flush_s", 0.0))
    note(context, f"flushed at {time.monotonic()}")


def hangs(context):
    """Never stops by itself, and has a child that does not either."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(context, f"{os.getpid()} {child.pid}")
    context.report(ready=True)
    time.sleep(600)


def leaves_a_child(context):
    """Returns while a process that it started runs on."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(context, str(child.pid))
    child.returncode = 0  # No complaint of an unfinished child.


def counts(context):
    """Serves a counter that begins at its incarnation times 1000."""
    count = 1000 * context.incarnation

    def add(amount=1):
        nonlocal count
        count += amount
        return count

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    context.serve({"add": add, "die": die, "where": lambda: str(context.run_directory)})
    context.advertise("foreign", f"10.0.0.1:{context.incarnation}")
    context.report(count=count)
    while not context.stopping.wait(0.02):
        context.report(count=count)


def calls(context):
    """Calls the counter, kills it, and goes on with the one that comes after it."""
    from limbeck.launchers import NodeGone

    counter = context.connect("counter", deadline_s=30.0)
    first = [counter.call("add"), counter.call("add", amount=5)]
    before = context.find("counter", "foreign", deadline_s=30.0)
    try:
        counter.call("die", deadline_s=30.0)
    except NodeGone as error:
        died = str(error)
    second = [counter.call("add", deadline_s=60.0)]
    after = context.find("counter", "foreign", deadline_s=30.0)
    note(context, f"{first} {before} {'died' in died} {second} {after}")


def works(context):
    """Does `settings["steps"]` small steps, across restarts."""
    path = pathlib.Path(context.run_directory) / f"{context.name}.steps"
    while not context.stopping.is_set():
        steps = int(path.read_text()) if path.exists() else 0
        if steps >= context.settings["steps"]:
            return
        aside = path.with_suffix(".aside")
        aside.write_text(str(steps + 1))
        aside.replace(path)
        context.report(steps=steps + 1)
        time.sleep(0.02)


def fails_when_told(context):
    """Fails when there is a file called `fail`."""
    while not context.stopping.wait(0.05):
        if (context.run_directory / "fail").exists():
            raise ValueError("told to fail")


def says_where(context):
    """Reports the Ray node that it is on, and holds its place there until it is told to stop."""
    import ray

    context.report(machine=ray.get_runtime_context().get_node_id())
    context.advertise("placed", "here")
    context.stopping.wait(60.0)


def waits_for_all(context):
    """Returns when all of the nodes have their places at one time."""
    for name in context.settings["nodes"]:
        context.find(name, "placed", 60.0)


def note(context, line):
    """Appends a line to the node's file."""
    with open(context.run_directory / f"{context.name}.txt", "a") as file:
        file.write(line + "\n")
