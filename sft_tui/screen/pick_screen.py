"""The picker of a path: a filter, and below it what the path may be, each with what it is."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from textual import work
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import candidates, remembered
from sft_tui.candidates import Candidate
from sft_tui.candidates import candidates as found_for
from sft_tui.here import Glances, model_at
from sft_tui.obtaining import CancelledError, Wanted, must_be_obtained, obtained, progress_words
from sft_tui.screen import actions
from sft_tui.screen.editor import HARMLESS
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.form_style import styled
from sft_tui.screen.ink import Line
from sft_tui.screen.pick_view import About, name_columns, option_line
from sft_tui.text import safe

IDLE_SECONDS = 0.1  # between two looks for candidates that nothing is known of
MOST_DESCRIBED = 40
NOTICED_SECONDS = 0.5  # between two lines of progress


class PickScreen(FormScreen):
    """The choice of a path for a setting; `done` gets it after the screen is closed."""

    scope = actions.PICK
    CSS = """
    PickScreen #filter { margin: 0 0 0 0; }
    PickScreen #progress { display: none; color: $ink-accent; padding: 0 1; }
    PickScreen #progress.busy { display: block; }
    """

    def __init__(self, setting: str, current: str, done: Callable[[str], None]) -> None:
        super().__init__()
        self.setting, self.current, self._done = setting, current, done
        self.about = setting
        self.listed: list[Candidate] = []
        self._listed_for: str | None = None  # the text that the list is for
        self._known: dict[str, About] = {}
        self._queued = False  # the first candidate is chosen as soon as the list is up to date
        self._wanted: Wanted | None = None
        self._shown_at, self._shown_step = 0.0, ""  # when progress was last shown, and of what

    def heading(self) -> Line:
        """What is chosen, and its value now."""
        lang = self.services.options.lang
        key = f"pick.title.{candidates.fitting(self.setting)}"
        title: Line = [(f" {say(key, lang)}", "head")]
        if self.current:
            title.append((f"  {say('pick.now', lang, value=safe(self.current, 200))}", "dim"))
        return title

    def body(self) -> Iterable[Widget]:
        """The filter, the progress of a download, and the list."""
        words = say("pick.filter", self.services.options.lang)
        yield Input(id="filter", classes="framed", placeholder=words, highlighter=HARMLESS)
        yield Static(id="progress", markup=False)
        options = OptionList(id="list", classes="framed", markup=False)
        options.can_focus = False
        yield options

    def on_mount(self) -> None:
        """Lists what there is at first."""
        super().on_mount()
        self.relist(self.typed)
        self.describe()

    def relabel(self) -> None:
        """Takes over another language or theme."""
        self.query_one("#filter", Input).placeholder = say("pick.filter", self.services.options.lang)
        self._show_list()
        self.draw()

    @property
    def typed(self) -> str:
        """The text of the filter."""
        return self.query_one("#filter", Input).value

    @property
    def options(self) -> OptionList:
        """The list."""
        return self.query_one("#list", OptionList)

    def on_input_changed(self, _event: Input.Changed) -> None:
        """Lists what the text may mean."""
        self.relist(self.typed)

    @work(thread=True, exclusive=True, group="list")
    def relist(self, typed: str) -> None:
        """Lists what the typed text may mean."""
        worker = get_current_worker()
        recent = remembered.recent(self.services.options.logs, self.setting)
        found = found_for(self.setting, typed, recent)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take, typed, found)

    def _take(self, typed: str, found: list[Candidate]) -> None:
        if not self.is_open or typed != self.typed:
            return
        self.listed, self._listed_for = found, typed
        self._show_list(same=False)
        if self._queued:
            self._queued = False
            if self.in_front:
                self.try_to(self.do_choose)
        self.draw()

    def _show_list(self, *, same: bool = True) -> None:
        """Shows the list; of the `same` one, the cursor stays where it is."""
        options, ink, lang = self.options, self.services.options.ink, self.services.options.lang
        width = max(20, self.app.size.width - 5)
        names = name_columns(self.listed, width)
        kept = options.highlighted if same else 0
        options.clear_options()
        for one in self.listed:
            line = option_line(one, self._known.get(one.path), names, width, lang)
            options.add_option(Option(styled(line, ink)))
        if not self.listed:
            options.add_option(Option(styled([(say("pick.nothing", lang), "dim")], ink), disabled=True))
        else:
            options.highlighted = min(kept or 0, len(self.listed) - 1)

    @work(thread=True, exclusive=True, group="describe")
    def describe(self) -> None:
        """Finds out what the listed files and models are, one after another."""
        worker = get_current_worker()
        rows = candidates.fitting(self.setting) == "rows"
        with Glances() as glances:
            while not worker.is_cancelled:
                unknown = [one for one in self.listed[:MOST_DESCRIBED] if self._can_be_read(one, rows=rows)]
                if not unknown:
                    time.sleep(IDLE_SECONDS)
                    continue
                path = candidates.expanded(unknown[0].path)
                about: About = glances.of_data(path) if rows else glances.of_model(path)
                if not worker.is_cancelled:
                    self.app.call_from_thread(self._describe, unknown[0], about)

    def _can_be_read(self, one: Candidate, *, rows: bool) -> bool:
        if one.path in self._known or one.kind == "hub":
            return False
        if rows:
            return not one.folder
        return one.folder and model_at(candidates.expanded(one.path)) is not None

    def _describe(self, one: Candidate, about: About) -> None:
        self._known[one.path] = about
        if self.is_open and one in self.listed:
            width = max(20, self.app.size.width - 5)
            line = option_line(one, about, name_columns(self.listed, width), width, self.services.options.lang)
            self.options.replace_option_prompt_at_index(self.listed.index(one), styled(line, self.services.options.ink))

    def on_resize(self, _event: object) -> None:
        """Draws the list for the new width."""
        if self.is_mounted:
            self._show_list()
        self.draw()

    @property
    def chosen(self) -> Candidate | None:
        """The candidate under the cursor."""
        place = self.options.highlighted
        return self.listed[place] if place is not None and place < len(self.listed) else None

    def move(self, by: int) -> None:
        """Moves the cursor of the list."""
        if self.listed:
            place = (self.options.highlighted or 0) + by
            self.options.highlighted = min(len(self.listed) - 1, max(0, place))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Chooses what was clicked."""
        event.stop()
        self.try_to(self.do_choose)

    def do_choose(self) -> None:
        """Chooses the candidate under the cursor, gets it first if it is not here, or enters a folder."""
        if self._listed_for != self.typed:
            self._queued = True
            return
        chosen = self.chosen
        if chosen is None:
            return
        if self._wanted is not None:
            self.show_notice(say("pick.busy", self.services.options.lang), "warn")
        elif must_be_obtained(chosen):
            self._wanted = Wanted(self._show_progress)  # here, since a second enter may come before the thread begins
            self._obtain(chosen, self._wanted)
        elif chosen.folder and not chosen.fits:
            self._type(f"{chosen.path.rstrip('/')}/")
        else:
            self._finish(candidates.expanded(chosen.path))

    def _finish(self, path: str) -> None:
        """Closes the screen, and passes the path on."""
        remembered.remember(self.services.options.logs, self.setting, path)
        services = self.services
        services.pop_screen()
        try:
            self._done(path)
        except InputError as error:
            services.notify_here(error.message.text(services.options.lang), "bad")

    def _type(self, text: str) -> None:
        filter_ = self.query_one("#filter", Input)
        filter_.value = text
        filter_.cursor_position = len(text)

    def do_complete(self) -> None:
        """Completes the typed path, or takes over the path of the candidate under the cursor."""
        typed = self.typed
        longer = candidates.completed(typed, self.listed)
        if longer == typed and self.chosen is not None and self.chosen.kind != "hub":
            longer = f"{self.chosen.path.rstrip('/')}/" if self.chosen.folder else self.chosen.path
        self._type(longer)

    def do_enter(self) -> None:
        """Enters the folder under the cursor; within the text, moves right."""
        filter_ = self.query_one("#filter", Input)
        if filter_.cursor_position < len(filter_.value):
            filter_.action_cursor_right()
        elif self.chosen is not None and self.chosen.folder:
            self._type(f"{self.chosen.path.rstrip('/')}/")

    def do_leave(self) -> None:
        """Leaves the folder for the one above; within words, moves left."""
        filter_ = self.query_one("#filter", Input)
        if filter_.value and not candidates.is_path(filter_.value):
            filter_.action_cursor_left()
        else:
            self._type(candidates.parent(filter_.value))

    def do_back(self) -> None:
        """Cancels what is being obtained, or leaves."""
        if self._wanted is not None:
            self._wanted.cancel()
        else:
            self.services.back()

    def _show_progress(self, step: str, done: int, total: int) -> None:
        """Shows how far a model is, from the thread that gets it."""
        if step != self._shown_step or time.monotonic() - self._shown_at > NOTICED_SECONDS:
            self._shown_at, self._shown_step = time.monotonic(), step
            self.app.call_from_thread(self._progress, progress_words(step, done, total, self.services.options.lang))

    @work(thread=True, group="obtain")
    def _obtain(self, chosen: Candidate, wanted: Wanted) -> None:
        """Gets a model, and passes its folder on; shows how far it is."""
        lang = self.services.options.lang
        self.app.call_from_thread(self._progress, say("pick.getting", lang, name=safe(chosen.name, 60)))
        words, role, path = "", "warn", ""
        try:
            path = obtained(chosen, wanted.progress)
        except CancelledError:
            words = say("pick.cancelled", lang)
        except InputError as error:
            words, role = error.message.text(lang), "bad"
        self.app.call_from_thread(self._obtained, chosen, path, words, role)

    def _progress(self, words: str) -> None:
        if self.is_open:
            progress = self.query_one("#progress", Static)
            progress.set_class(bool(words), "busy")
            progress.update(words)

    def _obtained(self, chosen: Candidate, path: str, words: str, role: str) -> None:
        """Passes a model on, unless the user has left or does something else."""
        self._wanted = None
        self._progress("")
        if words:
            self.services.notify_here(words, role)
        elif self.in_front:
            self._finish(path)
        else:
            self.services.notify_here(say("pick.obtained", self.services.options.lang, path=safe(path, 200)), "good")
            self.listed = [replace(one, path=path, folder=True) if one == chosen else one for one in self.listed]

    def on_unmount(self) -> None:
        """Ends what is being obtained."""
        if self._wanted is not None:
            self._wanted.cancel()
