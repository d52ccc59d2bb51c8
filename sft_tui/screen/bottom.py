"""The bottom of a screen: its keys, and in their place what is asked or told."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.contract.messages import Lang
from sft_tui.screen import actions
from sft_tui.screen.ink import Line, columns, fit, wrap

MOST_LINES = 8  # of news, or of a long text that is typed


@dataclass
class Question:
    """What is asked at the bottom, and what is done with the answer: a key among `keys`, or a text.

    A text that `answered` refuses with an InputError stays, for it to be corrected.
    """

    text: str
    answered: Callable[[str], None]
    keys: str = "yn"
    typed: str | None = None  # the text so far, where one is asked for
    cursor: int | None = None  # its place in that text; None: at the end
    is_path: bool = False  # the text names a file


def asked(question: Question, width: int) -> list[Line]:
    """A question with what was typed so far: on as many lines as it takes, or so many of them around the cursor."""
    if question.typed is None:
        return [fit([(f" {part}", "warn")], width) for part in wrap(question.text, width - 2)]
    place = len(question.typed) if question.cursor is None else question.cursor
    lines = wrap(f"{question.text} {question.typed[:place]}▏{question.typed[place:]}", width - 2)
    at = next(number for number, line in enumerate(lines) if "▏" in line)
    begin = max(0, min(len(lines) - MOST_LINES, at - MOST_LINES + 2))
    first, *more = lines[begin : begin + MOST_LINES]
    if not first.startswith(question.text):
        return [fit([(f" {part}", "head")], width) for part in (first, *more)]
    line: Line = [(f" {question.text}", "warn"), (first[len(question.text) :], "head")]
    return [fit(line, width), *(fit([(f" {part}", "head")], width) for part in more)]


def told(words: str, role: str, width: int) -> list[Line]:
    """News, all of it where that is possible."""
    parts = [part for line in words.split("\n") for part in wrap(line, width - 2)]
    return [fit([(f" {part}", role)], width) for part in parts[:MOST_LINES]]


def footer(scope: str, lang: Lang, width: int, alive: bool | None = None) -> Line:
    """The keys of a screen, as many as there is room for; help and quit always. `alive`: of a run that it shows."""
    return fit([span for spans, _ in _footer(scope, lang, width, alive) for span in spans], width)


def _footer(scope: str, lang: Lang, width: int, alive: bool | None) -> list[tuple[Line, str]]:
    shown = [a for a in actions.of_scope(scope) if a.footer and (a.alive is None or alive in (None, a.alive))]
    if not any(action.name == "quit" for action in shown):
        shown += [action for action in actions.ACTIONS if action.name == "quit" and action.scope == actions.EVERYWHERE]
    ends = [action for action in shown if action.name in ("help", "quit")]
    parts: list[tuple[Line, str]] = []
    room = width
    for action in [*ends, *(a for a in shown if a not in ends)]:
        part: Line = [(f" {actions.shown(action.keys[0])} ", "key"), (f"{action.label(lang)} ", "dim")]
        if columns(part) <= room:
            room -= columns(part)
            parts.append((part, action.name))
    kept = [part for part in parts if part[1] not in ("help", "quit")]
    return [*kept, *(part for part in parts if part[1] == "help"), *(part for part in parts if part[1] == "quit")]


def footer_at(scope: str, lang: Lang, width: int, x: int, alive: bool | None = None) -> str:
    """The action whose key stands in a column of the footer; empty where none does."""
    for part, name in _footer(scope, lang, width, alive):
        x -= columns(part)
        if x < 0:
            return name
    return ""
