"""The form with the settings that may be changed when a run is resumed: its values, errors next to them, then enter."""

from collections.abc import Iterable
from typing import Any

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import Input, Label

from engine.contract.config import check_value, setting_of
from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import rerun
from sft_tui.options import parse
from sft_tui.runs import Run
from sft_tui.screen import actions, fix_keys
from sft_tui.screen.editor import HARMLESS
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.form_style import styled
from sft_tui.screen.ink import Line
from sft_tui.text import number, safe
from sft_tui.wrapping import wrap


class ResumeScreen(FormScreen):
    """One line for each setting, and what the one with the focus is for."""

    scope = actions.RESUME
    CSS = """
    ResumeScreen .setting { height: auto; }
    ResumeScreen .setting Label { width: 30; }
    ResumeScreen .setting Input { width: 1fr; }
    ResumeScreen .error { display: none; padding-left: 30; height: auto; }
    ResumeScreen .error.-shown { display: block; }
    ResumeScreen #settings { height: 1fr; }
    ResumeScreen #below { height: auto; min-height: 3; max-height: 6; }
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.about, self._run = run.name, run
        config = rerun.settings_of(run)
        self._before: dict[str, Any] = {name: getattr(config, name) for name in rerun.CHANGEABLE}

    def heading(self) -> Line:
        """Which run is resumed."""
        return [(" " + say("screen.resume_form", self.services.options.lang, run=safe(self.about, 40)), "head")]

    def body(self) -> Iterable[Widget]:
        """A line for each setting, and below them the meaning of one."""
        ink = self.services.options.ink
        rows: list[Widget] = []
        for name, value in self._before.items():
            shown = number(value) if value != "" else ""
            empty = setting_of(name).empty(self.services.options.lang)
            field = Input(shown, empty, id=f"set-{name}", select_on_focus=False, highlighter=HARMLESS)
            line = Horizontal(Label(styled([(name, "dim")], ink), markup=False), field, classes="setting")
            rows += [line, Label("", id=f"error-{name}", classes="error bad", markup=False)]
        settings = VerticalScroll(*rows, can_focus=False, id="settings", classes="framed")
        below = Vertical(Label("", id="meaning", classes="dim", markup=False), id="below", classes="framed")
        settings.border_title = say("screen.settings", self.services.options.lang)
        below.border_title = say("settings.about", self.services.options.lang)
        yield from (settings, below)

    def _input(self, name: str) -> Input:
        return self.query_one(f"#set-{name}", Input)

    def first_focus(self) -> Widget | None:
        """The first setting."""
        return self._input("epochs")

    def on_descendant_focus(self) -> None:
        """Shows what the setting with the focus is for."""
        super().on_descendant_focus()
        name = (self.focused.id or "").removeprefix("set-") if self.focused is not None else ""
        if name in self._before:
            lang, rule = self.services.options.lang, setting_of(name)
            unit = f" [{rule.unit_in(lang)}]" if rule.unit else ""
            choices = f" {' | '.join(rule.choices)}" if rule.choices else ""
            words = wrap(rule.help(lang) + unit + choices, max(20, self.app.size.width - 5))
            self.query_one("#meaning", Label).update("\n".join(words))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Removes the error of a setting that is being corrected."""
        self._show_error((event.input.id or "").removeprefix("set-"), "")

    def _show_error(self, name: str, words: str) -> None:
        try:
            label = self.query_one(f"#error-{name}", Label)
        except NoMatches:  # the form is being closed
            return
        label.update(safe(words, 400))
        label.set_class(bool(words), "-shown")

    def changed(self) -> dict[str, Any] | None:
        """The settings that were changed, with their new values; None, with the errors shown, if one is not valid."""
        found: dict[str, Any] = {}
        wrong: list[str] = []
        for name, before in self._before.items():
            try:
                value = parse(name, self._input(name).value)
                check_value(name, value)
            except InputError as error:
                self._show_error(name, error.message.text(self.services.options.lang))
                wrong.append(name)
                continue
            if value != before:
                found[name] = value
        if wrong:
            self._input(wrong[0]).focus()
            return None
        return found

    def do_resume(self) -> None:
        """Resumes the run with the settings as they are in the form."""
        values = self.changed()
        if values is None:
            return
        record = rerun.plan_changed(self._run, values)
        started = self.services.begin(record)
        self.services.back()
        self.services.open_run(started.record.run)
        self.services.notify_here(say("screen.going_on", self.services.options.lang, run=safe(self.about, 40)))

    def show_error(self, error: InputError) -> None:
        """Shows why the run cannot be resumed, with keys in place of commands."""
        self.show_notice(fix_keys.with_keys(error.message.text(self.services.options.lang)), "bad")
