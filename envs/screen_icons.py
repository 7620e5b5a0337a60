"""The icons of the apps of Screens: one picture in the package, and how it is made of an icon theme.

python -m limbeck.envs.screen_icons THEME_DIRECTORY [--mapping FILE] [--out FILE]
"""

import argparse
import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image

from .screen_facts import APPS


# The sides of an icon in pixels: on the home screen, and where it is drawn small.
ICON_SIZES = (22, 16)
_FOLDER = pathlib.Path(__file__).parent
SHEET, MAPPING = _FOLDER / "screen_icons.png", _FOLDER / "screen_icons.txt"
_ACROSS = 10
_WIDTH, _HEIGHT = sum(ICON_SIZES), max(ICON_SIZES)


@functools.cache
def app_icons(size: int) -> np.ndarray:
    """uint8 `[NUM_APPS, size, size, 4]`, read-only: the icons as RGBA, in the order of `APPS`.

    Args:
      size: one of `ICON_SIZES`.
    """
    with PIL.Image.open(SHEET) as picture:
        sheet = np.asarray(picture.convert("RGBA"))
    left = sum(ICON_SIZES[: ICON_SIZES.index(size)])
    corners = [(i // _ACROSS * _HEIGHT, i % _ACROSS * _WIDTH + left) for i in range(len(APPS))]
    icons = np.stack([sheet[y : y + size, x : x + size] for y, x in corners])
    icons.flags.writeable = False
    return icons


def read_mapping(path: pathlib.Path) -> dict[str, str]:
    """The lines `name = path` of a text file: the icon of each app, without the ending."""
    lines = [line.partition(" = ") for line in path.read_text().splitlines()]
    return {name.strip(): icon.strip() for name, sign, icon in lines if sign}


def make_sheet(theme: pathlib.Path, mapping: Mapping[str, str]) -> PIL.Image.Image:
    """The picture that `app_icons` reads, of an icon theme.

    Args:
      theme: a folder with `22x22/PATH.png` and `16x16/PATH.png` for every path of the mapping.
      mapping: the path of each app's icon.

    Raises:
      ValueError: where the mapping's names are not those of `APPS` in their order, or an icon is missing or of
        another size.
    """
    if tuple(mapping) != APPS:
        raise ValueError(
            f"The mapping names the apps {', '.join(APPS)}, in this order; got {', '.join(mapping)}."
        )
    sheet = PIL.Image.new("RGBA", (_ACROSS * _WIDTH, -(-len(APPS) // _ACROSS) * _HEIGHT))
    for i, path in enumerate(mapping.values()):
        left = i % _ACROSS * _WIDTH
        for size in ICON_SIZES:
            sheet.paste(_icon(theme / f"{size}x{size}" / f"{path}.png", size), (left, i // _ACROSS * _HEIGHT))
            left += size
    return sheet


def _icon(path: pathlib.Path, size: int) -> PIL.Image.Image:
    if not path.is_file():
        raise ValueError(f"The theme has no icon {path}.")
    with PIL.Image.open(path) as icon:
        if icon.size != (size, size):
            raise ValueError(f"{path} has {size}x{size} pixels, got {icon.size[0]}x{icon.size[1]}.")
        return icon.convert("RGBA")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m limbeck.envs.screen_icons", description=make_sheet.__doc__
    )
    parser.add_argument("theme", type=pathlib.Path, help="folder of the theme, with 22x22 and 16x16 in it")
    parser.add_argument("--mapping", type=pathlib.Path, default=MAPPING, help="lines `name = path` of icons")
    parser.add_argument("--out", type=pathlib.Path, default=SHEET, help="the picture to write")
    given = parser.parse_args(arguments)
    make_sheet(given.theme, read_mapping(given.mapping)).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
