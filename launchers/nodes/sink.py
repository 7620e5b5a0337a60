"""The history sink: writes blocks of learning histories from replay to the store."""

import logging

from ...agents import HISTORIES_TABLE, item_block
from ..job_config import job_from_settings
from ..job_histories import JobStore
from ..program import Context
from ._replay_link import ReplayLink


_log = logging.getLogger(__name__)

_SAMPLE_S = 2.0


def run(context: Context) -> None:
    """Writes until it is told to stop."""
    store = JobStore(context.run_directory, job_from_settings(context.program_settings))
    context.serve({"begin": store.begin, "watermark": store.watermark})
    link = ReplayLink(context)
    while not context.stopping.is_set():
        context.report(**store.facts())
        found = link.call(lambda client: client.sample(HISTORIES_TABLE, 1, _SAMPLE_S), within_s=0)
        if found is None:
            continue
        block = item_block(store.manifest, {name: array[0] for name, array in found.data.items()})
        if block is None:
            _log.warning("a block of another store was in the queue; it is thrown away")
        elif not store.write(block):
            _log.info("group %d, chunk %d: of an earlier start; thrown away", block.group, block.chunk)
    link.close()
    store.close()
