"""The screen before a run: checks the preset under the cursor in a thread, edits settings, fixes and starts."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual import work
from textual.worker import get_current_worker

from engine.contract.config import FIELDS, check_value, override, setting_of
from engine.contract.locks import is_locked
from engine.contract.presets import PRESETS, preset
from engine.contract.rundir import OutputDir, RunRecord
from sft_tui import runs, starting, story
from sft_tui.locale import say
from sft_tui.options import parse
from sft_tui.preflight.check import Report, Request, check
from sft_tui.preflight.fix import Action, Command, Import, Open, Resume, Set, Start, System, command_of
from sft_tui.preflight.missing import ROWS
from sft_tui.preflight.report import subject
from sft_tui.screen import actions, launch_view
from sft_tui.screen.app import Drawn
from sft_tui.screen.background import Background, account, summary
from sft_tui.screen.bottom import Question
from sft_tui.screen.ink import Line
from sft_tui.screen.launch_view import PANELS, Resumable, View
from sft_tui.text import number, safe

SETTLED_SECONDS = 0.3  # without a key, before the pre-flight begins
REFRESH_SECONDS = 3.0  # between two looks at what runs have left


class LaunchScreen(Drawn):
    """Presets, the pre-flight of the one under the cursor, its settings, and the start."""

    scope = actions.LAUNCH

    def __init__(self, demo: bool = False) -> None:
        super().__init__()
        self.state = View("demo" if demo else next(iter(PRESETS)))

    def on_mount(self) -> None:
        """Looks at the first preset."""
        self._refresh()
        self.set_interval(REFRESH_SECONDS, self._look_around)
        nothing = not any(path for pattern in ROWS for path in Path().glob(pattern))
        new_here = self.state.offer_demo and nothing and not Path(self.state.config.train_file).exists()
        self._choose("demo" if new_here else self.state.preset)

    def on_screen_resume(self) -> None:
        """Looks again: a run may have made what was missing."""
        self._refresh()
        if self.state.report is not None:
            self.look()
        self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The screen as it is now."""
        options = self.desk.options
        return launch_view.draw(replace(self.state, ink=options.ink, lang=options.lang), width, height)

    def _refresh(self) -> None:
        """What runs have left in the presets' folders, and how far the demo is."""
        found = {}
        for name, entry in PRESETS.items():
            output = OutputDir(Path(entry.config.output_dir))
            owner, steps = output.owner(), output.checkpoint_steps()
            if owner and steps and not owner.get("finished"):
                alive = is_locked(output.path)
                found[name] = Resumable(str(owner.get("run")), steps[0], int(owner.get("steps_total") or 0), alive)
        new_here = not runs.are_any(self.desk.options.logs)
        demo_runs = bool(story.current())
        self.state = replace(self.state, resumable=found, offer_demo=new_here, demo=story.stage(), demo_runs=demo_runs)

    def _look_around(self) -> None:
        """Keeps that up to date while nothing is pressed; what a run made or finished is checked again."""
        before = self.state
        self._refresh()
        if self.state != before and self.is_current:
            if self.state.resumable.keys() != before.resumable.keys() or self.state.demo != before.demo:
                self.look()
            self.draw()

    def _choose(self, name: str, values: dict[str, Any] | None = None) -> None:
        self.state = replace(
            self.state, preset=name, values=values or {}, report=None, finding=0, doing="",
            queued=False,
        )  # fmt: skip
        self._settle()

    def _settle(self) -> None:
        config, _ = override(preset(self.state.preset).config, dict(self.state.values))
        processes = config.num_processes or self.state.processes
        self.state = replace(self.state, config=config, processes=processes)
        self.look()
        self.draw()

    @work(thread=True, exclusive=True, group="check")
    def look(self) -> None:
        """The pre-flight, once no key has come for a moment."""
        worker, state, options = get_current_worker(), self.state, self.desk.options
        time.sleep(SETTLED_SECONDS)
        if worker.is_cancelled:
            return
        told = 0.0

        def progress(setting: str, done: int, total: int) -> None:
            nonlocal told
            if not worker.is_cancelled and time.monotonic() - told > 1.0:
                told = time.monotonic()
                key = "reading" if total else "ui_reading_some"
                words = say(key, options.lang, what=subject(setting, options.lang), done=done, total=total)
                self.app.call_from_thread(self._doing, words)

        def partly(report: Report) -> None:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._partly, report)

        request = self._request(state)
        report = check(request, progress, partly)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._looked, request, report)

    def _request(self, state: View) -> Request:
        return Request.of(state.preset, dict(state.values), state.config, self.desk.options.logs)

    def _doing(self, words: str) -> None:
        self.state = replace(self.state, doing=words)
        self._draw_here()

    def _partly(self, report: Report) -> None:
        if self.state.report is None:
            doing = self.state.doing or say("ui_checking", self.desk.options.lang)
            self.state = replace(self.state, report=report, doing=doing)
            self._draw_here()

    def _looked(self, request: Request, report: Report) -> None:
        cursor = min(self.state.finding, max(0, len(report.findings) - 1))
        self.state = replace(self.state, report=report, doing="", finding=cursor, processes=request.processes)
        self._refresh()
        if self.state.queued and self.is_current:
            self.state = replace(self.state, queued=False)
            self.do("start")
        self._draw_here()

    def _draw_here(self) -> None:
        if self.is_current:
            self.draw()

    def move(self, by: int) -> None:
        """Moves the cursor."""
        state = self.state
        if state.panel == "presets":
            names = list(PRESETS)
            place = min(len(names) - 1, max(0, names.index(state.preset) + by))
            if names[place] != state.preset:
                self._choose(names[place])
        elif state.panel == "findings":
            place = min(max(0, len(state.findings) - 1), max(0, state.finding + by))
            self.state = replace(state, finding=place)
        else:
            place = min(len(FIELDS) - 1, max(0, state.setting + by))
            self.state = replace(state, setting=place)

    def do_next(self) -> None:
        """The next panel."""
        place = (PANELS.index(self.state.panel) + 1) % len(PANELS)
        self.state = replace(self.state, panel=PANELS[place])

    def do_check(self) -> None:
        """Looks again at everything."""
        self.state = replace(self.state, report=None)
        self.look()

    def do_edit(self) -> None:
        """Asks for the value of the setting under the cursor."""
        if self.state.panel != "settings":
            self.state = replace(self.state, panel="settings")
            return
        name = list(FIELDS)[self.state.setting]
        value = getattr(self.state.config, name)
        shown = number(value) if value != "" else ""
        is_path = setting_of(name).path
        self.ask(Question(f"{name} =", lambda typed: self._typed(name, typed), typed=shown, is_path=is_path))

    def _typed(self, name: str, typed: str) -> None:
        value = parse(name, typed)
        check_value(name, value)
        values = {**self.state.values, name: value}
        if value == getattr(preset(self.state.preset).config, name):
            del values[name]
        self.state = replace(self.state, values=values, queued=False)
        self._settle()

    def do_reset(self) -> None:
        """The preset's value again."""
        if self.state.panel == "settings":
            name = list(FIELDS)[self.state.setting]
            values = {key: value for key, value in self.state.values.items() if key != name}
            self.state = replace(self.state, values=values)
            self._settle()

    def do_start(self) -> None:
        """Starts the run; edits the setting, or fixes the problem, under the cursor."""
        if self.state.panel == "settings":
            self.do_edit()
            return
        if self.state.panel == "findings":
            self.do_fix()
            return
        lang, report = self.desk.options.lang, self.state.report
        if self.state.continues_demo:
            self.desk.begin_demo()
            return
        if report is None or self.state.doing:
            self.state = replace(self.state, queued=True)
            return
        if report.exit_code:
            self.tell(say("ui_errors", lang, errors=report.count("error")), "bad")
            return
        values = dict(self.state.values)
        request = self._request(self.state)
        if request.config != request.asked:
            values["micro_batch_tokens"] = request.config.micro_batch_tokens
        self.desk.start_run(starting.plan_run(self.state.preset, values))

    def do_resume(self) -> None:
        """Resumes the unfinished run of this preset."""
        going = self.state.resumable.get(self.state.preset)
        if going is None:
            self.tell(say("ui_nothing_to_resume", self.desk.options.lang), "warn")
            return
        self._resume(going.run)

    def _resume(self, name: str) -> None:
        one = runs.look(runs.find(self.desk.options.logs, name))
        if one.alive:
            self.desk.open_run(one.name)
        else:
            self.desk.start_run(starting.plan_resume(one.record, {}))

    def do_rehearse(self) -> None:
        """Rehearses the run, by the command: it cleans up by itself, however it ends."""
        report, lang = self.state.report, self.desk.options.lang
        if report is None or self.state.doing:
            self.tell(say("ui_still_checking", lang), "warn")
        elif not report.may_be_rehearsed:
            self.tell(say("ui_errors", lang, errors=report.count("error")), "bad")
        else:
            self._run(self._request(self.state).rehearse, ())

    def do_fix(self) -> None:
        """Takes the actions that fix the problem under the cursor, or the first that has some; asks first."""
        findings = self.state.findings
        if self.state.panel == "findings" and findings:
            chosen = [findings[self.state.finding]]
        else:
            chosen = [finding for finding in findings if finding.level != "ok"]
        acts = next((finding.actions for finding in chosen if finding.actions), ())
        lang = self.desk.options.lang
        if not acts:
            self.tell(say("ui_no_command", lang), "warn")
        elif any(isinstance(one, System) or (isinstance(one, Set) and one.logs) for one in acts):
            self.copy(command_of(acts))  # not to be done from here: for a person to run
        else:
            first, *more = (action.words(lang) for action in acts)
            words = say("fix_then", lang).join([first, *(one[0].lower() + one[1:] for one in more)])
            ask = say("ui_ask_fix", lang, actions=words)
            self.ask(Question(ask, lambda key: self._take(acts) if key == "y" else None))

    def _take(self, acts: Sequence[Action]) -> None:
        """Takes actions one after the other; what runs in the background is waited for with the rest."""
        for place, action in enumerate(acts):
            match action:
                case Set():
                    base = preset(action.preset).config
                    wanted = {**action.values, **action.changes}
                    self._choose(action.preset, {k: v for k, v in wanted.items() if v != getattr(base, k)})
                case Open():
                    self.desk.open_run(action.run)
                case Resume():
                    self._resume(action.run)
                case Start():
                    record = starting.plan_run(action.preset, action.values, fresh=action.fresh)
                    self._take(acts[place + 1 :])  # what the run will make is chosen while it is made
                    self._start(record)
                    return
                case Import() | Command():
                    self._run(action, acts[place + 1 :])
                    return
                case System():
                    self.copy(command_of([action]))

    def _start(self, record: RunRecord) -> None:
        """Starts a run, and shows it unless its user does something else meanwhile."""
        if self.is_current and self.question is None:
            self.desk.start_run(record)
        else:
            run = self.desk.begin(record).record.run
            self.desk.notify_here(say("ui_begun", self.desk.options.lang, run=safe(run, 40)))

    def _run(self, action: Import | Command, rest: Sequence[Action]) -> None:
        """Runs one of our own commands behind the screen, one at a time, and then the rest."""
        lang, shown = self.desk.options.lang, command_of([action])
        if self.state.task:
            self.tell(say("ui_task_busy", lang, command=safe(self.state.task, 200)), "warn")
            return

        def done(code: int, printed: str) -> None:
            self.app.call_from_thread(self._done, code, printed, rest)

        self.state = replace(self.state, task=shown)
        self.desk.background = Background(action.argv[1:], lang, done)

    def _done(self, code: int, printed: str, rest: Sequence[Action]) -> None:
        lang, task = self.desk.options.lang, self.desk.background
        self.state = replace(self.state, task="")
        self.desk.background = None
        if task is not None and task.ended:
            self.tell(say("ui_task_ended", lang), "warn")
        elif code:
            self.tell(summary(printed), "bad")
        else:
            self.tell(account(printed), "good")
            if rest:
                self.try_to(lambda: self._take(rest))
                return
        self.look()

    def do_back(self) -> None:
        """Ends what runs in the background, or takes back a start that waits for the check."""
        if self.desk.background is not None and self.state.task:
            self.desk.background.end()
        elif self.state.queued:
            self.state = replace(self.state, queued=False)
        else:
            self.desk.back()

    def _pointed(self, x: int, y: int) -> tuple[str, int]:
        width, height = self.app.size
        panel, item = launch_view.item_at(self.state, width, height - 1, x, y)
        return panel, item

    def clicked(self, x: int, y: int) -> None:
        """A press takes the cursor to what is there; on the setting under the cursor it edits."""
        before = (self.state.panel, self.state.setting)
        panel, item = self._pointed(x, y)
        self.state = replace(self.state, panel=panel)
        if item >= 0 and panel == "presets" and list(PRESETS)[item] != self.state.preset:
            self._choose(list(PRESETS)[item])
        elif item >= 0 and panel == "findings":
            self.state = replace(self.state, finding=item)
        elif item >= 0 and panel == "settings":
            self.state = replace(self.state, setting=item)
            if before == (panel, item):
                self.do_edit()
        self.draw()

    def wheeled(self, x: int, y: int, by: int) -> None:
        """The wheel moves the cursor of the panel under it."""
        self.state = replace(self.state, panel=self._pointed(x, y)[0])
        self.move(by)
        self.draw()
