"""The import of a file: its rows as they will be, the columns mapped by hand if needed, and where they are written."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from textual import work
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from engine.contract.import_report import ImportReport
from engine.contract.inputs import USUAL_COLUMNS
from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import data_import, remembered
from sft_tui.import_plan import FIELDS, PARTS, FieldError, ImportPlan
from sft_tui.obtaining import CancelledError, Wanted
from sft_tui.screen import actions, import_view
from sft_tui.screen.base import LONGEST_NOTICE
from sft_tui.screen.editor import HARMLESS
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.form_style import styled
from sft_tui.screen.ink import Line, columns, fit
from sft_tui.text import safe
from sft_tui.wrapping import wrap

SETTLED_SECONDS = 0.4  # without a key, before the rows are read again
SHOWN_SECONDS = 0.3  # between two lines of progress
NARROW = 90  # columns: below that, the rows stand above the values
SETTINGS = {"train": "train_file", "valid": "validation_file", "test": "test_file"}


class ImportScreen(FormScreen):
    """The import of a file; `done` gets the training file once it is written and the user continues."""

    scope = actions.IMPORT
    CSS = """
    ImportScreen #rows { width: 3fr; height: 1fr; }
    ImportScreen #columns { width: 3fr; height: 1fr; display: none; }
    ImportScreen #values { width: 2fr; height: 1fr; }
    ImportScreen.mapping #columns { display: block; }
    ImportScreen.mapping #rows { display: none; }
    ImportScreen.narrow .columns { layout: vertical; }
    ImportScreen.narrow #values { width: 1fr; height: auto; max-height: 14; }
    ImportScreen.narrow #rows, ImportScreen.narrow #columns { width: 1fr; }
    ImportScreen .field { height: 1; width: 1fr; }
    ImportScreen .field Label { width: 17; }
    ImportScreen .field Input { width: 1fr; }
    ImportScreen #fault { color: $ink-bad; text-style: bold; display: none; }
    ImportScreen #fault.shown { display: block; }
    ImportScreen #hint { color: $ink-dim; display: none; }
    ImportScreen #hint.shown { display: block; }
    """

    def __init__(self, source: str, done: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.about = source
        self.plan = ImportPlan.of(source)
        self.found: ImportReport | None = None  # of what would be imported
        self.written: ImportReport | None = None
        self.samples: dict[str, str] = {}  # the columns to choose from, with a value of each
        self.mapping: tuple[str, ...] = ()  # the settings whose columns are still to be chosen
        self._done = done
        self._wanted: Wanted | None = None  # the import that is carried out
        self._shown_at = 0.0  # when its progress was last shown
        self._queued = False  # the import begins as soon as the rows are read

    def heading(self) -> Line:
        """What is imported."""
        lang = self.services.options.lang
        return [(f" {say('import_screen.title', lang)} ", "head"), (safe(self.plan.source, 200), "accent")]

    def body(self) -> Iterable[Widget]:
        """The rows, or the columns to choose from, and the values."""
        rows = VerticalScroll(Static(id="preview", markup=False), id="rows", classes="framed")
        options = OptionList(id="columns", classes="framed", markup=False)
        pairs = [(Label(markup=False), Input(id=name, highlighter=HARMLESS)) for name in FIELDS]
        fields = [Horizontal(*pair, classes="field") for pair in pairs]
        below = (Static(id="fault", markup=False), Static(id="hint", markup=False))
        values = Vertical(Static(id="counts", markup=False), *fields, *below, id="values", classes="framed")
        yield Horizontal(rows, options, values, classes="columns")

    def first_focus(self) -> Widget | None:
        """The rows, so that letters are keys."""
        return self.query_one("#rows")

    def on_mount(self) -> None:
        """Reads the rows."""
        with self.prevent(Input.Changed):
            for name in FIELDS:
                self.query_one(f"#{name}", Input).value = self.plan.typed[name]
        self.relabel()
        super().on_mount()
        self.read()

    def relabel(self) -> None:
        """Takes over another language or theme."""
        lang = self.services.options.lang
        self.query_one("#rows").border_title = say("import_screen.rows_title", lang)
        self.query_one("#values").border_title = say("import_screen.values_title", lang)
        for name in FIELDS:
            field = self.query_one(f"#{name}", Input)
            field.placeholder = say(f"import_screen.{name}.empty", lang)
            label = field.parent.query_one(Label) if field.parent is not None else None
            if label is not None:
                label.update(say(f"import_screen.{name}", lang))
        self._show()

    def on_resize(self, _event: object) -> None:
        """Puts the rows above the values if the terminal is narrow."""
        self.set_class(self.app.size.width < NARROW, "narrow")
        if self.is_mounted:
            self._show()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Takes a value over; another history makes other rows."""
        name = event.input.id or ""
        self.plan = replace(self.plan, typed={**self.plan.typed, name: event.value})
        if name == "history":
            self.found = None
            self.read()
        self._show()

    def on_descendant_focus(self) -> None:
        """Says what the value that is typed now is for."""
        name = self.focused.id or "" if self.typed_into and self.focused is not None else ""
        hint = self.query_one("#hint", Static)
        hint.set_class(bool(name), "shown")
        hint.update(self._wrapped(say(f"import_screen.{name}.help", self.services.options.lang)) if name else "")
        super().on_descendant_focus()

    # --- reading

    @work(thread=True, exclusive=True, group="rows")
    def read(self) -> None:
        """Reads all rows as the import would, without writing any."""
        worker, plan = get_current_worker(), self.plan
        time.sleep(SETTLED_SECONDS if self.found is None and self.is_mounted and plan.typed["history"] else 0)
        shown_at = 0.0

        def progress(_name: str, done: int, total: int) -> None:
            nonlocal shown_at
            if worker.is_cancelled:
                raise CancelledError
            if total and time.monotonic() - shown_at > SHOWN_SECONDS:
                shown_at = time.monotonic()
                self.app.call_from_thread(self._say, say("import_screen.reading", lang, percent=100 * done // total))

        lang = self.services.options.lang
        try:
            report = data_import.import_rows([plan.source], progress, **plan.preview())
        except CancelledError:
            return
        except InputError as error:
            columns = {} if isinstance(error, FieldError) else self._columns(plan)
            if not worker.is_cancelled:
                self.app.call_from_thread(self._unreadable, error, columns)
            return
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take, report)

    def _columns(self, plan: ImportPlan) -> dict[str, str]:
        """The columns among which a person must choose; none if that is not what is wrong."""
        try:
            return data_import.columns_to_name([plan.source], **plan.columns)
        except InputError:
            return {}

    def _say(self, words: str) -> None:
        if self.is_open:
            self.query_one("#counts", Static).update(self._wrapped(words))

    def _wrapped(self, words: str) -> str:
        """A text on lines of the panel of the values, broken where Chinese may be, which Textual does not know."""
        width = self.app.size.width
        width -= 0 if self.has_class("narrow") else width * 3 // 5
        return "\n".join(wrap(words, max(20, width - 5)))

    def _take(self, report: ImportReport) -> None:
        if not self.is_open:
            return
        self.found = report
        self.notice = ("", "") if self._queued else self.notice
        self._fault("")
        self._show()
        if self._queued:
            self._queued = False
            self.try_to(self.do_go)

    def _unreadable(self, error: InputError, found: dict[str, str]) -> None:
        """Asks for the columns if that is what is missing; else shows why nothing can be imported."""
        self.notice = ("", "") if self._queued else self.notice
        self._queued = False
        if not self.is_open:
            return
        if len(found) >= len(USUAL_COLUMNS):
            self.samples = found
            self._map(tuple(USUAL_COLUMNS))
        else:
            self._fault(error.message.text(self.services.options.lang))
            self._say(say("import_screen.none", self.services.options.lang))

    # --- columns

    def why_disabled(self, name: str) -> str:
        """Why columns cannot be chosen: a file of conversations has none that could be."""
        if name == "columns" and not self._names():
            return say("import_screen.no_columns", self.services.options.lang)
        return ""

    def offered(self, action: actions.Action) -> bool:
        """As in the base class, and the import once there is something to import and while none runs."""
        ready = bool(self.mapping) or (self._wanted is None and (self.found or self.written) is not None)
        return super().offered(action) and (action.name != "go" or ready)

    @property
    def footer_labels(self) -> Mapping[str, str]:
        """What enter does."""
        does = "choose" if self.mapping else "go_on" if self.written is not None else ""
        return {"go": say(f"import_screen.{does}", self.services.options.lang)} if does else {}

    def _names(self) -> list[str]:
        files = self.found.files if self.found is not None else ()
        return list(self.samples) or [name for file in files for name in file.columns]

    def do_columns(self) -> None:
        """Chooses the columns by hand."""
        self._map(tuple(USUAL_COLUMNS))

    def _map(self, settings: tuple[str, ...]) -> None:
        """Asks for the column of the first of some settings."""
        self.mapping = settings
        self.set_class(bool(settings), "mapping")
        options, options_of = self.query_one("#columns", OptionList), self.services.options
        if not settings:
            self.query_one("#rows").focus()
            return
        taken = {} if len(settings) == len(USUAL_COLUMNS) else self.plan.columns
        names = [name for name in self._names() if name not in taken.values()]
        options.border_title = say(f"import_screen.ask_{settings[0]}", options_of.lang)
        self._say(options.border_title)
        options.clear_options()
        wide = min(24, max((columns([(safe(name, 60), "")]) for name in names), default=0))
        for name in names:
            sample = safe(self.samples.get(name, ""), 200)
            line: Line = [*fit([(safe(name, 60), "")], wide), ("  ", ""), (sample, "dim")]
            options.add_option(Option(styled(line, options_of.ink), id=f"column-{len(options.options)}"))
        self._offered = names
        options.highlighted = 0
        options.focus()
        self.draw()

    def _choose_column(self) -> None:
        """Takes the column under the cursor, and asks for the next or reads the rows."""
        place = self.query_one("#columns", OptionList).highlighted
        if place is None:
            return
        setting, *more = self.mapping
        had = {} if len(self.mapping) == len(USUAL_COLUMNS) else self.plan.columns
        self.plan = replace(self.plan, columns={**had, setting: self._offered[place]})
        self._map(tuple(more))
        if not more:
            self.found = None
            self._fault("")
            self._say(say("here.reading", self.services.options.lang))
            self.read()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Takes the column that was clicked."""
        event.stop()
        self._choose_column()

    # --- carrying out

    def do_go(self) -> None:
        """Chooses a column, imports, or continues after the import."""
        lang = self.services.options.lang
        if self.mapping:
            self._choose_column()
        elif self._wanted is not None:
            self.show_notice(say("import_screen.busy", lang), "warn")
        elif self.written is not None:
            self._continue(self.written)
        elif self.found is None:
            self._queued = not self.query_one("#fault", Static).has_class("shown")
            if self._queued:
                self.show_notice(say("here.queued", lang))
        else:
            try:
                how = self.plan.request()
            except FieldError as error:
                self._fault(error.message.text(lang))
                self.query_one(f"#{error.field}", Input).focus()
                return
            self._wanted = Wanted(self._progress)  # here, since a second enter may come before the thread begins
            self._import(how, self._wanted)

    def _progress(self, _name: str, done: int, total: int) -> None:
        """Shows how far the import is, from its thread."""
        if time.monotonic() - self._shown_at > SHOWN_SECONDS:
            self._shown_at = time.monotonic()
            words = say("import_screen.writing", self.services.options.lang, percent=100 * done // total)
            self.app.call_from_thread(self._say, words)

    @work(thread=True, group="import")
    def _import(self, how: dict[str, Any], wanted: Wanted) -> None:
        lang = self.services.options.lang
        try:
            found = data_import.import_rows([self.plan.source], wanted.progress, **how)
        except CancelledError:
            self.app.call_from_thread(self._stopped, say("import_screen.cancelled", lang))
        except InputError as error:
            self.app.call_from_thread(self._stopped, error.message.text(lang))
        else:
            self.app.call_from_thread(self._finished, found)

    def _stopped(self, words: str) -> None:
        self._wanted = None
        if self.is_open:
            self._fault(words)
            self._show()

    def _finished(self, found: ImportReport) -> None:
        """Shows what was written."""
        self._wanted, self.written = None, found
        for part in PARTS:
            remembered.remember(self.services.options.logs, SETTINGS[part], found.file(part))
        if self.is_open:
            self.query_one("#rows").focus()
            self._fault("")
            self._show()
        if not self.in_front:
            self.services.notify_here(
                say("import_screen.written", self.services.options.lang, path=found.train), "good"
            )

    def _continue(self, found: ImportReport) -> None:
        """Closes the screen, and passes the training file on."""
        services = self.services
        services.back()
        try:
            if self._done is not None:
                self._done(found.train)
        except InputError as error:
            services.notify_here(error.message.text(services.options.lang), "bad")

    def do_back(self) -> None:
        """Cancels the import or the choice of columns, or leaves."""
        if self._wanted is not None:
            self._wanted.cancel()
        elif self.mapping and self.found is not None:
            self._map(())
        else:
            self.services.back()

    def on_unmount(self) -> None:
        """Ends the import if it runs."""
        if self._wanted is not None:
            self._wanted.cancel()

    # --- drawing

    def _fault(self, words: str) -> None:
        fault = self.query_one("#fault", Static)
        fault.set_class(bool(words), "shown")
        fault.update(self._wrapped(safe(words, LONGEST_NOTICE)))

    def _show(self) -> None:
        """Shows the rows, their numbers, and how they will be split."""
        lang, ink = self.services.options.lang, self.services.options.ink
        width = max(20, (self.app.size.width if self.has_class("narrow") else self.app.size.width * 3 // 5) - 6)
        found = self.written or self.found
        if found is None:
            self._say(say("here.reading", lang))
        else:
            lines = import_view.preview_lines(found, width, lang)
            if self.written is not None:
                lines = [*import_view.written_lines(found, width, lang)]
            text = styled([], ink)
            for line in lines:
                text.append_text(styled(line, ink)).append("\n")
            self.query_one("#preview", Static).update(text)
            self._say(self._counts(found))
        self.draw()

    def _counts(self, found: ImportReport) -> str:
        lang = self.services.options.lang
        if self.written is not None:
            return say("import_screen.is_written", lang)
        try:
            return import_view.count_words(found, self.plan.split(found.kept), lang)
        except FieldError:  # which is shown when the import is carried out
            return import_view.count_words(found, {"train": found.kept}, lang)
