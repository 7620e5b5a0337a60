"""What every test shares: two forced host devices, and the time that each folder of tests took."""

import collections
import os
import pathlib

import pytest


# Before JAX starts: data parallelism is tested on two host devices.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
    )

_seconds: dict[str, float] = collections.defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[str(pathlib.PurePosixPath(report.nodeid.split("::")[0]).parent)] += report.duration


def pytest_terminal_summary(terminalreporter) -> None:
    if _seconds:
        terminalreporter.section("seconds per folder")
    for folder, seconds in sorted(_seconds.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{seconds:8.1f}  {folder}")
    if _seconds:
        terminalreporter.write_line(f"{sum(_seconds.values()):8.1f}  in all")


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the clone."""
    return pathlib.Path(__file__).resolve().parent.parent
