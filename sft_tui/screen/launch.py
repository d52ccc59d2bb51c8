"""The screen before a run: looks at the preset under the cursor in a thread, edits settings, mends and starts."""

import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual import work
from textual.worker import get_current_worker

from engine.contract.config import FIELDS, KINDS, check_value, override
from engine.contract.messages import InputError
from engine.contract.presets import PRESETS, preset
from engine.contract.rundir import OutputDir
from sft_tui import runs, starting
from sft_tui.child import module_command
from sft_tui.locale import say
from sft_tui.options import parse
from sft_tui.preflight.check import Report, Request, check
from sft_tui.preflight.missing import ROWS
from sft_tui.preflight.report import subject
from sft_tui.screen import actions, launch_view
from sft_tui.screen.app import Drawn
from sft_tui.screen.bottom import Question
from sft_tui.screen.ink import Line
from sft_tui.screen.launch_view import PANELS, Resumable, View
from sft_tui.text import number, safe

SETTLED_SECONDS = 0.3  # without a key, before the pre-flight begins
PROGRAM = module_command("sft_tui")


class LaunchScreen(Drawn):
    """Presets, the pre-flight of the one under the cursor, its settings, and the start."""

    scope = actions.LAUNCH

    def __init__(self, demo: bool = False) -> None:
        super().__init__()
        self.state = View("demo" if demo else next(iter(PRESETS)))

    def on_mount(self) -> None:
        """Looks at the first preset."""
        self._resumables()
        nothing = not any(path for pattern in ROWS for path in Path().glob(pattern))
        new_here = self.state.offer_demo and nothing and not Path(self.state.config.train_file).exists()
        self._choose("demo" if new_here else self.state.preset)

    def on_screen_resume(self) -> None:
        """Looks again: a run may have made what was missing."""
        self._resumables()
        self.state = replace(self.state, begins_demo=self._begins_demo(self.state.preset))
        if self.state.report is not None:
            self.look()
        self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The screen as it is now."""
        options = self.desk.options
        return launch_view.draw(replace(self.state, ink=options.ink, lang=options.lang), width, height)

    @staticmethod
    def _begins_demo(name: str) -> bool:
        """Whether starting this preset is to begin the demo with its first half."""
        return name == "demo" and not Path(preset("demo").config.pretrained_model).is_dir()

    def _resumables(self) -> None:
        found = {}
        for name, entry in PRESETS.items():
            output = OutputDir(Path(entry.config.output_dir))
            owner, steps = output.owner(), output.checkpoint_steps()
            if owner and steps and not owner.get("finished"):
                found[name] = Resumable(str(owner.get("run")), steps[0], int(owner.get("steps_total") or 0))
        self.state = replace(self.state, resumable=found, offer_demo=not runs.are_any(self.desk.options.logs))

    def _choose(self, name: str, values: dict[str, Any] | None = None) -> None:
        self.state = replace(
            self.state, preset=name, values=values or {}, report=None, finding=0, fault=("", ""), doing="",
            begins_demo=self._begins_demo(name),
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

        request = Request.of(state.preset, dict(state.values), state.config, options.logs)
        report = check(request, progress, partly)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._looked, request, report)

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
        self.ask(Question(f"{name} =", lambda typed: self._typed(name, typed), typed=shown))

    def _typed(self, name: str, typed: str) -> None:
        try:
            value = parse(name, typed)
            check_value(name, value)
        except (ValueError, InputError) as error:
            words = error.message.what(self.desk.options.lang) if isinstance(error, InputError) else str(error)
            self.state = replace(self.state, fault=(name, words))
            self.tell(words, "bad")
            return
        values = {**self.state.values, name: value}
        if value == getattr(preset(self.state.preset).config, name):
            del values[name]
        self.state = replace(self.state, values=values, fault=("", ""))
        self._settle()

    def do_reset(self) -> None:
        """The preset's value again."""
        if self.state.panel == "settings":
            name = list(FIELDS)[self.state.setting]
            values = {key: value for key, value in self.state.values.items() if key != name}
            self.state = replace(self.state, values=values, fault=("", ""))
            self._settle()

    def do_start(self) -> None:
        """Starts the run, or edits the setting under the cursor."""
        if self.state.panel == "settings":
            self.do_edit()
            return
        lang, report = self.desk.options.lang, self.state.report
        if self._begins_demo(self.state.preset):
            self.desk.begin_demo()
            return
        if report is None or self.state.doing:
            self.tell(say("ui_still_checking", lang), "warn")
            return
        if report.exit_code:
            self.tell(say("ui_errors", lang, errors=report.count("error")), "bad")
            return
        values = dict(self.state.values)
        request = Request.of(self.state.preset, values, self.state.config, self.desk.options.logs)
        if request.config != request.asked:
            values["micro_batch_tokens"] = request.config.micro_batch_tokens
        self.desk.start_run(starting.plan_run(self.state.preset, values))

    def do_resume(self) -> None:
        """Goes on with the unfinished run of this preset."""
        going = self.state.resumable.get(self.state.preset)
        if going is None:
            self.tell(say("ui_nothing_to_resume", self.desk.options.lang), "warn")
            return
        one = runs.look(runs.find(self.desk.options.logs, going.run))
        if one.alive:
            self.desk.open_run(one.name)
            return
        self.desk.start_run(starting.plan_resume(one.record, {}))

    def do_rehearse(self) -> None:
        """Rehearses the run, by the command: it ends and cleans up by itself, whatever becomes of this screen."""
        report, lang = self.state.report, self.desk.options.lang
        if report is None or self.state.doing:
            self.tell(say("ui_still_checking", lang), "warn")
        elif not report.may_be_rehearsed:
            self.tell(say("ui_errors", lang, errors=report.count("error")), "bad")
        else:
            logs = str(self.desk.options.logs)
            options = shlex.split(starting.options_text(self.state.values))
            self.mend(["rehearse", self.state.preset, "--logs", logs, *options])

    def do_fix(self) -> None:
        """Runs what mends the finding under the cursor, or the first that a command mends; asks first."""
        findings = self.state.findings
        if self.state.panel == "findings" and findings:
            chosen = [findings[self.state.finding]]
        else:
            chosen = [finding for finding in findings if finding.command and finding.level != "ok"]
        command = next((finding.command for finding in chosen if finding.command), "")
        lang = self.desk.options.lang
        if not command:
            self.tell(say("ui_no_command", lang), "warn")
            return
        if not command.startswith("sft-tui "):
            self.copy(command)  # of the system: for a person to run
            return
        words = say("ui_ask_fix", lang, command=safe(command, 200))
        self.ask(Question(words, lambda key: self._mend(command) if key == "y" else None))

    def _mend(self, command: str) -> None:
        """Takes over the settings of a check, starts a run, and does all else in a thread."""
        part, _, rest = command.partition(" && ")
        while part:
            words = shlex.split(part)[1:]
            if words[:1] == ["check"]:
                self._take_over(words[1], words[2:])
            elif words[:1] == ["run"]:
                values = self._values_of(words[2:])
                self.desk.start_run(starting.plan_run(words[1], values))
                return  # the check comes when the run is done
            else:
                self.mend(words, rest)
                return
            part, _, rest = rest.partition(" && ")

    def _values_of(self, words: list[str]) -> dict[str, Any]:
        names = [word.removeprefix("--") for word in words[::2]]
        return {name: parse(name, value) for name, value in zip(names, words[1::2], strict=False) if name in KINDS}

    def _take_over(self, name: str, words: list[str]) -> None:
        self._choose(name, self._values_of(words))

    def mend(self, words: list[str], rest: str = "") -> None:
        """Runs one of our own commands in a thread, one at a time, and then the rest, or looks again."""
        command = f"sft-tui {shlex.join(words)}"
        if self.state.mending:
            self.tell(say("ui_mend_busy", self.desk.options.lang, command=self.state.mending), "warn")
            return
        self.state = replace(self.state, mending=command)
        self._run(words, rest)

    @work(thread=True, group="mend")
    def _run(self, words: list[str], rest: str) -> None:
        done = subprocess.run(
            [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "")
        self.app.call_from_thread(self._mended, last, "bad" if done.returncode else "good", rest)

    def _mended(self, words: str, role: str, rest: str) -> None:
        self.state = replace(self.state, mending="")
        self.tell(words, role)
        if rest and role == "good":
            self._mend(rest)
        else:
            self.look()

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
