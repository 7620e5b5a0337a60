"""What may import what: Reverb and TensorFlow from one module only, folders in one direction, no circles."""

import ast
import pathlib
import subprocess
import sys

import pytest


# DESIGN section 1: what each folder may import of Limbeck's own code, itself always included.
MAY_IMPORT = {
    "encoders": set(),
    "envs": set(),
    "agents": {"envs", "encoders"},
    "rewards": {"agents", "envs", "encoders"},
    "distillation": {"agents", "envs", "encoders"},
    "launchers": {"agents", "envs", "encoders", "rewards", "distillation"},
}

REPLAY = "agents/replay.py"

BLOCKED = """
import importlib, pathlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "reverb"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
for module in sys.argv[1:]:
    importlib.import_module(module)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("tensorflow", "reverb")))
"""


def _modules(repository: pathlib.Path) -> dict[str, pathlib.Path]:
    """Module name -> file, for all of Limbeck's code."""
    modules = {}
    for folder in MAY_IMPORT:
        for path in sorted((repository / folder).rglob("*.py")):
            parts = path.relative_to(repository).with_suffix("").parts
            modules[".".join(("limbeck", *parts)).removesuffix(".__init__")] = path
    return modules


def _imports(module: str, path: pathlib.Path) -> set[str]:
    """The absolute names of all modules and names that a file imports, wherever in the file."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}".rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
            # `from . import x` names the package only to find the module x in it.
            found |= {base} if node.module else set()
    return found


def test_imports_without_tensorflow_and_reverb(repository: pathlib.Path) -> None:
    modules = [name for name, path in _modules(repository).items() if not str(path).endswith(REPLAY)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLOCKED, "limbeck", *modules],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_only_the_replay_module_imports_them(repository: pathlib.Path) -> None:
    for module, path in _modules(repository).items():
        if not str(path).endswith(REPLAY):
            roots = {name.split(".")[0] for name in _imports(module, path)}
            assert not roots & {"tensorflow", "reverb"}, path


@pytest.mark.parametrize("folder", list(MAY_IMPORT))
def test_imports_point_one_way(repository: pathlib.Path, folder: str) -> None:
    allowed = MAY_IMPORT[folder] | {folder}
    for module, path in _modules(repository).items():
        if module.split(".")[1] != folder:
            continue
        for name in _imports(module, path):
            assert not name.startswith(tuple(f"{other}." for other in MAY_IMPORT)), (
                f"{path}: {name} not relative"
            )
            if name.startswith("limbeck."):
                assert name.split(".")[1] in {*allowed, "__version__"}, f"{path} imports {name}"


def test_own_code_is_imported_relatively(repository: pathlib.Path) -> None:
    for path in _modules(repository).values():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] == "limbeck"], path


def test_no_two_files_import_each_other(repository: pathlib.Path) -> None:
    modules = _modules(repository)
    # A package's `__init__` imports its files; a file that imports the package back would be a circle too.
    graph = {
        name: {other for other in _imports(name, path) if other in modules and other != name}
        for name, path in modules.items()
    }
    for name, others in graph.items():
        for other in others:
            assert name not in graph[other], f"{name} and {other} import each other"
