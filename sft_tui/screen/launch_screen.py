"""The screen before a run: checks the preset under the cursor in a thread, edits settings, fixes and starts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual import work
from textual.worker import get_current_worker

from engine.contract.config import override
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset, presets
from engine.contract.texts import say
from sft_tui import chat_names, demo, remembered, starting
from sft_tui.preflight.check import Report, check
from sft_tui.preflight.fix import Action, Command
from sft_tui.preflight.missing import ROWS
from sft_tui.preflight.report import subject
from sft_tui.preflight.request import CheckRequest
from sft_tui.screen import actions, launch_view, preset_states
from sft_tui.screen.bottom import Question
from sft_tui.screen.data_view import data_files
from sft_tui.screen.fixing_screen import FixingScreen
from sft_tui.screen.ink import Line
from sft_tui.screen.launch_view import PANELS, LaunchView
from sft_tui.screen.preset_keys import Draft, PresetKeys
from sft_tui.screen.preset_states import PresetStates
from sft_tui.text import parse_size, safe

SETTLED_SECONDS = 0.3  # without a key, before the check begins
REFRESH_SECONDS = 3.0  # between two checks for what runs have left
BUSY = 3  # exit code of a check that finds nothing wrong but another run in the folder


class LaunchScreen(FixingScreen, PresetKeys):
    """Presets, the check of the one under the cursor, its settings in brief, and the start."""

    scope = actions.LAUNCH

    def __init__(self, name: str = "", values: Mapping[str, Any] | None = None, based_on: str = "") -> None:
        """Begins with a preset and settings over it; without a name, the one used last, or in a new folder the demo."""
        super().__init__()
        self._named = bool(name)
        self.state = LaunchView(name or next(iter(presets())), values=dict(values or {}), based_on=based_on)
        self.watcher: Callable[[], None] | None = None
        self._refreshed = 0  # how often the presets were read again at once

    @property
    def draft(self) -> Draft:
        """The run that is not started yet: the screen itself has its state."""
        return self

    def on_mount(self) -> None:
        """Checks the first preset."""
        self.refresh_presets()
        self.set_interval(REFRESH_SECONDS, self.refresh_behind)
        nothing = not any(path for pattern in ROWS for path in Path().glob(pattern))
        new_here = self.state.offer_demo and nothing and not Path(self.state.config.train_file).exists()
        if new_here and not self._named:
            self.choose("demo")
        elif not self._named:
            self.choose(self._likely())
        else:
            self.choose(self.state.preset, dict(self.state.values), self.state.based_on)

    def _likely(self) -> str:
        """The preset used last, but not that of a demo, which is over; else the first: one's own if there is any."""
        known = self.state.presets
        used = (name for name in remembered.last_presets(self.services.options.logs) if demo.story_of(name) is None)
        return next((name for name in used if name in known), next(iter(known)))

    def on_screen_resume(self) -> None:
        """Checks again: a run may have made what was missing."""
        self.refresh_behind()
        if self.state.report is not None:
            self.look()
        self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        options = self.services.options
        return launch_view.draw(replace(self.state, ink=options.ink, lang=options.lang), width, height)

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out, by the item under the cursor and the check."""
        lang, state = self.services.options.lang, self.state
        if name == "start" and state.panel == "findings":
            return self.why_disabled("fix")
        if name == "start" and state.panel == "presets" and not state.continues_demo:
            return self._errors() if state.report is not None and not state.doing else ""
        if name == "resume" and state.preset not in state.resumable:
            return say("screen.nothing_to_resume", lang)
        if name == "fix" and (state.outdated or not self._ways):
            unknown = state.outdated or state.report is None
            return say("screen.still_checking" if unknown else "screen.no_command", lang)
        if name == "reset" and (state.panel != "settings" or state.summary[state.cursor] not in state.values):
            return say("screen.nothing_to_reset", lang)
        if name in ("rehearse", "rehearse_within"):
            return self._no_rehearsal()
        if name in ("force", "data"):
            return self._nothing_to_force() if name == "force" else self._no_data()
        if name == "enqueue":  # the run that uses the folder now will have ended when the turn of this one comes
            return self._errors() if state.report is not None and state.report.exit_code != BUSY else ""
        if name == "chat":
            return "" if chat_names.is_model(self._best) else say("chat.no_best", lang)
        return self.why_no_preset_key(name)

    @property
    def _best(self) -> str:
        """The folder of the best model of the preset's run."""
        return str(OutputDir(Path(self.state.config.output_dir)).best)

    def do_chat(self) -> None:
        """Opens a chat with the best model of the preset's run, next to the one that it started from."""
        self.services.open_chat(*chat_names.chosen(self._best, None, self.services.options.logs))

    def _errors(self) -> str:
        report = self.state.report
        failed = report is not None and report.exit_code
        return (
            say("screen.errors", self.services.options.lang, errors=report.count("error")) if report and failed else ""
        )

    def _nothing_to_force(self) -> str:
        lang, report = self.services.options.lang, self.state.report
        if report is None or self.state.doing:
            return say("screen.still_checking", lang)
        return "" if report.exit_code else say("screen.nothing_to_force", lang)

    def _no_data(self) -> str:
        return "" if data_files(self.state.config) else say("data_screen.no_file", self.services.options.lang)

    def _no_rehearsal(self) -> str:
        lang, report = self.services.options.lang, self.state.report
        if report is None or self.state.doing:
            return say("screen.still_checking", lang)
        if self.state.task:
            return say("screen.task_busy", lang, command=safe(self.state.task, 200))
        return "" if report.may_be_rehearsed else self._errors()

    def offered(self, action: actions.Action) -> bool:
        """As in the base class, but enter is shown under another action if it edits or fixes."""
        return super().offered(action) and (action.name != "start" or self.state.panel == "presets")

    @property
    def _ways(self) -> tuple[Sequence[Action], ...]:
        """The fixes of the problem under the cursor, or of the first that can be fixed."""
        findings = self.state.findings
        if self.state.panel == "findings" and findings:
            chosen = [findings[self.state.finding]]
        else:
            chosen = [finding for finding in findings if finding.level != "ok"]
        return next((finding.ways for finding in chosen if finding.ways), ())

    def refresh_presets(self) -> None:
        """Reads the presets again, and what runs have left in their folders."""
        self._refreshed += 1  # what is being read in a thread is older
        self._take_seen(preset_states.read(self.services.options.logs, self.state.preset))

    @work(thread=True, exclusive=True, group="refresh")
    def refresh_behind(self) -> None:
        """Reads the same in a thread; checks again after a run made or finished something."""
        worker, number = get_current_worker(), self._refreshed
        seen = preset_states.read(self.services.options.logs, self.state.preset)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show_seen, number, seen)

    def _show_seen(self, number: int, seen: PresetStates) -> None:
        before = self.state
        if number != self._refreshed or not self.is_open:
            return
        self._take_seen(seen)
        if self.state != before and self.in_front:
            if self.state.resumable.keys() != before.resumable.keys() or self.state.demos != before.demos:
                self.look()
            self.draw()

    def _take_seen(self, seen: PresetStates) -> None:
        known = dict(seen.presets)
        if self.question is not None or self.watcher is not None:  # nobody who types is moved
            known.setdefault(self.state.preset, self.state.presets[self.state.preset])
        self.state = replace(
            self.state, presets=known, resumable=seen.resumable, offer_demo=seen.offer_demo, demos=seen.demos
        )
        if self.state.preset not in known:  # its file is gone
            self.choose(next(iter(known)))

    def choose(self, name: str, values: dict[str, Any] | None = None, based_on: str = "") -> None:
        """Selects a preset, with settings that override its own, and checks it; `based_on`: the run they are from.

        Raises InputError if there is no such preset.
        """
        known = self.state.presets
        if name not in known:
            self._refreshed += 1
            known = {**known, name: preset(name)}
        self.state = replace(
            self.state, preset=name, presets=known, values=values or {}, report=None, outdated=False, finding=0,
            doing="", queued=False, last={}, based_on=based_on,
        )  # fmt: skip
        self._apply_choice()

    def take_values(self, values: Mapping[str, Any]) -> None:
        """Takes other settings over those of the preset, and checks them; raises InputError."""
        base = preset(self.state.preset).config
        kept = {name: value for name, value in values.items() if value != getattr(base, name)}
        override(base, kept)
        # The report stays until there is another, so that nothing jumps, but nothing is started or fixed by it.
        doing = say("screen.checking", self.services.options.lang)
        self.state = replace(self.state, values=kept, queued=False, doing=doing, outdated=self.state.report is not None)
        self._apply_choice()

    def _apply_choice(self) -> None:
        config, _ = override(preset(self.state.preset).config, dict(self.state.values))
        processes = config.num_processes or self.state.processes
        self.state = replace(self.state, config=config, processes=processes)
        self.look()
        self._draw_here()

    @work(thread=True, exclusive=True, group="check")
    def look(self) -> None:
        """Runs the check once no key has been pressed for a moment."""
        worker, state, options = get_current_worker(), self.state, self.services.options
        time.sleep(SETTLED_SECONDS)
        if worker.is_cancelled:
            return
        last = remembered.last_values(options.logs, state.preset)
        self.app.call_from_thread(self._offer_last, state.preset, last)
        shown_at = 0.0

        def progress(setting: str, done: int, total: int) -> None:
            nonlocal shown_at
            if not worker.is_cancelled and time.monotonic() - shown_at > 1.0:
                shown_at = time.monotonic()
                key = "app.reading" if total else "screen.reading_some"
                words = say(key, options.lang, what=subject(setting, options.lang), done=done, total=total)
                self.app.call_from_thread(self._show_progress, words)

        def partly(report: Report) -> None:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._show_partial, report)

        request = self._request(state)
        report = check(request, progress, partly)

        def arrived() -> None:
            if not worker.is_cancelled:  # else other settings are being checked by now
                self._show_report(request, report)

        self.app.call_from_thread(arrived)

    def _offer_last(self, name: str, last: Mapping[str, Any]) -> None:
        """Offers the last values of a preset that differ from those of now."""
        if name == self.state.preset:
            lacking = {key: value for key, value in last.items() if value != getattr(self.state.config, key)}
            self.state = replace(self.state, last=lacking)
            self._draw_here()

    def _request(self, state: LaunchView) -> CheckRequest:
        return CheckRequest.of(state.preset, dict(state.values), state.config, self.services.options.logs)

    def _show_progress(self, words: str) -> None:
        self.state = replace(self.state, doing=words)
        self._draw_here()

    def _show_partial(self, report: Report) -> None:
        if self.state.report is None:
            doing = self.state.doing or say("screen.checking", self.services.options.lang)
            self.state = replace(self.state, report=report, doing=doing)
            self._draw_here()

    def _show_report(self, request: CheckRequest, report: Report) -> None:
        cursor = min(self.state.finding, max(0, len(report.findings) - 1))
        self.state = replace(
            self.state, report=report, outdated=False, doing="", finding=cursor, processes=request.processes
        )
        self.refresh_behind()
        self._launch_queued()
        self._draw_here()

    def _launch_queued(self) -> None:
        """Starts the run that waited for the check, but moves nobody who does something else."""
        state = self.state
        if not state.queued or state.report is None or state.doing or not self.in_front or self.question is not None:
            return
        self.state = replace(state, queued=False)
        if errors := self._errors():
            self.show_notice(errors, "bad")
        else:
            self.try_to(self._launch)

    def close_question(self) -> None:
        """Closes the question; a run that waited for the check starts after the answer."""
        super().close_question()
        self.call_later(self._launch_queued)

    def _draw_here(self) -> None:
        if self.in_front:
            self.draw()
        elif self.watcher is not None:
            self.watcher()

    def move(self, by: int) -> None:
        """Moves the cursor."""
        state = self.state
        if state.panel == "presets":
            names = list(state.presets)
            place = min(len(names) - 1, max(0, names.index(state.preset) + by))
            if names[place] != state.preset:
                self.choose(names[place])
        elif state.panel == "findings":
            place = min(max(0, len(state.findings) - 1), max(0, state.finding + by))
            self.state = replace(state, finding=place)
        else:
            place = min(len(state.summary) - 1, max(0, state.cursor + by))
            self.state = replace(state, setting=place)

    def do_next(self) -> None:
        """Moves to the next panel."""
        place = (PANELS.index(self.state.panel) + 1) % len(PANELS)
        self.state = replace(self.state, panel=PANELS[place])

    def do_check(self) -> None:
        """Checks everything again."""
        self.state = replace(self.state, report=None, outdated=False)
        self.look()

    def do_edit(self) -> None:
        """Opens all settings, at the one under the cursor."""
        here = self.state.summary[self.state.cursor] if self.state.panel == "settings" else ""
        self.state = replace(self.state, queued=False)
        self.services.open_settings(here)

    def do_data(self) -> None:
        """Opens the rows of the data files as the model sees them."""
        self.services.open_data(self.state.config)

    def do_reset(self) -> None:
        """Restores the preset's value."""
        name = self.state.summary[self.state.cursor]
        self.take_values({key: value for key, value in self.state.values.items() if key != name})

    def do_enqueue(self) -> None:
        """Puts the run at the end of the queue."""
        self.services.enqueue(self.state.preset, self._values(), self.state.based_on)

    def do_start(self) -> None:
        """Starts the run; edits the setting, or fixes the problem, under the cursor."""
        if self.state.panel == "settings":
            self.do_edit()
        elif self.state.panel == "findings":
            self.do_fix()
        elif self.state.continues_demo:
            self.services.begin_demo(self.state.preset)
        elif self.state.report is None or self.state.doing:
            self.state = replace(self.state, queued=True)
        else:
            self._launch()

    def do_force(self) -> None:
        """Starts the run in spite of errors, after a question; refuses at once if the run would be refused even so."""
        errors = [one for one in self.state.findings if one.level == "error"]
        starting.plan_run(self.state.preset, self._values(), based_on=self.state.based_on)
        lang = self.services.options.lang
        ask = say("screen.ask_force", lang, errors=len(errors), first=safe(errors[0].what(lang), 400))
        self.ask(Question(ask, lambda key: self._launch() if key == "y" else None))

    def _launch(self) -> None:
        state = self.state
        self.services.start_run(starting.plan_run(state.preset, self._values(), based_on=state.based_on))

    def _values(self) -> dict[str, Any]:
        """The settings over those of the preset, with the budget that a rehearsal found."""
        request = self._request(self.state)
        found = {"micro_batch_tokens": request.config.micro_batch_tokens} if request.config != request.asked else {}
        return {**self.state.values, **found}

    def do_resume(self) -> None:
        """Resumes the unfinished run of this preset."""
        self.open_or_resume(self.state.resumable[self.state.preset].run)

    def do_rehearse(self) -> None:
        """Rehearses the run with the command, which cleans up however it ends."""
        self.run_behind(self._request(self.state).rehearse, ())

    def do_rehearse_within(self) -> None:
        """Asks for a limit of memory, and rehearses the run within it."""
        asked = say("screen.ask_memory_limit", self.services.options.lang)
        self.ask(Question(asked, self._rehearse_within, typed=""))

    def _rehearse_within(self, limit: str) -> None:
        parse_size(limit)  # refused here, where it can be corrected
        plain = self._request(self.state).rehearse
        self.run_behind(Command((*plain.arguments, "--memory-limit", limit.strip())), ())

    def do_fix(self) -> None:
        """Fixes the problem under the cursor, or the first that can be fixed, after a question or a choice."""
        self.ask_to_fix(self._ways)

    def do_back(self) -> None:
        """Ends the background command, or cancels a start that waits for the check."""
        if self.services.background is not None and self.state.task:
            self.services.background.end()
        elif self.state.queued:
            self.state = replace(self.state, queued=False)
        else:
            state = self.state
            self.services.draft = (state.preset, dict(state.values), state.based_on) if state.values else ("", {}, "")
            self.services.back()

    def _pointed(self, x: int, y: int) -> tuple[str, int]:
        width, height = self.app.size
        panel, item = launch_view.item_at(self.state, width, height - 1, x, y)
        return panel, item

    def clicked(self, x: int, y: int) -> None:
        """Moves the cursor to what was clicked; a click on the setting under the cursor edits it."""
        before = (self.state.panel, self.state.cursor)
        panel, item = self._pointed(x, y)
        self.state = replace(self.state, panel=panel)
        if item >= 0 and panel == "presets" and list(self.state.presets)[item] != self.state.preset:
            self.choose(list(self.state.presets)[item])
        elif item >= 0 and panel == "findings":
            self.state = replace(self.state, finding=item)
        elif item >= 0 and panel == "settings":
            self.state = replace(self.state, setting=item)
            if before == (panel, item):
                self.do_edit()
        self.draw()

    def wheeled(self, x: int, y: int, by: int) -> None:
        """Moves the cursor of the panel under the wheel."""
        self.state = replace(self.state, panel=self._pointed(x, y)[0])
        self.move(by)
        self.draw()
