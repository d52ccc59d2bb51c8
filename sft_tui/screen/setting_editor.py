"""The editor of one setting, below its line in the list: a line of text, or a list to choose from."""

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Key
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from sft_tui.screen.editor import HARMLESS, LineInput
from sft_tui.screen.form_style import styled
from sft_tui.screen.ink import Ink, Line
from sft_tui.text import safe

FRAME = 2  # lines
ERROR = 3  # lines kept for an error below the text
MOST = 10  # choices shown at a time
LINE, CHOICES, PARTS = "line", "choices", "parts"


class ValueInput(LineInput):
    """The text of a value; `enter` submits it as it is then, and what is typed before the answer is left out."""

    waiting = False  # for the answer

    async def _on_key(self, event: Key) -> None:
        if event.key == "enter" or self.waiting:
            event.stop()
            event.prevent_default()
            if not self.waiting:
                self.waiting = True
                self.post_message(self.Submitted(self, self.value))


class SettingEditor(Vertical):
    """Hidden until `begin_line` or `begin_list`; `mode` says how the value is given, and is empty while hidden."""

    DEFAULT_CSS = "SettingEditor { layer: editor; display: none; }"

    def __init__(self) -> None:
        super().__init__(id="editor", classes="framed")
        self.setting, self.mode = "", ""
        self.text = ValueInput(id="value", select_on_focus=False, highlighter=HARMLESS)
        self.error = Static(id="error", classes="bad")
        self.list = OptionList(id="choices")
        self._choices: list[str] = []
        self._marked: set[str] = set()
        self._ink = Ink()

    def compose(self) -> ComposeResult:
        """The text, the error below it, and the list."""
        yield self.text
        yield self.error
        yield self.list

    def begin_line(self, name: str, text: str, *, is_path: bool, hint: str) -> None:
        """Edits a text, with the cursor at its end."""
        self._open(name, LINE, hint)
        self.text.is_path = is_path
        self.text.begin(text)
        self.refuse("")
        self.screen.set_focus(self.text)

    def begin_list(
        self, name: str, choices: Sequence[str], now: str, marked: set[str] | None, *, hint: str, ink: Ink
    ) -> None:
        """Lets one of `choices` be chosen; if `marked` is given, several can be marked, and the last names another."""
        self._open(name, CHOICES if marked is None else PARTS, hint)
        self._choices, self._marked, self._ink = list(choices), set(marked or ()), ink
        self.list.set_options([Option(styled(self._line(place), ink)) for place in range(len(choices))])
        self.list.highlighted = self._choices.index(now) if now in self._choices else 0
        self.screen.set_focus(self.list)

    def _open(self, name: str, mode: str, hint: str) -> None:
        self.setting, self.mode = name, mode
        self.border_title, self.border_subtitle = name, hint
        self.text.display = self.error.display = mode == LINE
        self.list.display = mode != LINE
        self.display = True

    def close(self) -> None:
        """Hides the editor."""
        self.mode, self.display = "", False

    def place(self, row: int, room: int) -> None:
        """Puts the editor below line `row` of the `room` lines around it, or above it if there is more room."""
        height = self.lines
        top = row + 1 if row + 1 + height <= room else max(0, row - height)
        self.styles.height = "auto" if self.mode == LINE else min(height, room)
        self.styles.offset = (0, top)

    @property
    def lines(self) -> int:
        """The most lines that it takes."""
        return FRAME + (1 + ERROR if self.mode == LINE else min(MOST, len(self._choices)))

    def refuse(self, words: str) -> None:
        """Shows below the text why it is refused; the text stays."""
        self.text.waiting = False
        self.error.update(Text(safe(words, 800)))
        self.error.display = self.mode == LINE and bool(words)

    def mark(self) -> None:
        """Marks the part under the cursor, or takes its mark away."""
        part = self.chosen
        if self.mode == PARTS and part and part != self._choices[-1]:
            self._marked ^= {part}
            place = self._choices.index(part)
            self.list.replace_option_prompt_at_index(place, styled(self._line(place), self._ink))

    @property
    def chosen(self) -> str:
        """The choice under the cursor."""
        place = self.list.highlighted
        return self._choices[place] if self.mode != LINE and place is not None else ""

    @property
    def other_chosen(self) -> bool:
        """Whether the cursor is on the choice of another text."""
        return self.mode == PARTS and self.chosen == self._choices[-1]

    @property
    def typed(self) -> str:
        """The value as a text."""
        if self.mode == PARTS:
            return ",".join(part for part in self._choices[:-1] if part in self._marked)
        return self.chosen if self.mode == CHOICES else self.text.value

    def _line(self, place: int) -> Line:
        choice = self._choices[place]
        if self.mode != PARTS or place == len(self._choices) - 1:
            return [(safe(choice, 200), "")]
        return [("[x] " if choice in self._marked else "[ ] ", "accent"), (safe(choice, 200), "")]
