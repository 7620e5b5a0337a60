"""Checkpoints: one directory each, written aside and renamed, checked before they are read.

    checkpoints/
      step_00001000/
        manifest.json   format version, step, names, shapes and dtypes of the arrays, settings
        arrays/         the arrays, by orbax (OCDBT through TensorStore)

A directory is a checkpoint if and only if it has its final name: the name is given by the rename that
ends the writing. Nothing is pickled, so reading a checkpoint runs no code of whoever wrote it.
"""

import functools
import json
import os
import pathlib
import re
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


FORMAT = 1
_NAME = re.compile(r"step_(\d{8,})")
_ASIDE = ".writing_"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, or that does not fit what it is restored into."""


class Restored(NamedTuple):
    """What a checkpoint held: `tree` of NumPy arrays, the update count `step`, and `settings`."""

    tree: Any
    step: int
    settings: dict


@functools.cache
def _orbax():
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _keys(path) -> list[str]:
    """A leaf's place in its tree as plain names: dictionary keys, field names and positions."""
    keys = []
    for entry in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                keys.append(str(getattr(entry, attribute)))
                break
        else:
            keys.append(str(entry))
    return keys


def _is_key(x) -> bool:
    return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _raw(x):
    return jax.random.key_data(x) if _is_key(x) else x


def _describe(tree: Any) -> list[dict]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    rows = []
    for path, leaf in leaves:
        leaf = _raw(leaf)
        rows.append(
            {
                "name": _keys(path),
                "shape": list(np.shape(leaf)),
                "dtype": str(np.result_type(getattr(leaf, "dtype", leaf))),
            }
        )
    return rows


def steps(directory: str | os.PathLike[str]) -> list[int]:
    """Update counts of the whole checkpoints in `directory`, ascending; incomplete ones are not seen."""
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        return []
    found = (_NAME.fullmatch(entry.name) for entry in directory.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _place(directory: str | os.PathLike[str], step: int) -> pathlib.Path:
    return pathlib.Path(directory).absolute() / f"step_{step:08d}"


def _sync(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(place: pathlib.Path) -> None:
    # Loses its name first: a half-deleted directory must not pass for a checkpoint.
    aside = place.with_name(f"{_ASIDE}removed_{place.name}")
    os.rename(place, aside)
    shutil.rmtree(aside)


def save(
    directory: str | os.PathLike[str],
    step: int,
    tree: Any,
    settings: dict | None = None,
    keep: int | None = 2,
) -> pathlib.Path:
    """Writes a checkpoint atomically and removes the oldest ones.

    Args:
      directory: folder of the checkpoints; made if it is missing.
      step: number of updates done.
      tree: pytree of arrays. Typed random keys are stored as their raw data.
      settings: JSON-able facts to lay beside the arrays.
      keep: how many of the newest checkpoints to leave; None leaves all.

    Returns:
      The checkpoint's own directory.

    Raises:
      CheckpointError: if it cannot be written (permissions, full disk). Earlier checkpoints stay whole.
    """
    directory = pathlib.Path(directory).absolute()
    final, aside = _place(directory, step), directory / f"{_ASIDE}{step:08d}"
    arrays = {f"{i:05d}": np.asarray(_raw(leaf)) for i, leaf in enumerate(jax.tree.leaves(tree))}
    # Orbax refuses arrays without elements; the manifest says all there is to know of them.
    arrays = {name: array for name, array in arrays.items() if array.size}
    manifest = {"format": FORMAT, "step": step, "arrays": _describe(tree), "settings": settings or {}}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"{_ASIDE}*"):
            shutil.rmtree(left)
        aside.mkdir()
        _orbax().save(aside / "arrays", arrays)
        with open(aside / "manifest.json", "w") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        _sync(aside)
        if final.exists():
            _remove(final)
        os.rename(aside, final)
        _sync(directory)
        if keep is not None:
            for old in steps(directory)[:-keep]:
                _remove(_place(directory, old))
    except (OSError, ValueError) as error:
        # TensorStore reports a full disk or a lost permission as a ValueError.
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {directory}: {error}"
        ) from error
    return final


