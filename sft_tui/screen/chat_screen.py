"""A conversation with one model, or with two side by side: each streams its reply into a column of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from textual.content import Content
from textual.events import Key, MouseScrollDown, MouseScrollUp, Paste
from textual.widget import Widget
from textual.widgets import TextArea

from engine.contract.conversing import LONGEST_TURN, MOST_NEW_TOKENS
from engine.contract.harmless import visible
from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui.chat_model import ChatModel, ChatState, Settings
from sft_tui.chat_names import model_name
from sft_tui.screen import actions, chat_view
from sft_tui.screen.base import WHEEL_LINES
from sft_tui.screen.bottom import Question
from sft_tui.screen.canvas import Canvas
from sft_tui.screen.chat_view import ChatView
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.ink import Line
from sft_tui.text import safe

LOOK_SECONDS, SLOW_LOOK_SECONDS = 0.1, 1.0  # between two looks at what the models have said
LEFT_TO_SCREEN = ("enter", "shift+enter", "ctrl+j", "tab", "escape")


class Message(TextArea):
    """What the user is about to say; the screen sends it."""

    def __init__(self) -> None:
        super().__init__(id="message", classes="framed", highlight_cursor_line=False)

    async def _on_key(self, event: Key) -> None:
        if event.key in LEFT_TO_SCREEN:
            event.prevent_default()

    async def _on_paste(self, event: Paste) -> None:
        event.prevent_default()
        event.stop()
        self.insert(harmless(event.text), maintain_selection_offset=False)


class Talk(Canvas, can_focus=True):
    """The conversations; with the focus, letters are keys of the screen."""

    def __init__(self, turned: Callable[[int, int, int], None]) -> None:
        """`turned` gets the cell that the wheel was over, and by how much it was turned: up if negative."""
        super().__init__()
        self.id, self._turned = "talk", turned

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Scrolls up."""
        self._turned(event.x, event.y, -1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Scrolls down."""
        self._turned(event.x, event.y, 1)


def harmless(pasted: str) -> str:
    """A pasted text with its lines and tabs, and nothing else that a terminal would interpret."""
    lines = pasted.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)[:LONGEST_TURN]
    return "".join(part if part == "\n" else visible(part) for part in lines)


class ChatScreen(FormScreen):
    """A chat with models, by their folders: the first is the one that others are compared with."""

    scope = actions.CHAT

    def __init__(self, folders: Sequence[str], run: str, lang: Lang) -> None:
        super().__init__()
        self.about, self.run_name = "\n".join(folders), run
        self.settings = Settings()
        self.models: list[ChatModel] = []
        for folder in dict.fromkeys(folders):
            after = self.models[-1] if self.models else None
            self.models.append(ChatModel(folder, model_name(folder, lang), self.settings, after, folders[-1]))
        self.talk, self.message = Talk(self._wheeled), Message()
        self.tops: list[int | None] = [None] * len(self.models)
        self._drawn: tuple[object, ...] = ()

    @property
    def states(self) -> tuple[ChatState, ...]:
        """The conversations as they are now."""
        return tuple(model.state for model in self.models)

    @property
    def view(self) -> ChatView:
        """What is shown of them."""
        return ChatView(self.states, tuple(self.tops), self.services.options.lang)

    def heading(self) -> Line:
        """The title: how the models reply."""
        lang, how = self.services.options.lang, self.settings
        temperature = how.sampling.temperature
        choice = say("chat.drawn", lang, temperature=f"{temperature:g}") if temperature else say("chat.greedy", lang)
        line: Line = [(" sft-tui · ", "dim"), (say("chat.title", lang), "head"), (f"  {choice}", "dim")]
        line.append((f" · {say('chat.longest', lang, tokens=how.max_new_tokens)}", "dim"))
        if how.system:
            line.append((f" · {say('chat.system_is', lang, text=safe(' '.join(how.system.split()), 200))}", "dim"))
        return line

    def body(self) -> Iterable[Widget]:
        """The conversations, and what is typed."""
        return (self.talk, self.message)

    def first_focus(self) -> Widget | None:
        """One can type at once."""
        return self.message

    def on_mount(self) -> None:
        """Loads the models, one after another."""
        super().on_mount()
        self._label()
        for model in self.models:
            model.start()
        slow = self.services.options.slow_link
        self.set_interval(SLOW_LOOK_SECONDS if slow else LOOK_SECONDS, self.look)

    def on_unmount(self) -> None:
        """Ends the processes with the screen."""
        for model in self.models:
            model.close()

    def relabel(self) -> None:
        """Takes over another language or theme."""
        self._label()
        self._drawn = ()
        super().relabel()

    def _label(self) -> None:
        lang = self.services.options.lang
        self.message.border_title = say("chat.message", lang)
        self.message.placeholder = Content(say("chat.placeholder", lang))

    def draw(self) -> None:
        """Draws the two lines, and the conversations between them."""
        super().draw()
        if self.is_mounted:
            self.call_after_refresh(self.look)

    def look(self) -> None:
        """Draws the conversations if something of them has changed."""
        size, options = self.talk.size, self.services.options
        now = (self.states, tuple(self.tops), size, options.lang, options.ink)
        if now == self._drawn or not size.width or not size.height or not self.in_front:
            return
        before, self._drawn = self._drawn, now
        self.talk.put(chat_view.draw(self.view, size.width, size.height), options.ink)
        if not before or [one.busy for one in self.states] != [one.busy for one in before[0]]:  # type: ignore[attr-defined]
            super().draw()

    @property
    def busy(self) -> bool:
        """Whether a reply is awaited."""
        return any(one.busy for one in self.states)

    @property
    def footer_labels(self) -> Mapping[str, str]:
        """What esc does."""
        return {"back": say(f"chat.esc_{'stops' if self.busy else 'leaves'}", self.services.options.lang)}

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out: a reply is awaited, or there is nothing to do it with."""
        lang = self.services.options.lang
        said = any(one.turns for one in self.states)
        ended = any(one.state == "ended" for one in self.states)
        if name in ("send", "new", "again", "system", "sampling") and self.busy:
            return say("chat.busy", lang)
        if (name == "new" and not said) or (name == "again" and not said and not ended):
            return say("chat.nothing_said", lang)
        if name == "blind":
            return self._no_comparison()
        if name == "copy" and not any(one.reply for state in self.states for one in state.turns):
            return say("chat.nothing_to_copy", lang)
        return ""

    def _no_comparison(self) -> str:
        lang = self.services.options.lang
        if len(self.models) < 2:
            return say("blind.one_model", lang)
        if self.busy:
            return say("chat.busy", lang)
        if any(one.state == "ended" for one in self.states):
            return say("blind.model_ended", lang)
        return ""

    def do_blind(self) -> None:
        """Opens the blind comparison of the two models."""
        from sft_tui.screen.blind_screen import BlindScreen  # most chats have none

        self.app.push_screen(BlindScreen(self.models, self.settings, self.run_name))

    def do_send(self) -> None:
        """Says what was typed to every model."""
        words = self.message.text.strip()
        if not words:
            return
        self.message.clear()
        self.tops = [None] * len(self.models)
        for model in self.models:
            model.say(words)

    def do_newline(self) -> None:
        """Begins another line of what is typed."""
        self.message.insert("\n", maintain_selection_offset=False)

    def do_new(self) -> None:
        """Forgets all turns."""
        for model in self.models:
            model.new()
        self.tops = [None] * len(self.models)

    def do_again(self) -> None:
        """Generates the last replies again, or loads a model again that has ended."""
        ended = [model for model in self.models if model.state.state == "ended"]
        for model in ended or self.models:
            model.again()

    def do_system(self) -> None:
        """Asks for the system text."""
        question = say("chat.ask_system", self.services.options.lang)
        self.ask(Question(question, lambda words: self._settle(replace(self.settings, system=words.strip())),
                          typed=self.settings.system))  # fmt: skip

    def do_sampling(self) -> None:
        """Asks for the temperature, then for the longest reply."""
        question = say("chat.ask_temperature", self.services.options.lang)
        self.ask(Question(question, self._temperature, typed=f"{self.settings.sampling.temperature:g}"))

    def _temperature(self, words: str) -> None:
        value = _number(words, 100)
        how = replace(self.settings, sampling=replace(self.settings.sampling, temperature=value))
        question = say("chat.ask_longest", self.services.options.lang)

        def longest(typed: str) -> None:
            self._settle(replace(how, max_new_tokens=_whole(typed)))

        self.ask(Question(question, longest, typed=str(how.max_new_tokens)))

    def _settle(self, settings: Settings) -> None:
        self.settings = settings
        for model in self.models:
            model.settings = settings

    def do_copy(self) -> None:
        """Copies the last replies."""
        lines = []
        for state in self.states:
            reply = next((one.reply for one in reversed(state.turns) if one.reply), "")
            lines += [f"{state.name}:", reply, ""] if len(self.models) > 1 else [reply]
        self.copy("\n".join(lines).strip("\n"))

    def do_back(self) -> None:
        """Stops the replies that are being generated, else leaves."""
        if self.busy and any(one.state == "replying" for one in self.states):
            for model in self.models:
                model.stop()
            return
        self.services.back()

    def move(self, by: int) -> None:
        """Scrolls all conversations."""
        for place in range(len(self.models)):
            self._scroll(place, by)

    def _scroll(self, place: int, by: int) -> None:
        width, height = self.talk.size
        if width and height:
            self.tops[place] = chat_view.moved(self.view, place, by, width, height)
        self.look()

    def _wheeled(self, x: int, y: int, by: int) -> None:
        width, height = self.talk.size
        self._scroll(chat_view.place_at(len(self.models), width, height, x, y), by * WHEEL_LINES)

    def on_text_area_changed(self) -> None:
        """Makes room for what is typed."""
        self.call_after_refresh(self.look)


def _number(words: str, most: float) -> float:
    try:
        value = float(words)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise InputError("chat_temperature_bad", text=safe(words, 40), most=f"{most:g}")
    return value


def _whole(words: str) -> int:
    value = int(words) if words.strip().isascii() and words.strip().isdecimal() and len(words) < 12 else 0
    if not 1 <= value <= MOST_NEW_TOKENS:
        raise InputError("chat_length_bad", text=safe(words, 40), most=MOST_NEW_TOKENS)
    return value
