"""The app: opens its screens, and carries out the actions that they share."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from textual import work
from textual.app import App
from textual.screen import Screen

from engine.contract.config import RunConfig, override
from engine.contract.messages import InputError
from engine.contract.texts import LANGS, say
from sft_tui import text
from sft_tui.output import echo
from sft_tui.screen import actions, form_style, help_view, terminal, window_title
from sft_tui.screen.background import Background, summary
from sft_tui.screen.base import ActionScreen, CanvasScreen, Options
from sft_tui.screen.ink import THEMES, Line
from sft_tui.screen.window_title import WindowTitle

if TYPE_CHECKING:  # the first screen does without them
    from engine.contract.record import RunRecord
    from sft_tui.demo import Story
    from sft_tui.runs import Run
    from sft_tui.starting import Started

# A key passes through three threads, each of which may wait this long for the log reader; the default is 5 ms.
SWITCH_SECONDS = 0.001
DATA_SETTINGS = ("train_file", "validation_file", "test_file")


class HelpScreen(CanvasScreen):
    """All keys."""

    def __init__(self, scope: str) -> None:
        super().__init__()
        self._scope, self._from = scope, 0

    def view(self, width: int, height: int) -> list[Line]:
        """The page."""
        lang = self.services.options.lang
        self._from = min(self._from, help_view.last_first(self._scope, lang, width, height))
        return help_view.draw(self._scope, lang, width, height, self._from)

    def move(self, by: int) -> None:
        """Scrolls the page by lines."""
        self._from = max(0, self._from + by)

    def do_help(self) -> None:
        """Closes the page with the key that opened it."""
        self.do_back()


class SftTuiApp(App[int], inherit_bindings=False):
    """The app; leaving it is never a failure, whatever the runs do. All its keys are in the table of actions."""

    ENABLE_COMMAND_PALETTE = False  # ours has both languages, and only characters that every terminal has
    TITLE = "sft-tui"
    CSS = form_style.CSS
    INLINE_PADDING = 0

    def __init__(self, options: Options) -> None:
        self.options = options  # of which the stylesheet is made
        super().__init__(ansi_color=True)
        self.background: Background | None = None  # a command that runs behind the screen
        self.draft: tuple[str, dict[str, Any], str] = ("", {}, "")
        self._demo_asked: Screen[Any] | None = None  # the screen in front when the demo was asked for, until it begins
        self.crash = ""
        self.window_title = WindowTitle(self.write_raw)

    def _handle_exception(self, error: Exception) -> None:
        """Ends the app with a crash file, not a traceback on the terminal, which would show values of variables."""
        if not self.crash:
            self.crash = terminal.write_crash(error)
            self._return_code = 1
            self._close_messages_no_wait()

    def on_mount(self) -> None:
        """Opens the first screen."""
        terminal.end_on_signals(self.exit, self._restore_terminal)
        # The app's own objects live until it ends: a garbage collection of all of them takes longer than drawing.
        gc.freeze()
        self.window_title.begin()
        self.set_interval(window_title.INTERVAL_SECONDS, self._retitle)
        self.push_screen(self._first_screen())
        if self.options.run:
            from sft_tui.screen.run_screen import RunScreen

            self.push_screen(RunScreen(self.options.run))
        if self.options.chat:
            self.open_chat(self.options.chat, self.options.run)
        if self.options.demo:
            self.begin_demo(self.options.demo)
        if not self.options.run:  # whose log is being read now
            self.call_after_refresh(self._import_screens)

    def _restore_terminal(self) -> None:
        """Gives the terminal back from another thread, which the driver leaves to the app's own."""
        driver = self._driver
        if driver is not None:
            driver.write(terminal.NO_MOUSE)
            driver.stop_application_mode()
            self.window_title.end(driver.write)
            driver.close()

    def _first_screen(self) -> ActionScreen:
        if self.options.demo:
            from sft_tui.screen.launch_screen import LaunchScreen

            return LaunchScreen(self.options.demo)
        from sft_tui.screen.here_screen import HereScreen

        return HereScreen()

    @work(thread=True, group="imports")
    def _import_screens(self) -> None:
        """Imports, once the first screen is drawn, what most people open next, so that its key answers at once."""
        from sft_tui.screen import launch_screen, pick_screen, run_screen, settings_screen  # noqa: F401

        gc.freeze()

    def call_from_thread(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As in the base class, but once the app is closing nothing is done: its screens are being taken apart."""
        return super().call_from_thread(lambda: None if self._exit else callback(*args, **kwargs))

    def get_css_variables(self) -> dict[str, str]:
        """The variables of the stylesheet, with those of the theme."""
        return {**super().get_css_variables(), **form_style.variables(self.options.ink)}

    def do_palette(self) -> None:
        """Opens the palette over the screen in front."""
        from sft_tui.screen.palette import PaletteScreen

        if isinstance(self.screen, ActionScreen):
            self.push_screen(PaletteScreen(self.screen))

    def do_help(self) -> None:
        """Opens the page of keys."""
        self.push_screen(HelpScreen(getattr(self.screen, "scope", actions.EVERYWHERE)))

    def do_quit(self) -> None:
        """Quits; runs continue."""
        self.exit(0)

    def do_suspend(self) -> None:
        """Suspends the app and returns the terminal to the shell until it is resumed."""
        self.action_suspend_process()

    def do_theme(self) -> None:
        """Switches to the next theme."""
        names = list(THEMES)
        following = names[(names.index(self.options.ink.theme) + 1) % len(names)]
        self._take(replace(self.options, ink=replace(self.options.ink, theme=following)))

    def do_language(self) -> None:
        """Switches to the next language."""
        following = LANGS[(LANGS.index(self.options.lang) + 1) % len(LANGS)]
        self._take(replace(self.options, lang=following))

    def _take(self, options: Options) -> None:
        """Takes other options over on every open screen."""
        self.options = options
        self.refresh_css(animate=False)
        for screen in self.screen_stack:
            if isinstance(screen, ActionScreen):
                screen.relabel()

    def do_runs(self) -> None:
        """Opens the screen of all runs."""
        from sft_tui.screen.runs_screen import RunsScreen

        self._go_to(RunsScreen, RunsScreen)

    def do_launch(self) -> None:
        """Opens the screen for a new run."""
        from sft_tui.screen.launch_screen import LaunchScreen

        self._go_to(LaunchScreen, lambda: LaunchScreen(*self.draft))

    def open_run(self, name: str) -> None:
        """Shows a run."""
        from sft_tui.screen.run_screen import RunScreen

        self._go_to(RunScreen, lambda: RunScreen(name), name)

    def launch_with(self, preset: str, values: Mapping[str, Any], based_on: str = "") -> None:
        """Opens the launch screen with a preset and settings over it; `based_on` names the run they are from.

        Raises InputError, e.g. if there is no such preset any more.
        """
        from engine.contract import presets
        from sft_tui.screen.launch_screen import LaunchScreen

        override(presets.preset(preset).config, dict(values))
        open_one = next((one for one in self.screen_stack if isinstance(one, LaunchScreen)), None)
        self._go_to(LaunchScreen, lambda: LaunchScreen(preset, values, based_on))
        if open_one is not None:
            open_one.choose(preset, dict(values), based_on)
        if based_on:
            self.notify_here(say("screen.based_on", self.options.lang, run=text.safe(based_on, 40)))

    def open_settings(self, setting: str = "") -> None:
        """Shows all settings of the run on the launch screen, with the cursor on one of them."""
        from sft_tui.screen.launch_screen import LaunchScreen
        from sft_tui.screen.settings_screen import SettingsScreen

        if isinstance(self.screen, SettingsScreen):
            return
        launch = next((screen for screen in self.screen_stack if isinstance(screen, LaunchScreen)), None)
        if launch is None:
            launch = LaunchScreen(*self.draft)
            self.push_screen(launch)
        self.push_screen(SettingsScreen(launch, setting))

    def do_all_settings(self) -> None:
        """Opens all settings of the run on the launch screen."""
        self.open_settings()

    def pick_path(self, setting: str, current: str, done: Callable[[str], None]) -> None:
        """Lets the user choose the path of a setting; `done` gets it, and is not called if they leave.

        Rows that a run cannot read as they are, are imported first.
        """
        from sft_tui.screen.pick_screen import PickScreen

        def chosen(path: str) -> None:
            if setting in DATA_SETTINGS and not path.lower().endswith(".parquet"):
                self.open_import(path, done)
            else:
                done(path)

        self.push_screen(PickScreen(setting, current, chosen))

    def open_import(self, path: str, done: Callable[[str], None] | None = None) -> None:
        """Shows what an import would make of a file; `done` gets the training file once that is written."""
        from sft_tui.screen.import_screen import ImportScreen

        self._go_to(ImportScreen, lambda: ImportScreen(path, done), path)

    def open_model(self, path: str, files: Mapping[str, str]) -> None:
        """Shows what a model is and what would learn, for a run on files by setting."""
        from sft_tui.screen.model_screen import ModelScreen

        self._go_to(ModelScreen, lambda: ModelScreen(path, files), path)

    def open_data(self, config: RunConfig) -> None:
        """Shows the rows of a run's data files as the model sees them."""
        from sft_tui.screen.data_screen import DataScreen

        self.push_screen(DataScreen(config))

    def open_rows(self, run: str, step: int, last: int = 0) -> None:
        """Shows the rows of a step of a run, or of the steps up to `last`, with their losses."""
        from sft_tui.screen.rows_screen import RowsScreen

        self.push_screen(RowsScreen(run, step, last))

    def open_chat(self, models: Sequence[str], run: str = "") -> None:
        """Opens a conversation with one model, or with two side by side; `run` is where its judgements are kept."""
        from sft_tui.screen.chat_screen import ChatScreen

        self._go_to(ChatScreen, lambda: ChatScreen(models, run, self.options.lang), "\n".join(models))

    def do_queue(self) -> None:
        """Opens the screen of the queue."""
        self.open_queue()

    def open_queue(self) -> None:
        """Shows the queue of runs."""
        from sft_tui.screen.queue_screen import QueueScreen

        self._go_to(QueueScreen, QueueScreen)

    def enqueue(self, preset: str, values: Mapping[str, Any], based_on: str = "") -> None:
        """Puts a run at the end of the queue, and shows a notice; raises InputError."""
        from engine.contract import presets

        override(presets.preset(preset).config, values)
        self._add_to_queue(preset, dict(values), based_on)

    @work(thread=True, group="queue")
    def _add_to_queue(self, name: str, values: dict[str, Any], based_on: str) -> None:
        from sft_tui.queue import queue_process
        from sft_tui.queue.queue_file import QueueFolder

        lang, role = self.options.lang, "accent"
        try:
            number = queue_process.add(QueueFolder(self.options.logs), name, values, based_on)
            words = say("screen.in_queue", lang, number=number, preset=text.safe(name, 30))
        except InputError as error:
            words, role = error.message.text(lang), "bad"
        self.call_from_thread(self.notify_here, words, role)

    def open_resume(self, run: "Run") -> None:
        """Shows the settings that may be changed when a run is resumed."""
        from sft_tui.screen.resume_screen import ResumeScreen

        self.push_screen(ResumeScreen(run))

    def open_output(self, run: str) -> None:
        """Shows what the processes of a run printed."""
        from sft_tui.screen.output_screen import OutputScreen

        self.push_screen(OutputScreen(run))

    def _go_to(self, kind: type[ActionScreen], make: Callable[[], ActionScreen], about: str = "") -> None:
        """Goes back to an open screen of this kind, so that they do not pile up, or else opens a new one."""
        open_ones = [s for s in self.screen_stack if isinstance(s, kind) and s.about == about]
        if not open_ones:
            self.push_screen(make())
            return
        while self.screen is not open_ones[-1]:
            self.pop_screen()

    def begin(self, record: "RunRecord") -> "Started":
        """Starts a planned run; raises InputError, also if the run is already finished."""
        from sft_tui import starting

        message = starting.why_nothing_to_do(record)
        if message is not None:
            raise InputError(message.code, **message.args)
        return starting.start(self.options.logs, record)

    def start_run(self, record: "RunRecord") -> None:
        """Starts a planned run, and shows it; raises InputError."""
        self.open_run(self.begin(record).record.run)

    def begin_demo(self, preset: str) -> None:
        """Starts a demo, or finds its current stage, with a command that does not depend on this screen."""
        from sft_tui import demo

        if self._demo_asked is not None:
            return
        story = demo.STORIES[preset]
        run = story.current()
        if run:
            self.open_run(run)
            return
        self._demo_asked = self.screen
        self.notify_here(say(f"app.{preset}_data", self.options.lang))

        def done(code: int, printed: str) -> None:
            self.call_from_thread(self._demo_begun, story, code, printed)

        options = ["--t5"] if story is demo.T5 else []
        Background(["demo", *options, "--detach", "--logs", str(self.options.logs)], self.options.lang, done)

    def _demo_begun(self, story: "Story", code: int, printed: str) -> None:
        from sft_tui import demo

        asked, self._demo_asked = self._demo_asked, None
        if code:
            self.notify_here(summary(printed), "bad")
            return
        story = demo.shown_for(story)
        run = story.current()
        if not run:
            self.notify_here(say("screen.demo_over", self.options.lang))
        elif self.screen is asked and not self.typing:  # somebody who has gone on is not moved
            self.open_run(run)
        else:
            self.notify_here(say("screen.begun", self.options.lang, run=text.safe(run, 40)))

    @property
    def typing(self) -> bool:
        """Whether the screen in front has a question or an edit open, so that it must not be switched."""
        return isinstance(self.screen, ActionScreen) and self.screen.typing

    def notify_here(self, words: str, role: str = "accent") -> None:
        """Shows a notice on whichever screen is in front."""
        if isinstance(self.screen, ActionScreen):
            self.screen.show_notice(words, role)

    def _retitle(self) -> None:
        """Shows in the title of the window what the screen in front shows."""
        if isinstance(self.screen, ActionScreen):
            self.window_title.show(self.screen.window_title)

    def back(self) -> None:
        """Returns to the previous screen; the first one stays."""
        if len(self.screen_stack) > 2:
            self.pop_screen()

    def write_raw(self, data: str) -> None:
        """Writes to the terminal outside the screen: a bell or a notification, made here from harmless text only."""
        if self._driver is not None:
            self._driver.write(data)


def _demos_result(options: Options) -> list[str]:
    """What is printed after the screen of a demo that is done: what it changed, and how to talk to its model."""
    if not options.demo:
        return []
    from sft_tui import demo

    story, lang = demo.shown_for(demo.STORIES[options.demo]), options.lang
    if story.stage() != "done":
        return []
    return [*demo.result(story, demo.terminal_width(), lang), "", demo.demo_done(story, lang)]


def show(options: Options) -> NoReturn:
    """Runs the app, and ends this process with it; a crash gives one line and a file, without values of variables."""
    app = SftTuiApp(options)
    sys.setswitchinterval(SWITCH_SECONDS)
    # Our own loop: asyncio.run would wait for threads that are waiting for files or processes.
    code = app.run(mouse=True, loop=asyncio.new_event_loop())
    if app.background is not None:
        app.background.end()
    app.window_title.end(terminal.write)
    from sft_tui import left_running

    for line in [*_demos_result(options), *left_running.lines(options.logs, options.lang)]:
        echo(line)
    if app.crash:
        echo(say("screen.crashed", options.lang, path=app.crash), err=True)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))  # threads that wait for files must not delay the exit
