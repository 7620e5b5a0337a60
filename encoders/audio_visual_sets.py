"""The public sets of sound and film in the layouts that they are published in: lists in, examples out, no decoding.

AudioSet (Gemmeke et al. 2017), VGGSound (Chen et al. 2020), ESC-50 (Piczak 2015), Kinetics (Kay et al. 2017), UCF101
(Soomro et al. 2012) and HMDB51 (Kuehne et al. 2011). An example's split is the one of its list.
docs/audio_visual_data.md shows each folder.
"""

import contextlib
import csv
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple


Directory = str | os.PathLike[str]

AUDIOSET_LISTS = {
    "balanced_train": "balanced_train_segments.csv",
    "unbalanced_train": "unbalanced_train_segments.csv",
    "eval": "eval_segments.csv",
}
VGGSOUND_SECONDS = 10.0
HMDB51_SPLITS = {"0": "unused", "1": "train", "2": "test"}
MEDIA_SUFFIXES = frozenset(
    ".aac .avi .flac .flv .m4a .mkv .mov .mp3 .mp4 .mpg .ogg .opus .wav .webm .wmv".split()
)

_YOUTUBE_ID = 11
# Ways of writing a segment's first second behind its identifier: plain, with decimals, Kinetics', milliseconds.
_STARTS = ("{0:g}", "{0:.1f}", "{0:.3f}", "{0:06.0f}", "{1:.0f}")
# The six marks at the end of HMDB51's names: visible body, camera, people, view, quality, and the clip's number.
_HMDB51_MARKS = 6


class Example(NamedTuple):
    """A part of a media file, and what is known of it.

    Attributes:
      path: of the file.
      start_s: second of the file that the part begins at.
      end_s: second that it ends at; None where it is the whole file.
      labels: indices of classes; none where the list has no labels.
      split: as the set names it.
      group: what was recorded together; a split of one's own keeps a group on one side.
    """

    path: pathlib.Path
    start_s: float
    end_s: float | None
    labels: tuple[int, ...]
    split: str
    group: str


class Listing(NamedTuple):
    """What of a set is on disk. Printed, it is one line of counts.

    Attributes:
      name: of the set.
      examples: those whose files are there, in the order of the lists.
      classes: names of the labels.
      absent: what the lists name and the disk lacks.
    """

    name: str
    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    absent: tuple[str, ...]

    def __str__(self) -> str:
        splits = Counter(example.split for example in self.examples)
        missing = f"{len(self.absent)} absent, first {self.absent[0]}" if self.absent else "none absent"
        counts = ", ".join(f"{split} {count}" for split, count in splits.items())
        return f"{self.name}: {counts}; {len(self.classes)} classes; {missing}"

    def of(self, *splits: str) -> tuple[Example, ...]:
        """The examples of some splits.

        Raises:
          ValueError: if there is none.
        """
        chosen = tuple(example for example in self.examples if example.split in splits)
        if not chosen:
            raise ValueError(f"no example of {splits} is there: {self}")
        return chosen


class _Row(NamedTuple):
    """A segment of a YouTube video in a list."""

    video: str
    start_s: float
    end_s: float
    labels: tuple[str, ...]
    split: str


def audioset(directory: Directory, media: Directory | None = None, trimmed: bool = False) -> Listing:
    """AudioSet's three lists of segments and `class_labels_indices.csv`.

    Args:
      directory: of the lists; those of `AUDIOSET_LISTS` that are there are read.
      media: folder, with any folders in it, of `ID.ext` or `ID_START.ext`, the START in seconds or milliseconds,
        behind it an end or not, before the ID the `Y` of some tools or not; `directory` if None.
      trimmed: whether a file `ID.ext` is the segment alone, as `ID_START.ext` always is, or the whole video.

    Returns:
      The examples; classes are display names.

    Raises:
      FileNotFoundError: if no list, no labels, or no file of the lists is there.
      ValueError: naming a file and a line that are not of this form.
    """
    directory = pathlib.Path(directory)
    with _reading(directory / "class_labels_indices.csv") as lines:
        table = [(row["mid"], row["display_name"]) for row in csv.DictReader(lines)]
    rows = []
    for split, name in AUDIOSET_LISTS.items():
        if not (directory / name).is_file():
            continue
        with _reading(directory / name) as lines:
            for row in csv.reader((line for line in lines if line[:1] != "#"), skipinitialspace=True):
                rows.append(_Row(row[0], float(row[1]), float(row[2]), tuple(row[3].split(",")), split))
    if not rows:
        raise FileNotFoundError(f"{directory} has none of {', '.join(AUDIOSET_LISTS.values())}.")
    mids = [mid for mid, _ in table]
    listing = _youtube("AudioSet", rows, mids, media or directory, trimmed)
    return listing._replace(classes=tuple(name for _, name in table))


