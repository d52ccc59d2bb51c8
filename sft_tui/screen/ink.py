"""Lines of styled text, cut and framed by columns, and the themes that define the colours of styles.

A line is a list of spans (text, role). Roles name what a text is, not how it looks; a theme maps them to styles.
All foreign text has gone through `safe()` before it gets here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.style import Style

Span = tuple[str, str]
Line = list[Span]

DARK = {
    "": "#c9d1d9 on #0e1116", "dim": "#7d8590 on #0e1116", "accent": "#79c0ff on #0e1116",
    "good": "#7ee787 on #0e1116", "warn": "#e3b341 on #0e1116", "bad": "bold #ff7b72 on #0e1116",
    "head": "bold #e6edf3 on #0e1116", "select": "#e6edf3 on #1f3a5f", "key": "bold #79c0ff on #0e1116",
    "chart": "#79c0ff on #0e1116", "chart2": "#d2a8ff on #0e1116", "frame": "#3d444d on #0e1116",
    "hit": "#0e1116 on #e3b341",
}  # fmt: skip
LIGHT = {
    "": "#24292f on #ffffff", "dim": "#656d76 on #ffffff", "accent": "#0550ae on #ffffff",
    "good": "#116329 on #ffffff", "warn": "#7d4e00 on #ffffff", "bad": "bold #a40e26 on #ffffff",
    "head": "bold #1f2328 on #ffffff", "select": "#1f2328 on #cfe4ff", "key": "bold #0550ae on #ffffff",
    "chart": "#0550ae on #ffffff", "chart2": "#8250df on #ffffff", "frame": "#afb8c1 on #ffffff",
    "hit": "#ffffff on #7d4e00",
}  # fmt: skip
SIXTEEN = {
    "": "default", "dim": "bright_black", "accent": "cyan", "good": "green", "warn": "yellow", "bad": "bold red",
    "head": "bold", "select": "reverse", "key": "bold cyan", "chart": "cyan", "chart2": "magenta",
    "frame": "bright_black", "hit": "reverse yellow",
}  # fmt: skip
PLAIN = {
    "": "", "dim": "dim", "accent": "", "good": "", "warn": "bold", "bad": "bold", "head": "bold", "select": "reverse",
    "key": "bold", "chart": "", "chart2": "bold", "frame": "dim", "hit": "bold reverse",
}  # fmt: skip
THEMES = {"dark": DARK, "light": LIGHT, "16": SIXTEEN, "none": PLAIN}
# Replacements for a terminal without box and braille characters.
TO_ASCII = str.maketrans({
    "─": "-", "│": "|", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "━": "=", "╺": "-", "▸": ">",
    "✓": "+", "✗": "x", "·": "-", "…": "~", "●": "o", "×": "x", "▏": "|", "→": ">", "█": "#", "▇": "#", "▆": "#",
    "▅": "=", "▄": "=", "▃": "-", "▂": "_", "▁": "_", "±": "~", "≤": "<", "↑": "^", "↓": "v", "–": "-", "°": " ",
    "▲": "^", "▼": "v", "┼": "+", "←": "<", "▒": ".", "▾": "v", "▌": "|",
})  # fmt: skip
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Ink:
    """How text looks on this terminal."""

    theme: str = "dark"
    ascii: bool = False

    def style(self, role: str) -> Style:
        """The style of a role."""
        return _style(THEMES[self.theme].get(role, ""))

    def text(self, text: str) -> str:
        """A text in characters that the terminal can show."""
        return text.translate(TO_ASCII) if self.ascii else text


_STYLES: dict[str, Style] = {}


def _style(definition: str) -> Style:
    if definition not in _STYLES:
        _STYLES[definition] = Style.parse(definition) if definition else Style.null()
    return _STYLES[definition]


def columns(line: Line) -> int:
    """Columns that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def plain(line: Line) -> str:
    """The text of a line."""
    return "".join(text for text, _ in line).rstrip()


def fit(line: Line, width: int, role: str = "") -> Line:
    """`line` in exactly the given number of columns: an ellipsis if it is cut, spaces of a role if it is short."""
    fitted: Line = []
    left = max(0, width)
    for text, of in line:
        size = cell_len(text)
        if size > left:
            if left:
                fitted.append((cut(text, left), of))
            elif fitted and text.strip():
                before, role_before = fitted[-1]
                fitted[-1] = (cut(f"{before}…", cell_len(before)), role_before)
            left = 0
            break
        fitted.append((text, of))
        left -= size
    if left:
        fitted.append((" " * left, role))
    return fitted


def cut(text: str, width: int) -> str:
    """`text` in exactly `width` columns, with an ellipsis at its end if it was cut."""
    if cell_len(text) <= width or cell_len(text.rstrip()) <= width:
        return set_cell_size(text, width)
    return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width) if width > 0 else ""


def tail(text: str, width: int) -> str:
    """The end of a text in at most `width` columns, with an ellipsis before it if it was cut, a path at a folder."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[1:]
    folder = text.find("/", 0, len(text) - 1)
    return f"…{text[max(0, folder) :]}" if width > 0 else ""


def frame(title: Line, body: Sequence[Line], width: int, height: int, note: Line | None = None) -> list[Line]:
    """A box of exactly this size around a body, cut or padded to fit, with a title and a note in its upper edge."""
    if width < 4 or height < 2:
        return [fit(line, width) for line in [*body[:height], *[[] for _ in range(height - len(body))]]]
    note = note or []
    room = width - 4
    if columns(note) > room - 6:
        note = []
    shown = fit(title, min(columns(title), max(0, room - columns(note) - 2)))
    gap = max(0, width - 4 - columns(shown) - columns(note) - (2 if note else 0))
    top = [("┌ ", "frame"), *shown, (" " + "─" * gap, "frame")]
    top += [(" ", "frame"), *note, (" ", "frame")] if note else []
    lines = [[*fit(top, width - 1, "frame"), ("┐", "frame")]]
    for number in range(height - 2):
        line = body[number] if number < len(body) else []
        lines.append([("│ ", "frame"), *fit(line, width - 4), (" │", "frame")])
    lines.append([("└" + "─" * (width - 2) + "┘", "frame")])
    return lines


def side_by_side(*blocks: list[Line]) -> list[Line]:
    """Blocks of equal height next to each other."""
    return [[span for block in blocks for span in block[number]] for number in range(len(blocks[0]))]


def filled(lines: Sequence[Line], width: int, height: int) -> list[Line]:
    """Lines cut or padded to exactly this height and width."""
    shown = [fit(line, width) for line in lines[:height]]
    return shown + [fit([], width) for _ in range(height - len(shown))]


def bar(share: float, width: int) -> Line:
    """A bar of the completed share."""
    share = min(1.0, max(0.0, share)) if share == share else 0.0
    done = round(share * width)
    return [("━" * done, "accent"), ("─" * (width - done), "frame")]


def spark(values: Sequence[float], width: int, most: float = 0.0) -> str:
    """The newest values as blocks, from zero to `most`, or to the largest; a non-finite value is a space."""
    shown = list(values)[-width:] if width > 0 else []
    most = most or max((value for value in shown if value == value and abs(value) < float("inf")), default=0)
    if most <= 0:
        return " " * len(shown)
    return "".join(
        BLOCKS[min(7, int(value / most * 7.99))] if value == value and 0 <= value <= most else " " for value in shown
    )
