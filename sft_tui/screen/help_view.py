"""The page of keys, generated from the table of actions."""

from engine.contract.texts import Lang, say
from sft_tui.screen import actions
from sft_tui.screen.ink import Line, fit, frame
from sft_tui.wrapping import wrap

KEYS = 12  # columns of the keys


def draw(scope: str, lang: Lang, width: int, height: int, first: int) -> list[Line]:
    """The page, starting at a line; the keys of the screen that opened it come first."""
    lines = _lines(scope, lang, width)
    first = max(0, min(first, len(lines) - (height - 2)))
    more = len(lines) - first - (height - 2)
    note: Line = [(f"↓ {more}", "dim")] if more > 0 else []
    return frame([(say("screen.help", lang), "head")], lines[first:], width, height, note)


def last_first(scope: str, lang: Lang, width: int, height: int) -> int:
    """The first line of the last page."""
    return max(0, len(_lines(scope, lang, width)) - (height - 2))


def _lines(scope: str, lang: Lang, width: int) -> list[Line]:
    lines: list[Line] = []
    order = [scope, *(name for name in actions.SCOPES if name != scope)] if scope in actions.SCOPES else actions.SCOPES
    for name in order:
        lines.append([(say(f"scope.{name}", lang), "head")])
        for action in actions.ACTIONS:
            if action.scope != name:
                continue
            keys = " ".join(map(actions.shown, action.keys))
            for number, part in enumerate(wrap(action.help(lang), width - KEYS - 6)):
                lines.append([*fit([(f"  {keys}" if number == 0 else "", "key")], KEYS), (part, "")])
        lines.append([])
    return lines[:-1]