def vggsound(directory: Directory, media: Directory | None = None, trimmed: bool = False) -> Listing:
    """VGGSound's `vggsound.csv`: identifier, first second, label, split, without a head; segments of ten seconds.

    Arguments, result and errors are as of `audioset`.
    """
    directory = pathlib.Path(directory)
    rows = []
    with _reading(directory / "vggsound.csv") as lines:
        for video, start, label, split in csv.reader(lines):
            rows.append(_Row(video, float(start), float(start) + VGGSOUND_SECONDS, (label,), split))
    return _youtube("VGGSound", rows, _classes(rows), media or directory, trimmed)


def kinetics(directory: Directory, media: Directory | None = None, trimmed: bool = False) -> Listing:
    """Kinetics' lists, every `.csv` of a folder, with the heads that they are published with.

    The files are `LABEL/ID_000000_000010.mp4`; other forms are found as for `audioset`, whose arguments, result and
    errors these are. Lists without a column `label` (tests) give examples without labels.
    """
    directory = pathlib.Path(directory)
    rows = []
    for path in sorted(directory.glob("*.csv")):
        with _reading(path) as lines:
            for row in csv.DictReader(lines):
                labels = (row["label"],) if row.get("label") else ()
                times = float(row["time_start"]), float(row["time_end"])
                rows.append(_Row(row["youtube_id"], *times, labels, row["split"]))
    if not rows:
        raise FileNotFoundError(f"{directory} has no list, such as train.csv.")
    return _youtube("Kinetics", rows, _classes(rows), media or directory, trimmed)


def esc50(directory: Directory) -> Listing:
    """ESC-50: `meta/esc50.csv` and `audio/`; splits are `fold1` to `fold5`, a group is a recording.

    Raises:
      FileNotFoundError: if the list or every file of it is absent.
    """
    directory = pathlib.Path(directory)
    with _reading(directory / "meta" / "esc50.csv") as lines:
        rows = list(csv.DictReader(lines))
    names = {int(row["target"]): row["category"] for row in rows}
    listed = [
        Example(
            directory / "audio" / row["filename"],
            0.0,
            None,
            (int(row["target"]),),
            f"fold{row['fold']}",
            row["src_file"],
        )
        for row in rows
    ]
    # The numbers of classes are the list's, so a list of a part of the set keeps them.
    return _found("ESC-50", listed, [names.get(k, "") for k in range(max(names, default=-1) + 1)], directory)


def ucf101(directory: Directory, division: int = 1) -> Listing:
    """UCF101: `ucfTrainTestlist/` and `UCF-101/`; a group is one of the 25 sources of a class.

    Args:
      directory: that holds both folders.
      division: which of the three ways of dividing into train and test.

    Raises:
      FileNotFoundError: if a list or every file of them is absent.
    """
    directory = pathlib.Path(directory)
    lists = directory / "ucfTrainTestlist"
    with _reading(lists / "classInd.txt") as lines:
        classes = [line.split()[1] for line in lines if line.strip()]
    listed = []
    for split in ("train", "test"):
        with _reading(lists / f"{split}list{division:02d}.txt") as lines:
            for line in filter(None, map(str.strip, lines)):
                name = line.split()[0]  # The lists for training repeat the class behind it.
                folder, file = name.split("/")
                group = re.sub(r"_c\d+\.\w+$", "", file)
                labels = (classes.index(folder),)
                listed.append(Example(directory / "UCF-101" / name, 0.0, None, labels, split, group))
    return _found("UCF101", listed, classes, directory)


