"""What reports share: a page that stands alone, tables, cards, drawings, files written whole or not at all."""

import html
import io
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any


# Of matplotlib, the same for every drawing.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a8",
    "axes.labelcolor": "#3a3f47",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "xtick.color": "#5b6470",
    "ytick.color": "#5b6470",
    "grid.color": "#e6e8ec",
    "legend.frameon": False,
    "legend.fontsize": 9,
}

_CSS = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f7f9; color: #22252a; font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 36px 0 10px; }
p.lead { color: #5b6470; margin: 0 0 20px; }
p.note { color: #5b6470; font-size: 13px; margin: 8px 0 0; max-width: 80ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; }
.card, figure, .sheet { background: white; border: 1px solid #e2e5ea; border-radius: 8px; }
.card { padding: 12px 16px; }
.card b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
.card span { color: #5b6470; font-size: 13px; }
figure { margin: 0; padding: 12px; }
figure.small { max-width: 560px; }
.sheet { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 12px; border-bottom: 1px solid #eef0f3; white-space: nowrap; }
th { color: #5b6470; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
table.words td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tr.bad td { background: #fdf0f1; }
details { margin-top: 10px; }
summary { cursor: pointer; color: #1f5fd0; }
"""


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """A whole document; `title` and `lead` are plain text, `sections` are HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n'
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def figure(svg: str, small: bool = False) -> str:
    return f'<figure class="small">{svg}</figure>' if small else f"<figure>{svg}</figure>"


def cards(items: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    cells = (
        f'<div class="card"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in items
    )
    return f'<div class="cards">{"".join(cells)}</div>'


def table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], bad: Sequence[bool] = (), words: bool = False
) -> str:
    """A table of numbers and short texts; rows marked in `bad` stand out."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in headers)
    body = []
    for i, row in enumerate(rows):
        mark = ' class="bad"' if i < len(bad) and bad[i] else ""
        body.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(show(cell))}</td>" for cell in row) + "</tr>")
    kind = ' class="words"' if words else ""
    content = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="sheet"><table{kind}>{content}</table></div>'


def folded(title: str, content: str) -> str:
    """Content that opens at a click, without scripts."""
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


def show(value: Any, digits: int = 3) -> str:
    """A number for people: a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def interval(ci: Sequence[float | None], digits: int = 3) -> str:
    """A 95 % interval for people."""
    return "–" if ci[0] is None or math.isnan(ci[0]) else f"{show(ci[0], digits)} to {show(ci[1], digits)}"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def svg(figure, salt: str) -> str:
    """The figure as an `<svg>` element to stand in a page, without any address in it; the same each time.

    `salt` keeps the names inside one figure apart from those of the others on the page.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": salt}):
        figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    # Groups have names that nothing refers to and that come again in other drawings.
    text = re.sub(r' id="[A-Za-z.0-9]+_\d+"', "", text)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text, count=1)


def png(figure, dpi: int = 144) -> bytes:
    """The figure as a PNG file."""
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(file, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def write(path: pathlib.Path, content: str | bytes) -> None:
    """Writes aside, then renames: the file is there whole or not at all."""
    aside = path.with_name(f".writing_{path.name}")
    aside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(aside, path)