def _read(directory: str | os.PathLike[str], step: int | None) -> tuple[dict, list[np.ndarray]]:
    found = steps(directory)
    if not found:
        raise CheckpointError(f"there is no checkpoint in {directory}")
    step = found[-1] if step is None else step
    if step not in found:
        raise CheckpointError(f"there is no checkpoint of step {step} in {directory}; there are {found}")
    place = _place(directory, step)
    try:
        manifest = json.loads((place / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            raise CheckpointError(
                f"{place} has format {manifest['format']}; this version of Limbeck reads format {FORMAT}"
            )
        arrays = _orbax().restore(place / "arrays")
        leaves = [
            np.asarray(arrays[f"{i:05d}"])
            if 0 not in row["shape"]
            else np.zeros(row["shape"], jnp.dtype(row["dtype"]))
            for i, row in enumerate(manifest["arrays"])
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{place} is damaged and cannot be read: {error}") from error
    return manifest, leaves


def restore(directory: str | os.PathLike[str], template: Any, step: int | None = None) -> Restored:
    """Reads a checkpoint into the form of `template`.

    Args:
      directory: folder of the checkpoints.
      template: pytree of arrays with the structure, shapes and dtypes that are expected. Where it has
        typed random keys, the result has them again.
      step: which one; the newest if None.

    Raises:
      CheckpointError: if there is none, if it is damaged or of another format, or if its arrays are not
        those of the template; the message lists the differences.
    """
    manifest, leaves = _read(directory, step)
    stored = {"/".join(row["name"]): (tuple(row["shape"]), row["dtype"]) for row in manifest["arrays"]}
    expected = {"/".join(row["name"]): (tuple(row["shape"]), row["dtype"]) for row in _describe(template)}
    if list(stored.items()) != list(expected.items()):
        raise CheckpointError(
            f"the checkpoint of step {manifest['step']} in {directory} is of another model or optimiser:\n"
            + "\n".join(_differences(stored, expected))
        )
    old, structure = jax.tree.flatten(template)
    new = [
        # Copied, for whoever restores may donate the arrays, and donated memory must be JAX's own.
        jax.random.wrap_key_data(jnp.array(leaf), impl=jax.random.key_impl(like))
        if _is_key(like)
        else jnp.array(leaf)
        for leaf, like in zip(leaves, old, strict=True)
    ]
    return Restored(jax.tree.unflatten(structure, new), manifest["step"], manifest["settings"])


def restore_dict(directory: str | os.PathLike[str], step: int | None = None) -> Restored:
    """Reads a checkpoint without a template, as nested dictionaries by the names in the manifest.

    Haiku's parameters, which are dictionaries already, come back as they were; a named tuple comes back as
    a dictionary of its fields, a sequence as one of its positions ("0", "1", …), random keys as raw data.
    """
    manifest, leaves = _read(directory, step)
    tree: dict = {}
    for row, leaf in zip(manifest["arrays"], leaves, strict=True):
        *parents, last = row["name"]
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = leaf
    return Restored(tree, manifest["step"], manifest["settings"])


def settings(directory: str | os.PathLike[str], step: int | None = None) -> dict:
    """The settings that lie beside a checkpoint's arrays, without reading those."""
    step = steps(directory)[-1] if step is None else step
    return json.loads((_place(directory, step) / "manifest.json").read_text())["settings"]


def _differences(stored: dict, expected: dict, most: int = 8) -> list[str]:
    lines = []
    for name in [*expected, *(name for name in stored if name not in expected)]:
        if name not in stored:
            lines.append(f"  {name}: missing in the checkpoint, expected {_shown(expected[name])}")
        elif name not in expected:
            lines.append(f"  {name}: {_shown(stored[name])} in the checkpoint, not expected")
        elif stored[name] != expected[name]:
            lines.append(
                f"  {name}: {_shown(stored[name])} in the checkpoint, expected {_shown(expected[name])}"
            )
    if not lines:
        lines = ["  the same arrays in another order"]
    return lines if len(lines) <= most else [*lines[:most], f"  … and {len(lines) - most} more"]


def _shown(spec: tuple) -> str:
    return f"{spec[1]}{list(spec[0])}"
