"""Pictures with spoken names: Tux Paint's stamps, each name said by many voices, as arrays on disk.

`prepare` makes a folder of them once; stopped at any moment, it goes on where it was. `load` opens it.

    pictures.npy             uint8 [P, S, S, 3]
    voices/VOICE.npy         int16 [U, N], a file per voice, a row per name
    recordings/SOURCE.npy    int16 [P, N], people's descriptions in a language, or the things' own sounds
    manifest.json            settings, keys, names, categories

Splits are by name (pictures that share one stay together) and by speaker, never by crop.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .media import read_audio, read_picture
from .progress import Progress
from .stamps import DEBIAN_STAMPS, Stamp, read_stamps, short_name
from .voices import VOICES, Voice, check_voices, speak


EFFECT = "effect"

Form = tuple[tuple[int, ...], np.dtype]

_MANIFEST = "manifest.json"
_PICTURES = "pictures.npy"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class SpokenPictures:
    """What `prepare` has made. The arrays stay on disk until they are indexed.

    Attributes:
      pictures: uint8 `[P, S, S, 3]`.
      keys: of the `P` pictures, their paths among the stamps.
      names: the `U` different ones.
      name_ids: `[P]`, index into `names` of each picture.
      categories: their names.
      category_ids: `[P]`, index into `categories` of each picture.
      voices: the `V` that say the names.
      speech: a voice's int16 `[U, N]`, `V` of them.
      recordings: int16 `[P, N]` by source (a language, or `effect`); silent where a picture has none.
      sample_rate: of all sound, Hz.
    """

    pictures: np.ndarray
    keys: tuple[str, ...]
    names: tuple[str, ...]
    name_ids: np.ndarray
    categories: tuple[str, ...]
    category_ids: np.ndarray
    voices: tuple[Voice, ...]
    speech: tuple[np.ndarray, ...]
    recordings: dict[str, np.ndarray]
    sample_rate: int

    def waves(self, pictures: Any, voices: Any) -> np.ndarray:
        """Names of pictures as voices say them.

        Args:
          pictures: int indices `[...]`.
          voices: int indices that broadcast with them.

        Returns:
          float32 `[..., N]` in [-1, 1].
        """
        pictures, voices = np.broadcast_arrays(pictures, voices)
        pairs = zip(self.name_ids[pictures].flat, voices.flat, strict=True)
        spoken = np.stack([self.speech[voice][name] for name, voice in pairs])
        return _to_float(spoken).reshape(*pictures.shape, -1)

    def recorded(self, source: str, pictures: Any) -> np.ndarray:
        """Recordings of a source, float32 `[..., N]`; silent where a picture has none."""
        return _to_float(self.recordings[source][pictures])

    def with_recording(self, source: str) -> np.ndarray:
        """Indices of the pictures that have a recording of a source."""
        return np.flatnonzero([wave.any() for wave in self.recordings[source]])

    def split_pictures(self, fractions: Sequence[float], seed: int = 0) -> tuple[np.ndarray, ...]:
        """Indices of pictures for each part; see `split_groups`. Pictures of one name are in one part."""
        return split_groups(self.name_ids, fractions, seed)

    def split_voices(self, fractions: Sequence[float], seed: int = 0) -> tuple[np.ndarray, ...]:
        """Indices of voices for each part; see `split_groups`. A speaker's accents and speeds are in one part."""
        return split_groups([voice.variant for voice in self.voices], fractions, seed)


