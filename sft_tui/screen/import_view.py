"""What an import screen shows of rows: those to be, their numbers, and what was written, as lines."""

from collections.abc import Mapping
from dataclasses import replace

from engine.contract.import_report import ImportReport
from engine.contract.texts import Lang, say
from sft_tui import data_import
from sft_tui.screen.ink import Line
from sft_tui.text import safe
from sft_tui.wrapping import wrapped

MOST_LINES = 6  # of one text


def preview_lines(found: ImportReport, width: int, lang: Lang) -> list[Line]:
    """The first rows as they will be, each text after its role, and then the account of all records."""
    lines: list[Line] = []
    for number, row in enumerate(found.preview, 1):
        lines.append([(say("import_screen.row", lang, number=number), "accent")])
        names = ("prompt", "response") if found.form == "pairs" else ()
        for place, text in enumerate(row):
            head = say(f"import_screen.{names[place]}", lang) if place < len(names) else ""
            lines += _text_lines(head, text, width)
        lines.append([])
    for line in account_lines(found, lang):
        lines += [[(part, "dim")] for part in wrapped(line, width, MOST_LINES)]
    return lines


def _text_lines(head: str, text: str, width: int) -> list[Line]:
    start = f"{head} " if head else ""
    parts = wrapped(start + safe(text), width, MOST_LINES)
    if not head:
        return [[(part, "")] for part in parts]
    first: Line = [(start, "dim"), (parts[0][len(start) :], "")]
    return [first, *([(part, "")] for part in parts[1:])]


def account_lines(found: ImportReport, lang: Lang) -> list[str]:
    """What was read, refused and kept, without the preview, as the command prints it."""
    return list(data_import.lines(replace(found, preview=(), train=""), lang))[:-1]


def written_lines(found: ImportReport, width: int, lang: Lang) -> list[Line]:
    """What was written, as the command prints it."""
    words = list(data_import.lines(replace(found, preview=()), lang))
    next_ = 1 if not found.valid else 2
    return [[(part, "")] for line in words[:-next_] for part in wrapped(line, width, MOST_LINES)]


def count_words(found: ImportReport, split: Mapping[str, int], lang: Lang) -> str:
    """How many rows there are, and how they will be split."""
    kind = "conversations" if found.form == "messages" else "rows"
    counts = {part: split.get(part, 0) for part in ("train", "valid", "test")}
    return say(f"import_screen.{kind}", lang, rows=found.kept, refused=found.records - found.used, **counts)
