"""Runs compared, as text and as plain values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.contract.texts import Lang, say
from sft_tui import comparison, lineage, text
from sft_tui.comparison import Replies, Row
from sft_tui.lineage import Link
from sft_tui.runs import Run
from sft_tui.wrapping import wrapped

LEAST_COLUMN, WIDEST_COLUMN = 12, 40
INDENT = 4
UNLIMITED = 120  # columns of what is not printed on a terminal
MOST_LINES, LONGEST = 12, 4000  # of one reply: lines, characters


def lines(
    compared: Sequence[Run], linked: Mapping[str, Sequence[Link]], lang: Lang, columns: int = 0, *, whole: bool = False
) -> Iterator[str]:
    """Scores, settings that differ (or all of them), what the runs began from, and their replies to the same prompts.

    At most the given number of columns wide; 0: not on a terminal.
    """
    differing, same = comparison.settings(compared)
    rows = [Row("", [text.safe(run.name, 60) for run in compared]), *comparison.scores(compared, lang)]
    rows += [*comparison.measures(compared, lang), *(Row(f"! {row.name}", row.values) for row in differing)]
    yield from _table([*rows, *(same if whole else [])], columns)
    if not whole:
        yield say("app.compared_alike", lang, count=len(same))
    began = [(run, lineage.described(run, linked, lang)) for run in compared]
    if any(words for _, words in began):
        yield ""
        yield from (f"{text.safe(run.name, 60)}: {words}" for run, words in began if words)
    for one in comparison.replies(compared):
        yield ""
        yield from _replies(one, compared, lang, columns or UNLIMITED)


def _table(rows: Sequence[Row], columns: int) -> Iterator[str]:
    shown = [[text.safe(row.name, 60), *(text.number(value) for value in row.values)] for row in rows]
    widths = [max(map(text.width, column)) for column in zip(*shown, strict=True)]
    room = (columns - widths[0]) // (len(widths) - 1) - 2 if columns else WIDEST_COLUMN
    widths[1:] = [min(width, max(LEAST_COLUMN, room)) for width in widths[1:]]
    for row in shown:
        cells = [text.pad(_within(cell, width), width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        yield text.cut(line, columns) if columns else line


def _within(cell: str, width: int) -> str:
    """A cell within its column; a path that is too long keeps its end."""
    if "/" not in cell:
        return text.cut(cell, width)
    while text.width(cell) > width and len(cell) > 2:
        cell = "…" + cell[2:]
    return cell


def _replies(one: Replies, compared: Sequence[Run], lang: Lang, columns: int) -> Iterator[str]:
    parts = [("▸", one.prompt), (" ", say("app.side_wanted", lang, text=one.reference))]
    parts += [
        (f"  {text.safe(run.name, 60)}:", reply)
        for run, reply in zip(compared, one.replies, strict=True)
        if reply is not None
    ]
    for label, words in parts:
        flat, next_to = text.safe(" ".join(words.split()), LONGEST) or "-", text.width(label) <= columns // 3
        indent = text.width(label) + 1 if next_to else INDENT
        shown = wrapped(flat, max(LEAST_COLUMN, columns - indent), MOST_LINES)
        if not next_to:
            yield text.cut(label, columns)
        for place, part in enumerate(shown):
            yield f"{label} {part}" if next_to and not place else " " * indent + part


def as_json(compared: Sequence[Run], linked: Mapping[str, Sequence[Link]]) -> dict[str, Any]:
    """The same as plain values; lists have one value of each run, in their order."""
    differing, same = comparison.settings(compared)
    return {
        "runs": [run.to_json() for run in compared],
        "seconds": [run.state.seconds for run in compared],
        "settings": {row.name: row.values for row in differing},
        "same": {row.name: row.values[0] for row in same},
        "began_from": [[link._asdict() for link in linked.get(run.name, ())] for run in compared],
        "replies": [one._asdict() for one in comparison.replies(compared)],
    }
