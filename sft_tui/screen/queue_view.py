"""The screen of the queue, as a pure function: its entries, and what is known of the one under the cursor."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.contract.messages import Message
from engine.contract.texts import Lang, say
from sft_tui.queue import lines
from sft_tui.queue.entries import Entry, Queue
from sft_tui.screen.ink import Ink, Line, columns, filled, fit, frame
from sft_tui.text import safe
from sft_tui.wrapping import wrap, wrapped

LEAST_LIST = 6  # lines of the list
MOST_WRONG = 4  # lines about a damaged queue
SIGNS = {
    "waiting": ("·", "dim"),
    "checking": ("…", "accent"),
    "starting": ("…", "accent"),
    "running": ("●", "accent"),
    "refused": ("✗", "bad"),
}


@dataclass(frozen=True)
class QueueView:
    """The state that the screen shows."""

    queue: Queue = field(default_factory=Queue)
    wrong: Sequence[Message] = ()  # of a queue that cannot be read, or of a damaged one that was kept
    read: bool = True  # the queue was looked at
    alive: bool = True  # whether the process of the queue is
    chosen: int = 0  # the number of the entry under the cursor
    progress: str = ""  # of the run that is running, on a line
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def cursor(self) -> int:
        """The place of the entry under the cursor in the list."""
        numbers = [entry.number for entry in self.queue.entries]
        return numbers.index(self.chosen) if self.chosen in numbers else 0

    @property
    def here(self) -> Entry | None:
        """The entry under the cursor; None if there is none."""
        return self.queue.entries[self.cursor] if self.queue.entries else None


def sign(entry: Entry) -> tuple[str, str]:
    """The sign of an entry's state and its role, which without colour still differ."""
    if entry.state == "done":
        return ("✓", "good") if entry.ended == "finished" else ("✗", "warn")
    return SIGNS[entry.state]


def summary(queue: Queue, lang: Lang) -> str:
    """The queue in a few words for the title of another screen; empty if there is nothing to say."""
    if not queue.waiting and queue.active is None:
        return ""
    key = "screen.queue_paused" if queue.paused else "screen.queue_waiting"
    return say(key, lang, count=queue.still_waiting)


def draw(view: QueueView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    wrong = _wrong(view, width)[: max(0, height - LEAST_LIST)]
    top = _list_lines(view, width, height - len(wrong))
    details = _details(view, width)[: height - len(wrong) - top] if view.here is not None else []
    return filled([*wrong, *_list(view, width, top), *details], width, height)


def entry_at(view: QueueView, width: int, height: int, y: int) -> int:
    """The number of the entry in a line of the screen; 0 if there is none."""
    above = len(_wrong(view, width)[: max(0, height - LEAST_LIST)])
    top = _list_lines(view, width, height - above)
    place = _first(view, top) + y - above - 2
    if 2 <= y - above < top - 1 and 0 <= place < len(view.queue.entries):
        return view.queue.entries[place].number
    return 0


def _wrong(view: QueueView, width: int) -> list[Line]:
    """What is wrong with the queue, and why it is paused."""
    texts = [(message.text(view.lang), "bad") for message in view.wrong]
    queue = view.queue
    if queue.paused and (queue.waiting or queue.active):
        why = queue.why.what(view.lang) + " " if queue.why is not None else ""
        texts.append((why + say("screen.queue_is_paused", view.lang), "warn"))
    elif not view.alive and (queue.active or queue.waiting):
        texts.append((say("screen.queue_dead", view.lang), "warn"))
    found: list[Line] = []
    for words, role in texts:
        parts = wrapped(safe(words, 400), max(8, width - 4), MOST_WRONG)
        found += [fit([("! " if not place else "  ", role), (part, role)], width) for place, part in enumerate(parts)]
    return found


def _list_lines(view: QueueView, width: int, height: int) -> int:
    """The number of lines of the list: what the details of one entry leave."""
    if view.here is None:
        return height
    below = min(len(_details(view, width)), height - LEAST_LIST)
    return height - below if below >= 4 else height


def _first(view: QueueView, height: int) -> int:
    """The entry in the first line of a list of the given height."""
    return max(0, min(view.cursor - (height - 3) // 2, len(view.queue.entries) - (height - 3)))


def _list(view: QueueView, width: int, height: int) -> list[Line]:
    lang, queue = view.lang, view.queue
    title: Line = [(say("screen.queue", lang), "head")]
    if not queue.entries:
        words = say("screen.queue_empty" if view.read else "here.reading", lang)
        body: list[Line] = [[(part, "dim")] for part in wrap(words, max(8, width - 4))]
        return frame(title, body, width, height)
    shown = lines.COLUMNS[:-1]
    rows = [
        [say(f"queue.column.{name}", lang) for name in shown],
        *(lines.cells(one, lang)[:-1] for one in queue.entries),
    ]
    widths = [max(columns([(row[place], "")]) for row in rows) for place in range(len(shown))]
    widths[3] = max(8, min(widths[3], width - 4 - 4 - sum(widths[:3]) - widths[4] - 2 * len(widths)))
    body = [fit(_row(rows[0], widths, "dim", [("    ", "")]), width - 4)]
    first = _first(view, height)
    for place in range(first, min(len(queue.entries), first + height - 3)):
        entry, here = queue.entries[place], place == view.cursor
        mark, role = sign(entry)
        begin: Line = [("▸" if here else " ", "accent"), (" ", ""), (mark, role), (" ", "")]
        body.append(fit(_row(rows[place + 1], widths, "select" if here else "", begin), width - 4))
    return frame(title, body, width, height, [(lines.state_short(queue, lang), "dim")])


def _row(row: Sequence[str], widths: Sequence[int], role: str, begin: Line) -> Line:
    line = list(begin)
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        of = role if place < 3 or role == "dim" else ""
        line += [*fit([(cell, of)], width), ("  ", "")]
    return line


def _details(view: QueueView, width: int) -> list[Line]:
    """The entry under the cursor: what it is asked, what the check found, and its run."""
    entry, lang = view.here, view.lang
    if entry is None:
        return []
    parts = [(say("column.status", lang), lines.state_name(entry, lang), sign(entry)[1])]
    if entry.message is not None:
        parts.append((say("screen.queue_check", lang), safe(entry.message.what(lang), 600), "bad"))
        parts += [("", words, "dim") for words in [safe(entry.message.fix(lang), 400)] if words]
    if entry.state in ("starting", "running") and view.progress:
        parts.append((say("column.run", lang), safe(view.progress, 200), ""))
    elif entry.run:
        parts.append((say("column.run", lang), safe(entry.run, 60), ""))
    parts.append((say("screen.queue_settings", lang), lines.settings(entry, lang), ""))
    if entry.based_on:
        parts.append((say("screen.queue_from", lang), safe(entry.based_on, 60), ""))
    if entry.added:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(entry.added, 1e11)))
        parts.append((say("screen.queue_added", lang), when, "dim"))
    indent = max(columns([(label, "")]) for label, _, _ in parts) + 2
    body: list[Line] = []
    for label, words, role in parts:
        for place, line in enumerate(wrap(words, max(8, width - 4 - indent))):
            body.append([*fit([("" if place else label, "dim")], indent), (line, role)])
    return frame([(f"{entry.number} {safe(entry.preset, 40)}", "head")], body, width, len(body) + 2)
