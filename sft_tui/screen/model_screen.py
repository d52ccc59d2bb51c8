"""A chosen model: what it is, what of it would learn, and what memory that takes; enter prepares the run."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.text import Text
from textual import work
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from engine.contract.machine.host import HostReader
from engine.contract.messages import InputError
from engine.contract.model_reports import ShownModel, TrainingNeed
from engine.contract.texts import say
from sft_tui import model_choice, model_view
from sft_tui.screen import actions
from sft_tui.screen.base import LONGEST_NOTICE
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.form_style import styled
from sft_tui.screen.ink import Line, columns, fit
from sft_tui.text import safe
from sft_tui.wrapping import wrap


class ModelScreen(FormScreen):
    """A model, and what would learn of it in a run on `files`, by setting."""

    scope = actions.MODEL
    CSS = """
    ModelScreen #about { height: 1fr; }
    ModelScreen #ways { height: 8; }
    """

    def __init__(self, path: str, files: Mapping[str, str]) -> None:
        super().__init__()
        self.about = self.path = path
        self.files = dict(files)
        self.found: ShownModel | None = None
        self.fault = ""  # why the model cannot be used
        self._free = 0  # bytes of memory
        self._needs: list[TrainingNeed] = []
        self._queued = False  # the first way is taken as soon as it is known

    def heading(self) -> Line:
        """Which model."""
        lang = self.services.options.lang
        name = self.found.model.title if self.found is not None else self.path
        return [(f" {say('model_screen.title', lang)} ", "head"), (safe(name, 200), "accent")]

    def body(self) -> Iterable[Widget]:
        """What it is, and the ways to train it."""
        yield VerticalScroll(Static(id="facts", markup=False), id="about", classes="framed")
        yield OptionList(id="ways", classes="framed", markup=False)

    def first_focus(self) -> Widget | None:
        """The ways."""
        return self.query_one("#ways")

    def on_mount(self) -> None:
        """Reads the model."""
        super().on_mount()
        self.relabel()
        self.read()

    def relabel(self) -> None:
        """Takes over another language or theme."""
        lang = self.services.options.lang
        self.query_one("#about").border_title = say("model_screen.about", lang)
        self.query_one("#ways").border_title = say("model_screen.ways", lang)
        train = self.files.get("train_file", "")
        on = say("model_screen.on", lang, path=safe(train, 80)) if train else ""
        self.query_one("#ways").border_subtitle = Content(on)  # whose path must not be read as markup
        self._show()

    def on_resize(self, _event: object) -> None:
        """Draws for the new width."""
        if self.is_mounted:
            self._show()

    @work(thread=True, exclusive=True, group="model")
    def read(self) -> None:
        """Asks what the model is."""
        worker = get_current_worker()
        try:
            found: ShownModel | InputError = model_view.shown(self.path)
        except InputError as error:
            found = error
        free = HostReader().read([], Path()).memory_available
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take, found, free)

    def _take(self, found: ShownModel | InputError, free: int) -> None:
        if not self.is_open:
            return
        self._free = free
        self.notice = ("", "") if self._queued else self.notice
        if isinstance(found, InputError):
            self.fault = found.message.text(self.services.options.lang)
        else:
            self.found, self._needs = found, model_choice.ways(found)
        self._show()
        if self._queued and self.found is not None and self.in_front:
            self.try_to(self.do_go)
        self._queued = False

    def _show(self) -> None:
        lang, ink, width = self.services.options.lang, self.services.options.ink, max(20, self.app.size.width - 5)
        facts, options = self.query_one("#facts", Static), self.query_one("#ways", OptionList)
        facts.set_class(bool(self.fault), "bad")
        if self.found is None:
            facts.update(safe(self.fault, LONGEST_NOTICE) or say("here.reading", lang))
            self.draw()
            return
        facts.update("\n".join(model_view.about_lines(self.found, lang, width)))
        kept = options.highlighted or 0
        options.clear_options()
        for lines in self._lines(self.found, width) if self._needs else ():
            options.add_option(Option(Text("\n").join(styled(line, ink) for line in lines)))
        options.highlighted = min(kept, len(self._needs) - 1) if self._needs else None
        self.draw()

    def _lines(self, found: ShownModel, width: int) -> list[list[Line]]:
        """The ways to train it, with what each takes next to its name, or below it if that is too long."""
        words = [model_choice.way_words(need, found, self._free, self.services.options.lang) for need in self._needs]
        names, details = (max(columns([(text, "")]) for text in texts) for texts in zip(*words, strict=True))
        shown: list[list[Line]] = []
        for need, (name, detail) in zip(self._needs, words, strict=True):
            if names + details + 2 > width:
                shown.append([[(name, "")], *([("  " + part, "dim")] for part in wrap(detail, width - 2))])
                continue
            line: Line = [*fit([(name, "")], names + 2), *fit([(detail, "")], details)]
            preset: Line = [(f"  {need.preset}", "dim")]
            shown.append([[*line, *preset] if columns([*line, *preset]) <= width else line])
        return shown

    def offered(self, action: actions.Action) -> bool:
        """As in the base class, without taking a way that is not known yet."""
        return super().offered(action) and (action.name != "go" or bool(self._needs))

    def move(self, by: int) -> None:
        """Moves the cursor over the ways."""
        options = self.query_one("#ways", OptionList)
        if self._needs:
            options.highlighted = min(len(self._needs) - 1, max(0, (options.highlighted or 0) + by))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Takes the way that was clicked."""
        event.stop()
        self.try_to(self.do_go)

    def do_go(self) -> None:
        """Prepares a run of the way under the cursor on the launch screen."""
        place = self.query_one("#ways", OptionList).highlighted
        if self.found is None or place is None:
            self._queued = self.found is None and not self.fault
            if self._queued:
                self.show_notice(say("here.queued", self.services.options.lang))
            return
        need = self._needs[place]
        self.services.launch_with(need.preset, model_choice.settings_of(need, self.found, self.path, self.files))
