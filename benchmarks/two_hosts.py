"""A job on a Ray cluster of two hosts: network namespaces of this machine, joined by a virtual cable.

python -m benchmarks.two_hosts          # as root, about two minutes

Each host has an address and a loopback of its own, and a Ray node; the hosts share the file system, as a cluster's do.
What is shown: that nodes ran on both hosts, that an actor which is killed on the second one comes back, and that the
job finishes.
"""

import argparse
import contextlib
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from ._machine import RESULTS, circumstances, write


HOSTS = {"limbeck-a": "10.77.0.1", "limbeck-b": "10.77.0.2"}
PORT = 6400


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--json", type=pathlib.Path, default=RESULTS / "two_hosts.json", help="where results go"
    )
    parser.add_argument("--env", default="MiniGrid-Empty-5x5-v0")
    parser.add_argument("--steps", type=int, default=40_000)
    arguments = parser.parse_args()
    if os.geteuid():
        raise SystemExit("network namespaces need root")
    result = circumstances("two_hosts")
    with tempfile.TemporaryDirectory() as directory, _hosts(), _cluster(pathlib.Path(directory)):
        result |= _job(pathlib.Path(directory), arguments.env, arguments.steps)
    write(arguments.json, result)


@contextlib.contextmanager
def _hosts() -> Iterator[None]:
    """Two namespaces and the cable between them."""
    cable = dict(zip(HOSTS, ("limbeck-va", "limbeck-vb")))
    try:
        for host in HOSTS:
            _run("ip", "netns", "add", host)
        _run("ip", "link", "add", "limbeck-va", "type", "veth", "peer", "name", "limbeck-vb")
        for host, address in HOSTS.items():
            _run("ip", "link", "set", cable[host], "netns", host)
            _run("ip", "-n", host, "addr", "add", f"{address}/24", "dev", cable[host])
            _run("ip", "-n", host, "link", "set", cable[host], "up")
            _run("ip", "-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _cluster(directory: pathlib.Path) -> Iterator[None]:
    """A Ray node in each namespace."""
    # Ray refuses unknown callers where it listens on more than the loopback.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    first, second = HOSTS
    ours = ["--num-cpus=4", "--num-gpus=0", "--disable-usage-stats"]
    try:
        head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={directory / 'ray'}"]
        _run(*_on(first), *_ray("start"), *head, f"--node-ip-address={HOSTS[first]}", *ours)
        joins = [f"--address={HOSTS[first]}:{PORT}", f"--node-ip-address={HOSTS[second]}"]
        _run(*_on(second), *_ray("start"), *joins, *ours)
        yield
    finally:
        subprocess.run([*_ray("stop"), "--force"], check=False, capture_output=True)


def _job(directory: pathlib.Path, env: str, steps: int) -> dict[str, Any]:
    first, second = HOSTS
    options = ["--env", env, "--steps", str(steps), "--actors", "3", "--target-success", "None"]
    where = [
        "--launcher",
        "ray",
        "--address",
        f"{HOSTS[first]}:{PORT}",
        "--runs-dir",
        str(directory),
        "--name",
        "job",
    ]
    command = [*_on(first), sys.executable, "-m", "limbeck.launchers.command_line", "run", "minigrid"]
    began = time.perf_counter()
    hosts: dict[str, str] = {}
    killed = ""
    with subprocess.Popen([*command, *options, *where]) as process:
        while process.poll() is None:
            time.sleep(0.5)
            pids = _pids(directory / "job" / "nodes")
            hosts |= {name: host for name, pid in pids.items() if (host := _host(pid))}
            actors = [name for name, host in hosts.items() if host == second and name.startswith("actor")]
            if not killed and actors and (directory / "job" / "checkpoints").exists() and actors[0] in pids:
                killed = actors[0]
                os.kill(pids[killed], signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"the job failed with exit code {process.returncode}")
    found = json.loads((directory / "job" / "evaluation.json").read_text())
    restarts = (
        json.loads((directory / "job" / "nodes" / f"{killed}.json").read_text())["restarts"] if killed else 0
    )
    return {
        "env": env,
        "hosts": {name: HOSTS[host] for name, host in sorted(hosts.items())},
        "killed": killed,
        "restarts_of_the_killed": restarts,
        "seconds": round(time.perf_counter() - began, 1),
        "steps": found["steps"],
        "success": found["success"],
    }


def _pids(nodes: pathlib.Path) -> dict[str, int]:
    about = [json.loads(path.read_text()) for path in nodes.glob("*.json")]
    return {node["name"]: node["pid"] for node in about if node["pid"]}


def _host(pid: int) -> str | None:
    """In whose network namespace a process is."""
    try:
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None
    return next((host for host in HOSTS if os.stat(f"/var/run/netns/{host}").st_ino == inode), None)


def _on(host: str) -> list[str]:
    return ["ip", "netns", "exec", host]


def _ray(command: str) -> list[str]:
    return [str(pathlib.Path(sys.executable).with_name("ray")), command]


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1000:] or done.stdout[-1000:]}")


if __name__ == "__main__":
    main()
