"""The rows of a step, as a pure function: their list with shares, and the selected row with its tokens by loss."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len

from engine.contract.row_losses import StepRows
from engine.contract.texts import Lang, say
from engine.contract.weighed import RowBeginning, WeighedRow
from sft_tui import step_rows
from sft_tui.screen.ink import Ink, Line, filled, fit, frame, side_by_side
from sft_tui.step_rows import COLUMNS, SharedRow
from sft_tui.text import safe
from sft_tui.wrapping import wrap

WIDE = 110  # columns; from this width on, list and row are side by side
LEAST_LIST = 6  # lines of the list
# From which loss of a token on it has which role and which mark on the line below it, which needs no colours.
LEVELS = ((0.5, "good", " "), (2.0, "", "▁"), (5.0, "warn", "▃"), (math.inf, "bad", "█"))
CONTEXT = "dim"  # the role of what is not learned


@dataclass(frozen=True)
class RowsView:
    """The state that the screen shows."""

    steps: Sequence[StepRows] = ()
    rows: Sequence[SharedRow] = ()  # of these steps, by falling share
    cursor: int = 0
    scroll: int = 0  # lines of the selected row above those shown
    begun: Mapping[int, RowBeginning] = field(default_factory=dict)  # by the row's number in the store
    weighed: Mapping[int, WeighedRow] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()  # rows of the data file
    doing: str = ""  # what is being done in the background
    why: str = ""  # why there is nothing to show, or why a row cannot be weighed
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def here(self) -> SharedRow | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None


def draw(view: RowsView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    if not view.steps:
        body: list[Line] = [[(part, "dim")] for part in wrap(view.why or view.doing, max(1, width - 4))]
        return filled(frame(_title(view), body, width, height), width, height)
    upper, left = _sizes(view, width, height)
    if width >= WIDE:
        return filled(side_by_side(_list(view, left, height), _row(view, width - left, height)), width, height)
    return filled([*_list(view, width, upper), *_row(view, width, height - upper)], width, height)


def _sizes(view: RowsView, width: int, height: int) -> tuple[int, int]:
    """Lines of the list above the row, and columns of the list at its side."""
    return min(len(view.rows) + 3, max(LEAST_LIST, height // 2), height), width // 2


def row_at(view: RowsView, width: int, height: int, x: int, y: int) -> int:
    """The row in a cell of the list; -1 if there is none."""
    upper, left = _sizes(view, width, height)
    lines, across = (height, left) if width >= WIDE else (upper, width)
    place = _first(view, lines) + y - 2
    return place if x < across and 2 <= y < lines - 1 and 0 <= place < len(view.rows) else -1


def _first(view: RowsView, lines: int) -> int:
    """The row in the first line of a list of the given height."""
    room = max(1, lines - 3)
    return max(0, min(view.cursor - room // 2, len(view.rows) - room))


def _title(view: RowsView) -> Line:
    return [(say("rows.title", view.lang), "head")]


def _list(view: RowsView, width: int, height: int) -> list[Line]:
    cells = [tuple(say(f"rows.column.{name}", view.lang) for name in COLUMNS[:4]), *map(step_rows.numbers, view.rows)]
    widths = [max(cell_len(row[place]) for row in cells) for place in range(4)]
    body = [fit(_cells(cells[0], widths, "dim", "   ", say("rows.column.text", view.lang)), width - 4)]
    first = _first(view, height)
    for place in range(first, min(len(view.rows), first + max(0, height - 3))):
        one, here = view.rows[place], place == view.cursor
        out = one.row.row in view.left_out
        role = "select" if here else "dim" if out else "bad" if one.outlier else ""
        mark = "x" if out else "!" if one.outlier else " "
        words = step_rows.beginning(view.begun.get(one.row.sample), view.lang)
        body.append(fit(_cells(cells[place + 1], widths, role, ("▸" if here else " ") + mark + " ", words), width - 4))
    spike = any(one.spike for one in view.steps)
    title: Line = [(step_rows.heading(view.steps, view.lang), "bad" if spike else "head")]
    unkept = sum(one.count - len(one.rows) for one in view.steps)
    note: Line = [(say("rows.kept", view.lang, kept=len(view.rows)), "dim")] if unkept > 0 else []
    return frame(title, body, width, height, note)


def _cells(row: Sequence[str], widths: Sequence[int], role: str, mark: str, words: str) -> Line:
    numeric = (" " * (most - cell_len(cell)) + cell for cell, most in zip(row, widths, strict=False))
    return [(mark, role if role != "select" else "accent"), ("  ".join(numeric), role), ("  " + words, _quiet(role))]


def _quiet(role: str) -> str:
    """The role of a row's text, which only the selection and rows that are left out change."""
    return role if role in ("select", "dim") else ""