def hmdb51(directory: Directory, division: int = 1) -> Listing:
    """HMDB51: `testTrainMulti_7030_splits/` and a folder per class; a group is the film that clips were cut from.

    Args:
      directory: that holds the lists' folder and the classes' folders.
      division: which of the three ways of dividing into train, test and unused.

    Raises:
      FileNotFoundError: if the lists or every file of them are absent.
    """
    directory = pathlib.Path(directory)
    lists = directory / "testTrainMulti_7030_splits"
    suffix = f"_test_split{division}.txt"
    paths = sorted(lists.glob(f"*{suffix}"))
    if not paths:
        raise FileNotFoundError(f"{lists} has no list that ends in {suffix}.")
    classes = [path.name.removesuffix(suffix) for path in paths]
    listed = []
    for label, path in enumerate(paths):
        with _reading(path) as lines:
            for line in filter(None, map(str.strip, lines)):
                name, mark = line.rsplit(maxsplit=1)
                group = name.rsplit("_", _HMDB51_MARKS)[0]
                file = directory / classes[label] / name
                listed.append(Example(file, 0.0, None, (label,), HMDB51_SPLITS[mark], group))
    return _found("HMDB51", listed, classes, directory)


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[Iterator[str]]:
    """The lines of a list; what is not of its set's form becomes one error that names the line."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    number = 0

    def numbered() -> Iterator[str]:
        nonlocal number
        for line in file:
            number += 1
            yield line

    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield numbered()
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(f"{path}, line {number}, is not of the set's form: {error}") from error


def _classes(rows: list[_Row]) -> list[str]:
    return sorted({label for row in rows for label in row.labels})


def _youtube(name: str, rows: list[_Row], classes: list[str], media: Directory, trimmed: bool) -> Listing:
    """Finds the files of segments by their names, wherever under `media` they are."""
    media = pathlib.Path(media)
    files: dict[str, pathlib.Path] = {}
    for folder, _, names in sorted(os.walk(media)):
        for file in sorted(names):
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in MEDIA_SUFFIXES:
                files.setdefault(stem, pathlib.Path(folder, file))
                # PANNs' tools put a Y before the identifier, for tools that take a hyphen for an option.
                if stem[:1] == "Y" and len(stem) > _YOUTUBE_ID:
                    files.setdefault(stem[1:], pathlib.Path(folder, file))
    index = {label: k for k, label in enumerate(classes)}
    if unknown := {label for row in rows for label in row.labels} - index.keys():
        raise ValueError(f"{name}'s lists have labels that its list of classes lacks: {sorted(unknown)[:3]}")
    examples, absent = [], []
    for row in rows:
        labels = tuple(index[label] for label in row.labels)
        span = (0.0, row.end_s - row.start_s)
        path = next((files[stem] for stem in _stems(row) if stem in files), None)
        if path is None and (path := files.get(row.video)) is not None and not trimmed:
            span = (row.start_s, row.end_s)
        if path is None:
            absent.append(f"{row.video} from {row.start_s:g} s")
        else:
            examples.append(Example(path, *span, labels, row.split, row.video))
    return _checked(name, examples, classes, absent, media)


def _stems(row: _Row) -> Iterator[str]:
    for form in _STARTS:
        start, end = (form.format(second, 1000 * second) for second in (row.start_s, row.end_s))
        yield f"{row.video}_{start}"
        yield f"{row.video}_{start}_{end}"


def _found(name: str, listed: list[Example], classes: list[str], directory: pathlib.Path) -> Listing:
    there = [example for example in listed if example.path.is_file()]
    absent = [str(example.path.relative_to(directory)) for example in listed if not example.path.is_file()]
    return _checked(name, there, classes, absent, directory)


def _checked(name: str, examples: list[Example], classes: list[str], absent: list[str], where) -> Listing:
    if not examples:
        first = f", the first being {absent[0]}" if absent else ""
        raise FileNotFoundError(f"{where} has none of the {len(absent)} examples that {name} lists{first}.")
    return Listing(name, tuple(examples), tuple(classes), tuple(absent))
