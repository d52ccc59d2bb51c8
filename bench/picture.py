"""A terminal's screen as an SVG picture, drawn from the text with escape sequences that `tmux capture-pane -e` prints.

Rich has `export_svg` too, but it gives a wide character the width of a narrow one and loads a font from the network.
"""

import re
from collections.abc import Iterator
from html import escape
from itertools import groupby

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WORDS = re.compile(r"\S+(?: \S+)*")  # several spaces are one to a browser, so what stands between them is placed
CELL = (8.4, 17.0)  # width and height in pixels
FONT_PIXELS, BASELINE, MARGIN = 14, 13, 12
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', monospace"
THEME = TerminalTheme(
    (14, 17, 22), (201, 209, 217),  # background and text of the app's dark theme
    [(14, 17, 22), (255, 123, 114), (126, 231, 135), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221),
     (201, 209, 217)],
)  # fmt: skip


def svg(screen: str) -> str:
    """The picture of a screen."""
    lines = [[*_runs(line)] for line in Text.from_ansi(screen.rstrip("\n")).split(allow_blank=True)]
    columns = max(sum(cells for _, cells, _ in line) for line in lines)
    width, height = columns * CELL[0] + 2 * MARGIN, len(lines) * CELL[1] + 2 * MARGIN
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f'<rect width="100%" height="100%" rx="8" fill="{THEME.background_color.hex}"/>',
        f'<g font-family="{FONTS}" font-size="{FONT_PIXELS}">',
        *(part for number, line in enumerate(lines) for part in _drawn(line, MARGIN + number * CELL[1])),
        "</g>",
        "</svg>",
        "",
    ])  # fmt: skip


Run = tuple[str, int, Style]  # text, columns, style


def _runs(line: Text) -> Iterator[Run]:
    """The parts of a line with one style and characters of one width: fonts differ in how wide they draw others."""
    for segment in line.render(Console()):
        for _, text in groupby(segment.text, _kind):
            run = "".join(text)
            yield run, cell_len(run), segment.style or Style()


def _kind(character: str) -> str:
    return "wide" if cell_len(character) == 2 else "narrow" if character.isascii() else "drawn"


def _drawn(line: list[Run], top: float) -> Iterator[str]:
    left = float(MARGIN)
    for text, cells, style in line:
        width = cells * CELL[0]
        ink, paper = _colour(style.color, foreground=True), _colour(style.bgcolor, foreground=False)
        if style.reverse:
            ink, paper = paper, ink
        if paper != THEME.background_color.hex:
            yield f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{CELL[1]:g}" fill="{paper}"/>'
        look = f'fill="{ink}"' + ' font-weight="bold"' * bool(style.bold)
        for words in WORDS.finditer(text):
            x, length = (cell_len(part) * CELL[0] for part in (text[: words.start()], words[0]))
            place = f'x="{left + x:g}" y="{top + BASELINE:g}" textLength="{length:g}"'
            yield f"<text {place} {look}>{escape(words[0], quote=False)}</text>"
        left += width


def _colour(color: Color | None, *, foreground: bool) -> str:
    default = THEME.foreground_color if foreground else THEME.background_color
    return (default if color is None or color.is_default else color.get_truecolor(THEME, foreground)).hex
