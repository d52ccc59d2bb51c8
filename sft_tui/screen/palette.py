"""The palette of a screen's actions: typing narrows the list, enter carries out the action under the cursor."""

from collections.abc import Sequence

from textual.events import Key

from engine.contract.texts import LANGS, Lang, say
from sft_tui.screen import actions
from sft_tui.screen.actions import Action
from sft_tui.screen.base import ActionScreen, CanvasScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.canvas import Canvas
from sft_tui.screen.ink import Line, columns, fit, frame

KEYS = 12  # columns of the keys


def found(scope: str, lang: Lang, words: str) -> list[Action]:
    """The actions of a screen that contain all words in their names, or at the start of a word of their help."""
    wanted = words.lower().split()

    def has(action: Action, word: str) -> bool:
        names = (action.label(one).lower() for one in LANGS)
        helps = (f" {action.help(one)}".lower() for one in LANGS)
        start = f" {word}" if word.isascii() else word  # Chinese has no spaces between words
        return any(word in name for name in names) or any(start in one for one in helps)

    have = [a for a in actions.of_scope(scope) if a.name != "palette" and all(has(a, word) for word in wanted)]
    return sorted(have, key=lambda action: not all(word in action.label(lang).lower() for word in wanted))


def draw(listed: Sequence[Action], lang: Lang, cursor: int, width: int, height: int) -> list[Line]:
    """The list in exactly the given lines and columns."""
    names = max((columns([(action.label(lang), "")]) for action in listed), default=0) + 2
    body: list[Line] = []
    for place, action in enumerate(listed):
        here = place == cursor
        keys = " ".join(map(actions.shown, action.keys))
        line: Line = [("▸ " if here else "  ", "accent"), *fit([(action.label(lang), "select" if here else "")], names)]
        body.append([*line, *fit([(keys, "key")], KEYS), (action.help(lang), "dim")])
    if not body:
        body = [[(say("screen.nothing_found", lang), "dim")]]
    first = first_shown(cursor, len(listed), height)
    return frame([(say("screen.commands", lang), "head")], body[first:], width, height, [(f"{len(listed)}", "dim")])


def first_shown(cursor: int, count: int, height: int) -> int:
    """The index of the action in the first line."""
    room = height - 2
    return max(0, min(cursor - room // 2, count - room))


class PaletteScreen(CanvasScreen):
    """The palette over another screen."""

    def __init__(self, below: ActionScreen) -> None:
        super().__init__()
        self._below, self._cursor = below, 0

    def on_mount(self) -> None:
        """Asks for words."""
        self.ask(Question(say("screen.find", self.services.options.lang), self._chosen, typed=""))

    @property
    def _found(self) -> list[Action]:
        typed = (self.question.typed if self.question else "") or ""
        return found(self._below.scope, self.services.options.lang, typed)

    def view(self, width: int, height: int) -> list[Line]:
        """The matching actions."""
        return draw(self._found, self.services.options.lang, self._cursor, width, height)

    def move(self, by: int) -> None:
        """Moves the cursor."""
        self._cursor = min(max(0, len(self._found) - 1), max(0, self._cursor + by))

    def on_key(self, event: Key) -> None:
        """Moves the cursor, or adds the key to the words."""
        action = None if self.unseen else actions.by_key(self.scope, event.key)
        if action is not None and action.name in ("up", "down", "page_up", "page_down") and not event.is_printable:
            event.stop()
            event.prevent_default()
            self.do(action.name)
            self.draw()
            return
        super().on_key(event)
        if self.question is None and not self.unseen and self.in_front:
            self.do_back()

    def show_typed(self) -> None:
        """Shows the actions that match the text."""
        super().show_typed()
        self.move(0)

    def clicked(self, _x: int, y: int) -> None:
        """Carries out the clicked action."""
        place = y - 1 + first_shown(self._cursor, len(self._found), self.app.size.height - 1)
        if 0 <= place < len(self._found):
            self._cursor = place
            self._chosen("")

    def on_canvas_clicked(self, event: Canvas.Clicked) -> None:
        """Handles a click anywhere, also while words are being typed."""
        event.prevent_default()
        if not self.unseen:
            self.clicked(event.x, event.y)

    def _chosen(self, words: str) -> None:
        listed = found(self._below.scope, self.services.options.lang, words) if words else self._found
        self.services.pop_screen()
        if listed:
            self._below.do(listed[min(self._cursor, len(listed) - 1)].name)
            self._below.draw()
