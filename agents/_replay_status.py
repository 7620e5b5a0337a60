"""What a table holds and who waits for whom, from the `TableInfo` that Reverb sends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._limiter import Limiter


def table_status(info: Any) -> dict[str, Any]:
    """What `ReplayClient.status` says of a table."""
    found = info.rate_limiter_info
    limiter = Limiter(found.samples_per_insert, found.min_size_to_sample, found.min_diff, found.max_diff)
    counts = (info.current_size, found.insert_stats.completed, found.sample_stats.completed)
    unlimited = found.max_diff >= float(np.finfo(np.float64).max)
    kind = info.sampler_options.WhichOneof("distribution")
    ordered = "queue" if info.max_times_sampled == 1 else "held"
    return {
        "kind": {"fifo": ordered, "prioritized": "prioritised"}.get(kind, kind),
        "size": info.current_size,
        "max_size": info.max_size,
        "min_size": limiter.min_size,
        "inserts": counts[1],
        "samples": counts[2],
        "samples_per_insert": None if unlimited else limiter.samples_per_insert,
        "waiting": limiter.starving(*counts),
    }


def describe_status(status: Mapping[str, Any]) -> str:
    """One table of `ReplayClient.status` in words."""
    starving = {
        "inserts": "inserts wait for samples: whoever samples is slow or gone",
        "samples": "samples wait for inserts: whoever inserts is slow or gone",
        None: "neither side waits for the other: the network or a machine is slow",
    }[status["waiting"]]
    return (
        f"the table holds {status['size']} of at most {status['max_size']} items after {status['inserts']} inserts "
        f"and {status['samples']} samples; {starving}"
    )


def is_queue(info: Any) -> bool:
    """Whether a table samples in the order of inserts, as its `TableInfo` says."""
    return info.sampler_options.WhichOneof("distribution") == "fifo"