def split_groups(groups: Any, fractions: Sequence[float], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Divides items at random, those of one group always into one part.

    Args:
      groups: what group each item is of, `[N]`, of any type that sorts.
      fractions: share of the groups in each part; their sum is 1.
      seed: of the division.

    Returns:
      Sorted indices of items, an array for each part; together they are all, each once.

    Raises:
      ValueError: if the fractions are not positive or do not sum to 1, or a part would be empty.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be positive and sum to 1, not {tuple(fractions)}")
    different, ids = np.unique(np.asarray(groups), return_inverse=True)
    ranks = np.random.default_rng(seed).permutation(len(different))[ids]
    ends = np.round(np.cumsum([0.0, *fractions]) * len(different))
    if (np.diff(ends) < 1).any():
        raise ValueError(f"{len(different)} groups are too few for parts of {tuple(fractions)}")
    return tuple(np.flatnonzero((ranks >= first) & (ranks < after)) for first, after in zip(ends, ends[1:]))


def prepare(
    directory: str | os.PathLike[str],
    stamps: str | os.PathLike[str] = DEBIAN_STAMPS,
    size: int = 64,
    sample_rate: int = 16000,
    seconds: float = 2.0,
    max_words: int = 4,
    voices: Sequence[Voice] = VOICES,
    recordings: Sequence[str] = (),
    command: str = "espeak-ng",
) -> SpokenPictures:
    """Makes what is missing of a folder of spoken pictures, and checks that it is whole.

    Args:
      directory: to write into.
      stamps: folder of the stamps.
      size: height and width of the pictures, pixels; they are whole, on white.
      sample_rate: of all sound, Hz.
      seconds: length of every wave: shorter speech is followed by silence, longer is cut.
      max_words: that a picture's English name has; pictures whose name is longer, or not plain words, are left out.
      voices: that say each name.
      recordings: sources of recorded sound to add: languages of descriptions, such as `fr`, or `effect`.
      command: espeak-ng.

    Returns:
      `load(directory)`.

    Raises:
      FileNotFoundError: if there are no stamps with such names, or no espeak-ng.
      ValueError: if the folder holds another choice of these settings, or espeak-ng lacks a voice.
    """
    if size < 1 or round(seconds * sample_rate) < 1:
        raise ValueError(f"size {size} and {seconds} s at {sample_rate} Hz: at least a pixel and a sample")
    root = pathlib.Path(directory)
    named = [(stamp, short_name(stamp.names["en"], max_words)) for stamp in read_stamps(stamps)]
    kept = [stamp for stamp, name in named if name]
    if not kept:
        raise FileNotFoundError(f"no stamp of {stamps} has an English name of {max_words} words or fewer")
    paths = {source: [_recording(stamp, source) for stamp in kept] for source in recordings}
    if unknown := [source for source, found in paths.items() if not any(found)]:
        raise ValueError(f"no stamp has recordings of {unknown}: give languages such as 'fr', or {EFFECT!r}")
    manifest = {
        "version": _VERSION,
        "size": size,
        "sample_rate": sample_rate,
        "seconds": seconds,
        "max_words": max_words,
        "keys": [stamp.key for stamp in kept],
        "names": [name for _, name in named if name],
        "categories": [stamp.category for stamp in kept],
        "voices": [list(voice) for voice in voices],
        "recordings": list(recordings),
    }
    forms = _forms(manifest)
    missing = [voice for voice in voices if _open(root, _speech_file(voice), forms) is None]
    if missing:
        check_voices(missing, command)
    _claim(root, manifest)
    make = functools.partial(_make, root, forms)
    make(_PICTURES, "Pictures", kept, lambda stamp: read_picture(stamp.picture, (size, size)))
    hear = functools.partial(read_audio, sample_rate=sample_rate, duration_s=seconds)
    for source, found in paths.items():
        make(_recording_file(source), f"Recordings, {source}", found, lambda path: path and hear(path))
    for k, voice in enumerate(missing, 1):
        say = functools.partial(speak, voice=voice, sample_rate=sample_rate, command=command)
        make(_speech_file(voice), f"Voice {k} of {len(missing)}", sorted(set(manifest["names"])), say)
    return load(root)


def load(directory: str | os.PathLike[str]) -> SpokenPictures:
    """Opens what `prepare` has made.

    Raises:
      FileNotFoundError: if there is nothing, or not all yet.
    """
    root = pathlib.Path(directory)
    if not (root / _MANIFEST).is_file():
        raise FileNotFoundError(f"{root} has no spoken pictures; spoken_pictures.prepare makes them.")
    manifest = json.loads((root / _MANIFEST).read_text())
    forms = _forms(manifest)
    arrays = {name: array for name in forms if (array := _open(root, name, forms)) is not None}
    if missing := [name for name in forms if name not in arrays]:
        raise FileNotFoundError(
            f"{root} lacks {len(missing)} of {len(forms)} files, such as {missing[0]}; "
            "spoken_pictures.prepare with the same settings makes what is missing."
        )
    names, name_ids = np.unique(manifest["names"], return_inverse=True)
    categories, category_ids = np.unique(manifest["categories"], return_inverse=True)
    voices = tuple(Voice(*voice) for voice in manifest["voices"])
    return SpokenPictures(
        pictures=arrays[_PICTURES],
        keys=tuple(manifest["keys"]),
        names=tuple(names.tolist()),
        name_ids=name_ids,
        categories=tuple(categories.tolist()),
        category_ids=category_ids,
        voices=voices,
        speech=tuple(arrays[_speech_file(voice)] for voice in voices),
        recordings={source: arrays[_recording_file(source)] for source in manifest["recordings"]},
        sample_rate=manifest["sample_rate"],
    )


def _speech_file(voice: Voice) -> str:
    return f"voices/{voice.name}.npy"


def _recording_file(source: str) -> str:
    return f"recordings/{source}.npy"


def _recording(stamp: Stamp, source: str) -> pathlib.Path | None:
    return stamp.effect if source == EFFECT else stamp.descriptions.get(source)


def _forms(manifest: dict[str, Any]) -> dict[str, Form]:
    """Shape and type of every file that a manifest promises."""
    pictures, names, size = len(manifest["keys"]), len(set(manifest["names"])), manifest["size"]
    samples = round(manifest["seconds"] * manifest["sample_rate"])
    return {
        _PICTURES: ((pictures, size, size, 3), np.dtype(np.uint8)),
        **{
            _recording_file(source): ((pictures, samples), np.dtype(np.int16))
            for source in manifest["recordings"]
        },
        **{
            _speech_file(Voice(*voice)): ((names, samples), np.dtype(np.int16))
            for voice in manifest["voices"]
        },
    }


def _claim(root: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, or compares it with the one that is there."""
    path = root / _MANIFEST
    if not path.is_file():
        for folder in ("voices", "recordings"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        _write(path, lambda file: file.write(json.dumps(manifest, indent=1).encode()))
        return
    old = json.loads(path.read_text())
    if changed := [name for name in manifest if old.get(name) != manifest[name]]:
        raise ValueError(
            f"{root} holds spoken pictures with other {', '.join(changed)}; use another folder, or the same settings"
        )


def _make(
    root: pathlib.Path,
    forms: dict[str, Form],
    name: str,
    label: str,
    items: Sequence[Any],
    row: Callable[[Any], np.ndarray | None],
) -> None:
    """Makes a file of one row per item, unless it is there and whole; `row` gives a picture, a wave or None."""
    if _open(root, name, forms) is not None:
        return
    array = np.zeros(*forms[name])
    with Progress(label, len(items), "rows") as progress:
        for k, item in enumerate(items):
            made = row(item)
            if made is not None:
                made = made[: array.shape[1]]
                array[k, : len(made)] = made if array.dtype == np.uint8 else np.round(made * 32767)
            progress.update(k + 1)
    _write(root / name, lambda file: np.save(file, array))


def _write(path: pathlib.Path, write: Callable[[Any], Any]) -> None:
    """Writes aside, then renames: a file that is there is whole."""
    aside = path.with_name(path.name + ".partial")
    with aside.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _open(root: pathlib.Path, name: str, forms: dict[str, Form]) -> np.ndarray | None:
    """A file's array, mapped; None if it is absent, damaged or of another form."""
    try:
        array = np.load(root / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if (array.shape, array.dtype) == forms[name] else None


def _to_float(wave: np.ndarray) -> np.ndarray:
    return wave.astype(np.float32) / 32767
