"""The bottom of a screen: its keys, or in their place a question or a notice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.contract.texts import Lang
from sft_tui.screen import actions
from sft_tui.screen.ink import Line, columns, fit
from sft_tui.text import one_for_one
from sft_tui.wrapping import wrap, wrapped

MOST_LINES = 8  # of a notice, or of a long typed text
DIGITS = "123456789"  # the keys of the first choices
MOST_CHOICES = len(DIGITS)  # shown at a time
LEAST_MORE = 12  # columns; with less room, the explanation of a choice is shown only when it is selected
MOVES = {"up": -1, "down": 1, "pageup": -MOST_CHOICES, "pagedown": MOST_CHOICES, "home": -(1 << 20), "end": 1 << 20}


@dataclass
class Question:
    """A question at the bottom, and what to do with the answer: a key among `keys`, a text, or a choice's number.

    A text that `answered` refuses with an InputError stays so that it can be corrected. Choices are numbered from 1.
    """

    text: str
    answered: Callable[[str], None]
    keys: str = "yn"
    typed: str | None = None  # the text so far, if one is asked for
    cursor: int | None = None  # the cursor's position in that text; None: at the end
    choices: Sequence[tuple[str, str]] = ()  # the choices, each with a further explanation
    chosen: int = 0  # the choice under the cursor

    def pressed(self, key: str) -> int:
        """Moves the cursor in the choices; returns the number of the one that a key selects, or 0."""
        count = len(self.choices)
        self.chosen = min(count - 1, max(0, self.chosen + MOVES.get(key, 0)))
        if key == "enter":
            return self.chosen + 1
        return DIGITS.index(key) + 1 if key in DIGITS[:count] else 0

    @property
    def first(self) -> int:
        """The first choice that is shown."""
        return max(0, min(self.chosen - MOST_CHOICES // 2, len(self.choices) - MOST_CHOICES))


def asked(question: Question, width: int) -> list[Line]:
    """A question with the text typed so far, on as many lines as needed, or as many as fit around the cursor."""
    if question.choices:
        return _choice_lines(question, width)
    if question.typed is None:
        return [fit([(f" {part}", "warn")], width) for part in wrap(question.text, width - 2)]
    place = len(question.typed) if question.cursor is None else question.cursor
    typed = one_for_one(question.typed)
    lines = wrap(f"{question.text} {typed[:place]}▏{typed[place:]}", width - 2)
    at = next(number for number, line in enumerate(lines) if "▏" in line)
    begin = max(0, min(len(lines) - MOST_LINES, at - MOST_LINES + 2))
    first, *more = lines[begin : begin + MOST_LINES]
    if not first.startswith(question.text):
        return [fit([(f" {part}", "head")], width) for part in (first, *more)]
    line: Line = [(f" {question.text}", "warn"), (first[len(question.text) :], "head")]
    return [fit(line, width), *(fit([(f" {part}", "head")], width) for part in more)]


def _choice_lines(question: Question, width: int) -> list[Line]:
    """A question with its choices, one line each, but the selected one in full; each choice's digit is its key."""
    lines = [fit([(f" {part}", "warn")], width) for part in wrap(question.text, width - 2)]
    shown = range(question.first, min(len(question.choices), question.first + MOST_CHOICES))
    for place in shown:
        (words, more), here = question.choices[place], place == question.chosen
        number = f"{place + 1} " if place < MOST_CHOICES else "  "
        head: Line = [(" ▸ " if here else "   ", "accent"), (number, "key")]
        parts = [part.rstrip() for part in wrapped(words, width - 6, 3 if here else 1)]
        indent = " " * (3 + len(number))
        line: Line = [*head, (parts[0], "select" if here else "")]
        if not here and width - columns(line) >= LEAST_MORE:
            line.append((f"  {more}", "dim"))
        lines.append(fit(line, width))
        if here:
            lines += [fit([(indent + part, "select")], width) for part in parts[1:]]
            lines += [fit([(indent + part, "dim")], width) for part in wrapped(more, width - 6, 3) if part]
    return lines


def notice(words: str, role: str, width: int) -> list[Line]:
    """A notice, in full if possible."""
    parts = [part for line in words.split("\n") for part in wrap(line, width - 2)]
    return [fit([(f" {part}", role)], width) for part in parts[:MOST_LINES]]


Offered = Callable[[actions.Action], bool]  # whether an action can be carried out now
Labels = Mapping[str, str]  # labels, by action, in place of those of the table
USUAL: Labels = {}


def footer(
    scope: str, lang: Lang, width: int, offered: Offered, labels: Labels = USUAL, *, typing: bool = False
) -> Line:
    """The keys of a screen that are active now, as many as fit; help and quit always.

    `typing`: keys that print a character are typed, so the action's next key is shown.
    """
    return fit([span for spans, _ in _footer(scope, lang, width, offered, labels, typing) for span in spans], width)


def _footer(
    scope: str, lang: Lang, width: int, offered: Offered, labels: Labels, typing: bool
) -> list[tuple[Line, str]]:
    shown = [action for action in actions.of_scope(scope) if action.footer and offered(action)]
    shown.sort(key=lambda action: not action.first)
    if not any(action.name == "quit" for action in shown):
        shown += [action for action in actions.ACTIONS if action.name == "quit" and action.scope == actions.EVERYWHERE]
    ends = [action for action in shown if action.name in ("help", "quit")]
    parts: list[tuple[Line, str]] = []
    room = width
    for action in [*ends, *(a for a in shown if a not in ends)]:
        label = labels.get(action.name) or action.label(lang)
        key = next((key for key in action.keys if not (typing and actions.prints(key))), action.keys[0])
        part: Line = [(f" {actions.shown(key)} ", "key"), (f"{label} ", "dim")]
        if columns(part) <= room:
            room -= columns(part)
            parts.append((part, action.name))
    kept = [part for part in parts if part[1] not in ("help", "quit")]
    return [*kept, *(part for part in parts if part[1] == "help"), *(part for part in parts if part[1] == "quit")]


def footer_at(
    scope: str, lang: Lang, width: int, x: int, offered: Offered, labels: Labels = USUAL, *, typing: bool = False
) -> str:
    """The action whose key is in a column of the footer; empty if there is none."""
    for part, name in _footer(scope, lang, width, offered, labels, typing):
        x -= columns(part)
        if x < 0:
            return name
    return ""
