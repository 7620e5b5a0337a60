"""The replay node: a Reverb server, restored from what was published together with the newest checkpoint."""

import logging

from ..job_config import job_from_settings
from ..job_histories import history_tables
from ..job_labelling import labelling_tables
from ..jobs import TABLE, parts, published, replay_directory
from ..program import Context


_log = logging.getLogger(__name__)

ADDRESS = "replay"


def run(context: Context) -> None:
    """Serves until it is told to stop."""
    from ...agents import replay  # Reverb and TensorFlow come only into the nodes that use them.

    config = job_from_settings(context.program_settings)
    tables = [parts(config).table, *history_tables(config), *labelling_tables(config)]
    about = published(context.run_directory)
    restore = None if about is None else context.run_directory / about["replay"]
    root = replay_directory(context.run_directory)
    with (
        replay.ReplayServer(tables, checkpoints=root, restore=restore) as server,
        replay.ReplayClient(server.address) as client,
    ):
        if restore is not None:
            found = client.status()[TABLE]
            _log.info(
                "replay goes on from %s: %d items after %d inserts", restore, found["size"], found["inserts"]
            )
        context.advertise(ADDRESS, server.address)
        while not context.stopping.wait(1.0):
            try:
                status = client.status()[TABLE]
            except replay.ReplayError as error:
                _log.info("%s", error)  # A checkpoint makes every other call wait.
                continue
            context.report(
                fill=f"{status['size']}/{status['max_size']}", waiting=status["waiting"] or "nobody"
            )
