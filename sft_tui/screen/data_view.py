"""The rows of a run's data files as the model sees them, as a pure function: one row, token by token."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import cell_len

from engine.contract.config import RunConfig
from engine.contract.facts import RowFacts
from engine.contract.messages import Message
from engine.contract.texts import Lang, say
from sft_tui import row_view
from sft_tui.chat_row_view import Line as PrintedLine
from sft_tui.preflight.report import subject
from sft_tui.screen.ink import Ink, Line, filled, frame
from sft_tui.text import safe
from sft_tui.wrapping import wrap

FILES = ("train_file", "validation_file", "test_file")
COPIED_COLUMNS = 100  # of the lines that are copied


@dataclass(frozen=True)
class DataView:
    """The state that the screen shows."""

    files: Mapping[str, str]  # by setting
    setting: str  # whose file is shown
    row: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)  # rows of the files that were read, by setting
    found: RowFacts | None = None  # None while it is read
    fault: Message | None = None  # why the row cannot be shown
    scroll: int = 0  # lines above those shown
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def last(self) -> int | None:
        """The number of the last row of the file; None as long as it is not known."""
        count = self.counts.get(self.setting)
        return None if count is None else max(0, count - 1)


def data_files(config: RunConfig) -> dict[str, str]:
    """The data files of a run, by setting."""
    return {setting: path for setting in FILES if (path := str(getattr(config, setting)))}


def draw(view: DataView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    body = _body(view, width - 4)
    first = min(view.scroll, _most_scroll(body, height))
    return filled(frame(_title(view), body[first:], width, height, _note(body, first, height)), width, height)


def most_scroll(view: DataView, width: int, height: int) -> int:
    """The number of lines above those shown if the last one is at the bottom."""
    return _most_scroll(_body(view, width - 4), height)


def _most_scroll(body: Sequence[Line], height: int) -> int:
    return max(0, len(body) - max(1, height - 2))


def _title(view: DataView) -> Line:
    """The files, with a sign at the one that is shown."""
    line: Line = []
    for setting in view.files:
        here = setting == view.setting
        line += [(" · ", "dim")] if line else []
        line.append((f"{'▸ ' if here else ''}{subject(setting, view.lang)}", "head" if here else "dim"))
    return line


def _note(body: Sequence[Line], first: int, height: int) -> Line:
    """Which lines of the row are shown, if not all are."""
    last = min(len(body), first + height - 2)
    return [(f"{first + 1}-{last}/{len(body)}", "dim")] if len(body) > height - 2 else []


def _body(view: DataView, room: int) -> list[Line]:
    room = max(2, room)
    if view.fault is not None:
        return [[(part, "bad")] for part in wrap(safe(view.fault.text(view.lang)), room)]
    if view.found is None:
        path = safe(view.files[view.setting])
        reading = say("data_screen.reading", view.lang, row=view.row, path=path)
        return [[(part, "dim")] for part in wrap(reading, room)]
    return list(_row(view, view.found, room))


def _row(view: DataView, found: RowFacts, room: int) -> Iterator[Line]:
    """What `data show` prints, in columns; of pairs, also which part is learned."""
    for number, (text, learned) in enumerate(_lines(view, found, room)):
        role = "head" if number == 0 else "good" if learned else ""
        yield from ([(part, role)] for part in ([text] if cell_len(text) <= room else wrap(text, room)))
        if number == 0 and found.pairs:
            yield from ([(part, "dim")] for part in wrap(say("data_screen.pairs", view.lang), room))


def _lines(view: DataView, found: RowFacts, columns: int) -> Iterator[PrintedLine]:
    return row_view.lines(found, Path(view.files[view.setting]), view.row, columns, view.lang)


def copied(view: DataView) -> str:
    """What is copied: what `data show` prints."""
    return "" if view.found is None else "\n".join(line.text for line in _lines(view, view.found, COPIED_COLUMNS))
