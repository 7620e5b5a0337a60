"""Writing a file so that it is there whole or not at all."""

import os
import pathlib


def write(path: pathlib.Path, content: str | bytes) -> None:
    """Writes aside, then renames."""
    aside = path.with_name(f".writing_{path.name}")
    aside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(aside, path)
