"""Carries out the fixes of a problem: at once, or by one of our own commands in the background."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from textual import work

from engine.contract.inputs import USUAL_COLUMNS
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.texts import say
from sft_tui import data_import, starting
from sft_tui.preflight.fix import Action, Command, Edit, Import, Open, Resume, Set, Start, System, command_of
from sft_tui.runs import Run
from sft_tui.screen.background import Background, account, summary
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.launch_view import LaunchView
from sft_tui.screen.with_run import WithRun
from sft_tui.text import safe


def must_be_copied(acts: Sequence[Action]) -> bool:
    """Whether actions cannot be carried out here and are copied for a person to run instead."""
    return any(isinstance(one, System) or (isinstance(one, Set) and one.logs) for one in acts)


class FixingScreen(WithRun, CanvasScreen):
    """A screen of a preset's problems that can fix them."""

    state: LaunchView

    def choose(self, name: str, values: dict[str, Any] | None = None) -> None:
        """Selects a preset, with settings that override its own."""
        raise NotImplementedError

    def look(self) -> object:
        """Checks again."""
        raise NotImplementedError

    def ask_to_fix(self, ways: Sequence[Sequence[Action]]) -> None:
        """Carries out a fix after a question; if there are several ways, after a choice."""
        lang = self.services.options.lang
        if len(ways) > 1:
            named = [(self._words(acts), safe(command_of(acts), 400)) for acts in ways]
            choices = [(words, "" if command in words else command) for words, command in named]
            self.ask(Question(say("screen.ask_way", lang), lambda n: self._fix(ways[int(n) - 1]), choices=choices))
        elif must_be_copied(ways[0]):
            self._fix(ways[0])
        else:
            ask = say("screen.ask_fix", lang, actions=self._words(ways[0]))
            self.ask(Question(ask, lambda key: self._fix(ways[0]) if key == "y" else None))

    def _words(self, acts: Sequence[Action]) -> str:
        lang = self.services.options.lang
        first, *more = (action.words(lang) for action in acts)
        return say("fix.then", lang).join([first, *(one[0].lower() + one[1:] for one in more)])

    def _fix(self, acts: Sequence[Action]) -> None:
        if must_be_copied(acts):
            self.copy(command_of(acts))
        else:
            self._carry_out(acts)

    def _carry_out(self, acts: Sequence[Action]) -> None:
        """Carries out actions one after the other; the rest waits for one that runs in the background."""
        for place, action in enumerate(acts):
            match action:
                case Set():
                    base = preset(action.preset).config
                    wanted = {**action.values, **action.changes}
                    self.choose(action.preset, {k: v for k, v in wanted.items() if v != getattr(base, k)})
                case Open():
                    self.services.open_run(action.run)
                case Resume():
                    self.open_or_resume(action.run)
                case Start():
                    record = starting.plan_run(action.preset, action.values, fresh=action.fresh)
                    self._carry_out(acts[place + 1 :])  # what the run will produce is selected while it is produced
                    self._start(record)
                    return
                case Import() | Edit() | Command():
                    self.run_behind(action, acts[place + 1 :])
                    return
                case System():
                    self.copy(command_of([action]))

    def _start(self, record: RunRecord) -> None:
        """Starts a run, and shows it unless the user does something else meanwhile."""
        if self.in_front and self.question is None:
            self.services.start_run(record)
        else:
            run = self.services.begin(record).record.run
            self.services.notify_here(say("screen.begun", self.services.options.lang, run=safe(run, 40)))

    def run_behind(self, action: Import | Edit | Command, rest: Sequence[Action]) -> None:
        """Runs one of our own commands in the background, one at a time, and then the remaining actions."""
        lang, running = self.services.options.lang, self.services.background
        if running is not None:  # perhaps of a screen that was left
            self.show_notice(say("screen.task_busy", lang, command=safe(running.shown, 200)), "warn")
            return

        app = self.app  # which a screen that was left does not know

        def done(code: int, printed: str) -> None:
            app.call_from_thread(self._done, action, code, printed, rest)

        self.state = replace(self.state, task=command_of([action]))
        self.services.background = Background(action.argv[1:], lang, done, self.state.task)

    def _done(self, action: Import | Edit | Command, code: int, printed: str, rest: Sequence[Action]) -> None:
        lang, task = self.services.options.lang, self.services.background
        self.state = replace(self.state, task="")
        self.services.background = None
        if task is not None and task.ended:
            self._report(say("screen.task_ended", lang), "warn")
        elif code:
            self._report(summary(printed), "bad")
            if isinstance(action, Import):
                self._find_columns(action, rest)
        else:
            self._report(account(printed), "good")
            if rest:
                self.try_to(lambda: self._carry_out(rest))
                return
        if self.is_open:
            self.look()

    def _report(self, words: str | list[str], role: str) -> None:
        """Shows here what became of a command, or where the user is if this screen was left."""
        if self.is_open:
            self.show_notice(words, role)
        else:
            self.services.notify_here(words if isinstance(words, str) else " ".join(words), role)

    @work(thread=True, exclusive=True, group="columns")
    def _find_columns(self, action: Import, rest: Sequence[Action]) -> None:
        """Asks for the columns if an import failed because it could not tell which are meant."""
        named = {name: str(action.more.get(name, "")) for name in USUAL_COLUMNS}
        try:
            columns = data_import.columns_to_name(list(action.files), **named)
        except InputError:  # the import has reported the problem
            return
        if len(columns) >= len(USUAL_COLUMNS):
            self.app.call_from_thread(self._ask_columns, action, rest, columns)

    def _ask_columns(
        self, action: Import, rest: Sequence[Action], columns: Mapping[str, str], named: Mapping[str, str] | None = None
    ) -> None:
        """Asks for the columns one after the other, and imports with them."""
        if not self.in_front or self.question is not None:
            return
        named = named or {}
        setting, *more = [name for name in USUAL_COLUMNS if name not in named]
        left = [name for name in columns if name not in named.values()]

        def answered(number: str) -> None:
            now = {**named, setting: left[int(number) - 1]}
            if more:
                self._ask_columns(action, rest, columns, now)
            else:
                self.run_behind(replace(action, more={**action.more, **now}), rest)

        wanted = getattr(self.state.config, setting)
        self.notice = ("", "")  # the question says the same
        asked = say(f"screen.ask_{setting}", self.services.options.lang, path=safe(", ".join(action.files), 60))
        choices = [(safe(name, 60), safe(columns[name], 200)) for name in left]
        chosen = left.index(wanted) if wanted in left else 0
        self.ask(Question(asked, answered, choices=choices, chosen=chosen))

    def open_or_resume(self, name: str) -> None:
        """Opens a run that is alive, and resumes any other."""
        self.with_run(name, self._open_or_resume)

    def _open_or_resume(self, one: Run) -> None:
        if one.alive:
            self.services.open_run(one.name)
        else:
            self.services.start_run(starting.plan_resume(one.record, {}))
