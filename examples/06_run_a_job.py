"""A job of actors, replay and a learner on an environment and an algorithm of one's own (`my_module.py`).

The same from a shell, in this folder:
limbeck run gymnasium --env my_module:make --agent my_module:algorithm --steps 16000 --name mine
"""

import json
import pathlib

from limbeck.launchers import command_line


def main(runs_dir: str = "runs", name: str = "mine", steps: int = 16_000) -> dict[str, float]:
    command = ["run", "gymnasium", "--env", "my_module:make", "--agent", "my_module:algorithm"]
    command += ["--env-arguments", "length", "6", "--actors", "1", "--steps", str(steps)]
    command += ["--evaluation.episodes", "10", "--name", name, "--runs-dir", runs_dir]
    if command_line.main(command):  # the same call again goes on where it stopped
        raise SystemExit("the job did not finish")
    return json.loads((pathlib.Path(runs_dir) / name / "evaluation.json").read_text())


if __name__ == "__main__":
    main()