def _row(view: RowsView, width: int, height: int) -> list[Line]:
    """The selected row: what is known of it, and its text."""
    room = max(1, width - 4)
    one = view.here
    if one is None:
        return frame(_title(view), [], width, height)
    head = list(_about(view, one, room))
    body = text_lines(view, one, room)
    inside = max(0, height - 2 - len(head))
    start = min(view.scroll, max(0, len(body) - inside))
    note: Line = [(f"{start + 1}-{min(len(body), start + inside)}/{len(body)}", "dim")] if len(body) > inside else []
    title: Line = [(say("rows.of_file", view.lang, row=one.row.row), "head")]
    return frame(title, [*head, *body[start : start + inside]], width, height, note)


def most_scroll(view: RowsView, width: int, height: int) -> int:
    """The number of lines by which the selected row can be scrolled."""
    if view.here is None:
        return 0
    upper, left = _sizes(view, width, height)
    across, lines = (width - left, height) if width >= WIDE else (width, height - upper)
    room = max(1, across - 4)
    inside = max(0, lines - 2 - len(list(_about(view, view.here, room))))
    return max(0, len(text_lines(view, view.here, room)) - inside)


def _about(view: RowsView, one: SharedRow, room: int) -> Iterator[Line]:
    """The numbers of a row, whether it is left out, and what its colours mean or what is being done."""
    share, loss, tokens, _ = step_rows.numbers(one)
    words = say("rows.row", view.lang, loss=loss, tokens=tokens, share=share)
    yield from ([(part, "bad" if one.outlier else "")] for part in wrap(words, room))
    if one.row.row in view.left_out:
        yield from ([(part, "warn")] for part in wrap(say("rows.left_out", view.lang), room))
    found = view.weighed.get(one.row.sample)
    if found is None:
        role = "warn" if view.why else "accent"
        yield from ([(part, role)] for part in wrap(view.why or view.doing or " ", room))
        return
    by = say(f"rows.by_{found.origin}", view.lang, step=found.step)
    yield from ([(part, "dim")] for part in wrap(by, room))
    yield fit(_scale(), room)


def _scale() -> Line:
    """What the roles and marks of tokens mean."""
    names = ("< 0.5", "< 2", "< 5", "≥ 5")
    return [span for name, (_, role, mark) in zip(names, LEVELS, strict=True) for span in ((f"{mark} {name}  ", role),)]


def level(loss: float) -> tuple[str, str]:
    """The role and the mark of a token by its loss; one that is not a number has the highest."""
    return next(((role, mark) for below, role, mark in LEVELS if loss < below), LEVELS[-1][1:])


def text_lines(view: RowsView, one: SharedRow, room: int) -> list[Line]:
    """The text of a row, each line with marks below it; without its tokens, how it begins."""
    found = view.weighed.get(one.row.sample)
    if found is not None:
        return list(_marked(found, room))
    begun = view.begun.get(one.row.sample)
    if begun is None:
        return []
    if begun.changed:
        return [[(part, "warn")] for part in wrap(say("rows.changed", view.lang), room)]
    parts = ((begun.given, CONTEXT), (begun.learned, ""))
    return [[(line, role)] for text, role in parts for line in wrap(safe(text), room) if line]


def _marked(found: WeighedRow, room: int) -> Iterator[Line]:
    """The tokens on lines of that width, and below a line with learned ones their marks."""
    line: Line = []
    marks: list[str] = []
    used = 0
    for text, loss in found.token_losses():
        role, mark = (CONTEXT, " ") if loss is None else level(loss)
        for piece in _pieces(safe(text, len(text)), room):
            size = cell_len(piece)
            if used + size > room:
                yield from _both(line, marks)
                line, marks, used = [], [], 0
            line.append((piece, role))
            marks.append(mark * size)
            used += size
        if text.endswith("\n"):
            yield from _both(line, marks)
            line, marks, used = [], [], 0
    if line:
        yield from _both(line, marks)


def _pieces(text: str, room: int) -> Iterator[str]:
    """A token in parts that fit a line."""
    while cell_len(text) > room > 1:
        head, size = "", 0
        for char in text:
            size += cell_len(char)
            if size > room:
                break
            head += char
        yield head
        text = text[len(head) :]
    if text and cell_len(text) <= room:
        yield text


def _both(line: Line, marks: Sequence[str]) -> Iterator[Line]:
    yield line
    if any(mark.strip() for mark in marks):
        yield [(mark, role) for mark, (_, role) in zip(marks, line, strict=True)]


def copied(view: RowsView) -> str:
    """What is copied of the selected row: its whole text, or how it begins."""
    one = view.here
    if one is None:
        return ""
    found = view.weighed.get(one.row.sample)
    if found is not None:
        return "".join(found.texts)
    begun = view.begun.get(one.row.sample)
    return "" if begun is None else begun.given + begun.learned
