"""A queue as text: its entries, and its state on one line."""

from engine.contract.texts import Lang, say
from sft_tui import text
from sft_tui.event_text import status_name
from sft_tui.options import setting_text
from sft_tui.queue.entries import Entry, Queue

COLUMNS = ("number", "state", "preset", "settings", "run", "note")


def settings(entry: Entry, lang: Lang) -> str:
    """The settings of an entry that are not its preset's."""
    shown = (f"{name}={setting_text(name, value, lang)}" for name, value in entry.values.items())
    return " ".join(text.safe(one, 80) for one in shown) or "-"


def state_name(entry: Entry, lang: Lang) -> str:
    """The state of an entry, or how its run ended."""
    if entry.state == "done" and entry.ended:
        return status_name(text.safe(entry.ended, 20), lang)
    return say(f"queue.state.{entry.state}", lang)


def note(entry: Entry, lang: Lang) -> str:
    """Why an entry was refused, or the run that its settings are from."""
    if entry.message is not None:
        return text.safe(entry.message.text(lang), 600)
    return say("queue.based_on", lang, run=text.safe(entry.based_on, 60)) if entry.based_on else ""


def cells(entry: Entry, lang: Lang) -> list[str]:
    """The cells of an entry in the table, by column."""
    return [
        str(entry.number),
        state_name(entry, lang),
        text.safe(entry.preset, 30),
        settings(entry, lang),
        text.safe(entry.run, 60) or "-",
        note(entry, lang),
    ]


def table(queue: Queue, lang: Lang, columns: int = 0) -> list[str]:
    """One line an entry under a line of headings, at most the given number of columns wide (0: no limit)."""
    if not queue.entries:
        return []
    rows = [[say(f"queue.column.{name}", lang) for name in COLUMNS], *(cells(one, lang) for one in queue.entries)]
    widths = [max(text.width(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = ["  ".join(text.pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [text.cut(line, columns) for line in lines] if columns else lines


def state(queue: Queue, lang: Lang) -> str:
    """What runs or is checked, the number of waiting entries, and whether and why the queue is paused."""
    active, checked, count = queue.active, queue.checked, queue.still_waiting
    if active is not None:
        said = say("queue.running", lang, run=text.safe(active.run or active.preset, 60), count=count)
    elif checked is not None:
        said = say("queue.checking", lang, preset=text.safe(checked.preset, 60), count=count)
    elif count:
        said = say("queue.waiting", lang, count=count)
    else:
        return say("queue.empty", lang)
    if not queue.paused:
        return said
    why = say("queue.paused", lang) if queue.why is None else text.safe(queue.why.text(lang), 400)
    return f"{said} {why}"


def state_short(queue: Queue, lang: Lang) -> str:
    """The number of waiting entries, and whether the queue is paused, in a few words."""
    said = say("queue.waiting_short", lang, count=queue.still_waiting)
    return f"{said} · {say('queue.paused_short', lang)}" if queue.paused else said
