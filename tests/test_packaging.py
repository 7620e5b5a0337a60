"""An editable install and a built wheel both import, from outside the clone and from inside it."""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest


IMPORT = (
    "import limbeck, limbeck.envs, limbeck.agents, limbeck.encoders, limbeck.distillation, limbeck.rewards;"
    "import limbeck.launchers.experiments.dark_room;"
    "from limbeck.envs import dark_room;"
    "print(limbeck.__version__, limbeck.__file__, dark_room.__file__, sep='\\n')"
)


@pytest.fixture(scope="module")
def source(repository: pathlib.Path, tmp_path_factory) -> pathlib.Path:
    """A copy of the clone: building leaves a `build` folder beside the code."""
    copy = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (repository / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, copy / name)
    return copy


def _built(source: pathlib.Path, editable: bool, out: pathlib.Path) -> pathlib.Path:
    """Builds a wheel with the installed setuptools (no network) and unpacks it into a folder."""
    code = (
        "import sys; from setuptools import build_meta as b;"
        f"print(b.{'build_editable' if editable else 'build_wheel'}(sys.argv[1]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel = out / done.stdout.splitlines()[-1]
    unpacked = out / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


def _run(site: pathlib.Path, cwd: pathlib.Path, code: str) -> list[str]:
    """Runs code in a Python whose site packages are `site`, `.pth` files included, and the installed ones."""
    shared = sysconfig.get_paths()["purelib"]
    start = f"import site, sys; site.addsitedir({str(site)!r}); sys.path.append({shared!r}); "
    # -S leaves out what is installed beside the tests, a limbeck among it; -c puts the current folder first.
    command = [sys.executable, "-S", "-W", "ignore", "-c", start + code]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_folder_of_code_is_packaged(repository: pathlib.Path) -> None:
    config = configparser.ConfigParser()
    config.read(repository / "setup.cfg")
    packages = set(config["options"]["packages"].split())
    code = {path.parent for path in repository.glob("*/**/__init__.py")}
    code = {path.relative_to(repository) for path in code}
    code = {path for path in code if not path.parts[0].startswith(".")}
    code = {
        path for path in code if path.parts[0] not in ("tests", "benchmarks", "examples", "build", "docs")
    }
    named = {"limbeck" if path.parts == ("limbeck",) else ".".join(("limbeck", *path.parts)) for path in code}
    assert packages == named


def test_wheel(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    site = _built(source, editable=False, out=tmp_path)
    packaged = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert "limbeck/envs/dark_room.py" in packaged
    assert "limbeck/py.typed" in packaged
    assert {"limbeck/envs/screen_icons.png", "limbeck/envs/screen_icons.txt"} <= packaged
    assert not [
        name for name in packaged if name.startswith(("tests", "benchmarks", "docs", "limbeck/tests"))
    ]
    outside = tmp_path / "outside"
    outside.mkdir()
    version, root, module = _run(site, outside, IMPORT)
    assert root == str(site / "limbeck" / "__init__.py")
    assert module == str(site / "limbeck" / "envs" / "dark_room.py")
    # Inside the clone the clone's own code wins, whole: never a mixture of two versions.
    version_inside, root, module = _run(site, source, IMPORT)
    assert version_inside == version
    assert root == str(source / "limbeck" / "__init__.py")
    assert module == str(source / "envs" / "dark_room.py")


def test_editable_install(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    site = _built(source, editable=True, out=tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    for folder in (outside, source):
        _, root, module = _run(site, folder, IMPORT)
        assert root == str(source / "limbeck" / "__init__.py")
        assert module == str(source / "envs" / "dark_room.py")


def test_users_folders_do_not_collide(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    site = _built(source, editable=False, out=tmp_path)
    own = tmp_path / "own"
    (own / "envs").mkdir(parents=True)
    (own / "envs" / "__init__.py").write_text("mine = True\n")
    assert _run(site, own, "import envs, limbeck.envs; print(envs.mine, limbeck.envs.DarkRoom.__name__)") == [
        "True DarkRoom"
    ]
