"""The conversations of a chat as lines: a column for each model, or if they are narrow one above another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len

from engine.contract.texts import Lang, say
from sft_tui.chat_model import ChatState, Exchange
from sft_tui.screen.ink import Line, filled, frame, side_by_side
from sft_tui.text import safe, size
from sft_tui.wrapping import wrap

NARROWEST = 30  # columns of a model that stands next to another
LONGEST = 100_000  # characters of a text that are shown
MARK, GAP = "> ", 2  # before what the user said, and its columns
KEPT = 512  # paragraphs that are not wrapped again


@dataclass(frozen=True)
class ChatView:
    """The conversations, and the first line of each that is shown; None for the newest ones."""

    models: tuple[ChatState, ...]
    tops: tuple[int | None, ...]
    lang: Lang = "en"

    def top(self, place: int) -> int | None:
        """The first line of a model that is shown; None for the newest ones."""
        return self.tops[place] if place < len(self.tops) else None


def draw(view: ChatView, width: int, height: int) -> list[Line]:
    """All conversations, in exactly this size."""
    if not view.models:
        return filled([], width, height)
    blocks = []
    for place, (columns, rows) in enumerate(sizes(len(view.models), width, height)):
        model = view.models[place]
        lines = body(model, view.lang, columns - 4)
        first = shown_from(view.top(place), len(lines), rows - 2)
        title: Line = [(safe(model.name, 200), "head")]
        room = columns - 10 - cell_len(model.name)
        shown = lines[first : first + max(0, rows - 2)]
        blocks.append(frame(title, shown, columns, rows, note(model, view.lang, room)))
    if _in_a_row(len(blocks), width):
        return side_by_side(*blocks)
    return [line for block in blocks for line in block]


def sizes(count: int, width: int, height: int) -> list[tuple[int, int]]:
    """Columns and rows of each model's frame."""
    if _in_a_row(count, width):
        return [(width * (at + 1) // count - width * at // count, height) for at in range(count)]
    return [(width, height * (at + 1) // count - height * at // count) for at in range(count)]


def _in_a_row(count: int, width: int) -> bool:
    return width >= NARROWEST * count


def place_at(count: int, width: int, height: int, x: int, y: int) -> int:
    """Which model is shown at a cell."""
    along, most = (x, width) if _in_a_row(count, width) else (y, height)
    return min(count - 1, max(0, along * count // max(1, most)))


def shown_from(top: int | None, lines: int, rows: int) -> int:
    """The first line that is shown of a number of lines, in a number of rows."""
    last = max(0, lines - max(0, rows))
    return last if top is None else min(max(0, top), last)


def moved(view: ChatView, place: int, by: int, width: int, height: int) -> int | None:
    """The first line of a model to show after moving by a number of lines; None at the end, to follow the newest."""
    columns, rows = sizes(len(view.models), width, height)[place]
    lines = len(body(view.models[place], view.lang, columns - 4))
    first = shown_from(view.top(place), lines, rows - 2) + by
    return None if first >= shown_from(None, lines, rows - 2) else max(0, first)


def note(model: ChatState, lang: Lang, room: int) -> Line:
    """What the last reply of a model took: memory, if there is room, and its pace; or what the model is doing."""
    if model.state in ("waiting", "loading"):
        return [(say(f"chat.{model.state}", lang), "warn")]
    if model.state == "ended":
        return [(say("chat.ended", lang), "bad")]
    words = [size(model.memory)] if model.memory else []
    if model.last is not None:
        words.append(say("chat.speed", lang, speed=f"{model.speed:.1f}"))
    while len(words) > 1 and cell_len(" · ".join(words)) > room:
        words = words[1:]
    return [(" · ".join(words), "dim")]


def body(model: ChatState, lang: Lang, width: int) -> list[Line]:
    """The lines of a conversation, oldest first."""
    lines: list[Line] = []
    for one in model.turns:
        lines += [[], *_exchange(one, model, lang, width)] if lines else _exchange(one, model, lang, width)
    if model.fault is not None:
        lines += [[]] if lines else []
        lines += [[(part, "bad")] for part in wrap(safe(model.fault.text(lang), 1000), max(1, width))]
    elif not lines:
        lines = [[(part, "dim")] for part in wrap(say("chat.empty", lang), max(1, width))]
    return lines


def _exchange(one: Exchange, model: ChatState, lang: Lang, width: int) -> Iterator[Line]:
    for at, part in enumerate(paragraphs(one.asked, width - GAP)):
        yield [(MARK if at == 0 else " " * GAP, "accent"), (part, "accent")]
    if one.reply:
        yield from ([(part, "")] for part in paragraphs(one.reply, width))
    elif one.refused is None and one.replied is None and model.state != "ended":
        yield [("…", "dim")]
    for words, role in _notes(one, lang):
        yield from ([(part, role)] for part in wrap(words, max(1, width)))


def _notes(one: Exchange, lang: Lang) -> Iterator[tuple[str, str]]:
    if one.refused is not None:
        yield safe(one.refused.text(lang), 1000), "warn"
    if one.replied is None:
        return
    if not one.reply.strip():
        yield say("chat.nothing", lang), "dim"
    if one.replied.ended != "end":
        yield say(f"chat.{one.replied.ended}", lang, tokens=one.replied.tokens), "dim"
    if one.replied.left_out:
        yield say("reply.left_out", lang, turns=one.replied.left_out), "dim"
    if one.replied.cut:
        yield say("reply.cut", lang, tokens=one.replied.prompt_tokens), "dim"


def paragraphs(text: str, width: int) -> Sequence[str]:
    """A text from anywhere on lines of a number of columns, without anything that a terminal would interpret."""
    shown = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return [line for part in shown.splitlines() for line in _wrapped(part, max(1, width))]


@lru_cache(KEPT)
def _wrapped(part: str, width: int) -> tuple[str, ...]:
    return tuple(wrap(safe(part.expandtabs(4), LONGEST), width))
