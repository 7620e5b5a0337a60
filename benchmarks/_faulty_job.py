"""One launch of a job in this process: `python -m benchmarks._faulty_job '{"directory": …}'`.

Prints one line of JSON when the job has ended: how, and what became of the nodes that were killed on purpose.
"""

import dataclasses
import json
import pathlib
import sys

from limbeck.launchers import FaultPlan, run_local, run_on_ray
from limbeck.launchers.job_config import JobEvaluationConfig
from limbeck.launchers.jobs import job_program

from ._ticking import ticking_job


CONFIG = ticking_job(evaluation=JobEvaluationConfig(episodes=4, environments=2, every_s=2.0))


def main() -> int:
    told = json.loads(sys.argv[1])
    program = job_program(CONFIG, told["name"])
    faults = None if told["faults"] is None else FaultPlan(**told["faults"])
    directory = pathlib.Path(told["directory"])
    run = run_on_ray if told["backend"] == "ray" else run_local
    outcome = run(program, directory, faults=faults)
    found = {"state": outcome.state, "seconds": outcome.seconds, "failure": outcome.failure}
    print(json.dumps(found | {"recoveries": [dataclasses.asdict(one) for one in outcome.recoveries]}))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
