"""What a history store says about itself: its manifest, and JSON files that are whole or absent."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


FORMAT_VERSION = 1
SPLITS = ("train", "held_out")

# Fields whose spec does not depend on the environment.
_ROW_SPECS = {
    "reward": {"shape": [], "dtype": "float32"},
    "discount": {"shape": [], "dtype": "float32", "minimum": 0.0, "maximum": 1.0},
    "step_type": {"shape": [], "dtype": "int32", "minimum": 1, "maximum": 2},
}


class HistoryError(ValueError):
    """A history store cannot be written, or what it holds cannot be trusted. One clear line."""


@dataclasses.dataclass(frozen=True)
class HistoryInfo:
    """Where one history comes from: one chronological stream of one source run on one task.

    Attributes:
      task_id: the task's id in `environment.tasks()`; -1 where tasks cannot be counted.
      task: the task itself as JSON values.
      split: "train" or "held_out".
      algorithm: the source algorithm's name.
      run: which learning run of the store; streams that share a learner share it.
      stream: which environment copy of that run.
      seed: the run's seed.
      reward_model: name and version of what paid the rewards.
    """

    task_id: int
    task: Any
    split: str
    algorithm: str
    run: int
    stream: int
    seed: int
    reward_model: str = "environment"

    def __post_init__(self):
        if self.split not in SPLITS:
            raise HistoryError(f"A history's split is one of {', '.join(SPLITS)}; got {self.split!r}.")
        object.__setattr__(self, "task", to_json(self.task))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything a reader must know of a store before it reads a row.

    Attributes:
      environment: the environment's name.
      environment_kwargs: what `make` was given beside it.
      observation: the observation spec as JSON (see `spec_to_json`), or one for each key.
      action: the action spec as JSON.
      max_steps: steps after which every episode has ended, or None where there is no such bound.
      split: `{"salt": str, "seed": int, "held_out": [task ids]}`.
      length: steps of every history, T.
      histories: one `HistoryInfo` for each history, H of them.
      histories_per_chunk: G.
      steps_per_chunk: C.
      settings: what the producer was told (free form); another value is another store.
      extras: specs of further fields of a row, such as `true_reward`.
      cuts: (history, time) pairs: steps before `time` were lost for ever and the row at `time` begins
        a new episode. State, not a setting: two manifests that differ in cuts are of the same store.
      format_version: of the files.
    """

    environment: str
    environment_kwargs: Mapping[str, Any]
    observation: Mapping[str, Any]
    action: Mapping[str, Any]
    max_steps: int | None
    split: Mapping[str, Any]
    length: int
    histories: Sequence[HistoryInfo]
    histories_per_chunk: int = 64
    steps_per_chunk: int = 1000
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cuts: Sequence[tuple[int, int]] = ()
    format_version: int = FORMAT_VERSION

    def __post_init__(self):
        for name in ("environment_kwargs", "observation", "action", "split", "settings", "extras"):
            object.__setattr__(self, name, to_json(getattr(self, name)))
        object.__setattr__(self, "histories", tuple(self.histories))
        object.__setattr__(self, "cuts", tuple(sorted({(int(h), int(t)) for h, t in self.cuts})))
        for name in ("length", "histories_per_chunk", "steps_per_chunk"):
            if getattr(self, name) < 1:
                raise HistoryError(f"A store's {name} is at least 1; got {getattr(self, name)}.")
        if not self.histories:
            raise HistoryError("A store needs at least one history.")
        for history, time in self.cuts:
            if not (0 <= history < len(self.histories) and 0 <= time < self.length):
                raise HistoryError(f"A cut at history {history}, time {time} lies outside the store.")
        reserved = {"observation", "action", "final_observation", *_ROW_SPECS} & set(self.extras)
        if reserved:
            raise HistoryError(f"Extra fields cannot be called {', '.join(sorted(reserved))}.")

    @classmethod
    def for_environment(
        cls, environment: Any, *, split: Any, length: int, histories: Sequence[HistoryInfo], **kwargs: Any
    ) -> "Manifest":
        """A manifest with the specs of `environment`.

        Args:
          environment: has `name`, `max_steps`, `observation_spec()` and `action_spec()`.
          split: has `salt`, `seed` and `held_out`.
          length: steps of every history.
          histories: one `HistoryInfo` for each.
          **kwargs: further fields of `Manifest`.
        """
        return cls(
            environment=environment.name,
            environment_kwargs=kwargs.pop("environment_kwargs", {}),
            observation=spec_to_json(environment.observation_spec()),
            action=spec_to_json(environment.action_spec()),
            max_steps=int(environment.max_steps) if environment.max_steps is not None else None,
            split={"salt": split.salt, "seed": split.seed, "held_out": list(split.held_out)},
            length=length,
            histories=histories,
            **kwargs,
        )

    @functools.cached_property
    def fingerprint(self) -> int:
        """63 bits of a hash of all but the cuts."""
        text = json.dumps(self.with_cuts(()).to_json(), sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    @property
    def num_groups(self) -> int:
        """Chunks along the history axis."""
        return -(-len(self.histories) // self.histories_per_chunk)

    @property
    def num_chunks(self) -> int:
        """Chunks along the time axis."""
        return -(-self.length // self.steps_per_chunk)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Histories and steps of a whole block."""
        return min(self.histories_per_chunk, len(self.histories)), min(self.steps_per_chunk, self.length)

    def rows(self, group: int) -> range:
        """The histories of a group."""
        first = group * self.histories_per_chunk
        return range(first, min(first + self.histories_per_chunk, len(self.histories)))

    def times(self, chunk: int) -> range:
        """The steps of a time chunk."""
        first = chunk * self.steps_per_chunk
        return range(first, min(first + self.steps_per_chunk, self.length))

    def fields(self) -> dict[str, dict[str, Any]]:
        """Every array's name and spec, in a fixed order; keys of observations follow a dot."""
        result = {}
        for base in ("observation", "final_observation"):
            if is_spec(self.observation):
                result[base] = self.observation
            else:
                result.update({f"{base}.{key}": spec for key, spec in sorted(self.observation.items())})
        result["action"] = self.action
        result.update(_ROW_SPECS)
        result.update(sorted(self.extras.items()))
        return result

    def with_cuts(self, cuts: Sequence[tuple[int, int]]) -> "Manifest":
        return dataclasses.replace(self, cuts=tuple(cuts))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Manifest":
        """Raises `HistoryError` where the format is another one or entries are missing or unknown."""
        version = value.get("format_version") if isinstance(value, Mapping) else None
        if version != FORMAT_VERSION:
            raise HistoryError(
                f"The store has format version {version}; this Limbeck reads version {FORMAT_VERSION}."
            )
        try:
            histories = tuple(HistoryInfo(**info) for info in value["histories"])
            return cls(**{**value, "histories": histories})
        except (KeyError, TypeError) as error:
            raise HistoryError(f"The manifest is not one of a history store: {error}.") from error


def flatten_block(block: Any) -> dict[str, np.ndarray]:
    """The fields of a mapping or named tuple by array name; dictionary entries become `observation.<key>`."""
    if hasattr(block, "_asdict"):
        block = block._asdict()
    result = {}
    for name, value in block.items():
        if isinstance(value, Mapping):
            result.update({f"{name}.{key}": np.asarray(entry) for key, entry in value.items()})
        else:
            result[name] = np.asarray(value)
    return result


def unflatten_block(fields: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of `flatten_block`."""
    result: dict[str, Any] = {}
    for name, value in fields.items():
        base, _, key = name.partition(".")
        if key:
            result.setdefault(base, {})[key] = value
        else:
            result[name] = value
    return result


def is_spec(value: Mapping[str, Any]) -> bool:
    """Whether this is one spec as JSON, not a dictionary of them."""
    return isinstance(value.get("dtype"), str)


def spec_to_json(spec: Any) -> dict[str, Any]:
    """A `dm_env.specs` array, or a dictionary of them, as JSON: shape, dtype and, where bounded, bounds."""
    if isinstance(spec, Mapping):
        return {str(key): spec_to_json(entry) for key, entry in spec.items()}
    result: dict[str, Any] = {"shape": [int(n) for n in spec.shape], "dtype": np.dtype(spec.dtype).name}
    for bound in ("minimum", "maximum"):
        if hasattr(spec, bound):
            values = np.asarray(getattr(spec, bound))
            same = values.size > 0 and np.all(values == values.flat[0])
            result[bound] = values.flat[0].item() if same else values.tolist()
    return result


def to_json(value: Any) -> Any:
    """`value` with arrays, tuples and named tuples as JSON values. Raises `HistoryError` for others."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if hasattr(value, "_asdict"):
        return to_json(value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, list | tuple | range):
        return [to_json(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    raise HistoryError(f"A manifest holds JSON values only; got {value!r}.")


def differences(theirs: Any, ours: Any, limit: int = 8) -> str:
    """Where two JSON values differ, in one line: `key: theirs there, ours here; …`."""
    found = [f"{where}: {_short(a)} there, {_short(b)} here" for where, a, b in _walk("", theirs, ours)]
    more = [f"and {len(found) - limit} more"] if len(found) > limit else []
    return "; ".join(found[:limit] + more)


_ABSENT = object()


def _walk(where: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            yield from _walk(f"{where}.{key}" if where else key, a.get(key, _ABSENT), b.get(key, _ABSENT))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _walk(f"{where}[{i}]", x, y)
    elif isinstance(a, list) and isinstance(b, list):
        yield where, f"{len(a)} entries", f"{len(b)} entries"
    elif a is _ABSENT or b is _ABSENT or a != b:
        yield where, a, b


def _short(value: Any) -> str:
    text = "nothing" if value is _ABSENT else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def write_json(path: pathlib.Path, value: Any) -> None:
    """Replaces `path` by `value` whole or not at all, durably. Raises `HistoryError`."""
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise HistoryError(f"Cannot write {path}: {error.strerror or error}.") from error


def read_json(path: pathlib.Path) -> Any:
    """Raises `HistoryError` where the file is missing, unreadable or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HistoryError(f"{path.parent} is not a history store: it has no {path.name}.") from error
    except OSError as error:
        raise HistoryError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise HistoryError(f"{path} is damaged: {error}.") from error


def sync_directory(path: pathlib.Path) -> None:
    """Makes renames inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
