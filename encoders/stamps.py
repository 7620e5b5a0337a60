"""Tux Paint's stamps: pictures with names in many languages, spoken descriptions and sound effects.

A stamp is files beside each other that share a stem: `owl.png` or `owl.svg`; `owl.txt`, whose first line is in English
and whose others are `LANGUAGE.utf8=TEXT`; `owl_desc_LANGUAGE.ogg` or `.wav`, somebody saying that text; and `owl.ogg`
or `.wav`, the sound of the thing itself. The outermost folder is the category. Debian's package
`tuxpaint-stamps-default` holds some 950 of them.
"""

import os
import pathlib
import re
from typing import NamedTuple


DEBIAN_STAMPS = "/usr/share/tuxpaint/stamps"

_PICTURES = (".png", ".svg")
_SOUNDS = (".ogg", ".wav")
_TRANSLATION = re.compile(r"([A-Za-z_@]+)\.utf8=(.+)")


class Stamp(NamedTuple):
    """A picture and what is said of it.

    Attributes:
      key: its path in the folder of stamps, without suffix.
      category: the outermost folder.
      picture: the file, PNG where there is one, else SVG.
      names: texts by language, such as `fr` or `en_GB`; `en` is always there.
      descriptions: recordings of the texts by language.
      effect: recording of the thing itself, or None.
    """

    key: str
    category: str
    picture: pathlib.Path
    names: dict[str, str]
    descriptions: dict[str, pathlib.Path]
    effect: pathlib.Path | None


def read_stamps(directory: str | os.PathLike[str] = DEBIAN_STAMPS) -> list[Stamp]:
    """Finds the stamps that have a picture and a text, in the order of their keys.

    Raises:
      FileNotFoundError: if there is none.
    """
    root = pathlib.Path(directory)
    stamps = []
    for folder, _, files in os.walk(root):
        held = frozenset(files)
        for file in files:
            if file.endswith(".txt") and (stamp := _read(root, pathlib.Path(folder, file), held)):
                stamps.append(stamp)
    if not stamps:
        raise FileNotFoundError(
            f"{root} has no stamps (a picture with a .txt of its name beside it). Debian's are installed by "
            f"`apt-get install tuxpaint-stamps-default`, in {DEBIAN_STAMPS}."
        )
    return sorted(stamps)


def short_name(text: str, max_words: int) -> str | None:
    """What a text calls a thing: "A great blue heron." is "great blue heron".

    Args:
      text: English.
      max_words: that a name has.

    Returns:
      The text in lower case without article and final mark, or None if that is more words or holds anything but
      letters, hyphens and apostrophes.
    """
    name = re.sub(r"^(an?|the|some) ", "", text.strip().strip('.!“”" ').lower())
    words = name.split()
    plain = all(re.sub(r"[-'’]", "", word).isalpha() for word in words)
    return " ".join(words) if words and plain and len(words) <= max_words else None


def _read(root: pathlib.Path, text: pathlib.Path, held: frozenset[str]) -> Stamp | None:
    stem = text.stem
    first, *others = text.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    picture = next((stem + suffix for suffix in _PICTURES if stem + suffix in held), None)
    if picture is None or not first.strip():
        return None
    translations = filter(None, map(_TRANSLATION.fullmatch, others))
    names = {"en": first.strip()} | {match[1]: match[2].strip() for match in translations}
    descriptions = {}
    for language in names:
        for suffix in _SOUNDS:
            if (file := f"{stem}_desc_{language}{suffix}") in held:
                descriptions[language] = text.with_name(file)
    effect = next((text.with_name(stem + suffix) for suffix in _SOUNDS if stem + suffix in held), None)
    path = text.relative_to(root)
    return Stamp(
        path.with_suffix("").as_posix(), path.parts[0], text.with_name(picture), names, descriptions, effect
    )
