"""The app: opens its screens, and carries out the actions that they share."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from textual.app import App

from engine.contract.messages import InputError
from engine.contract.record import RunRecord
from engine.contract.texts import say
from sft_tui import demo, starting, text
from sft_tui.output import echo
from sft_tui.screen import actions, help_view, terminal
from sft_tui.screen.background import Background, summary
from sft_tui.screen.base import CanvasScreen, Options
from sft_tui.screen.ink import THEMES, Line

# A key passes through three threads, each of which may wait this long for the log reader; the default is 5 ms.
SWITCH_SECONDS = 0.001


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
    CSS = "Screen { background: ansi_default; }"
    INLINE_PADDING = 0

    def __init__(self, options: Options) -> None:
        super().__init__(ansi_color=True)
        self.options = options
        self.background: Background | None = None  # a command that runs behind the screen
        self._demo_begins = False
        self.crash = ""

    def _handle_exception(self, error: Exception) -> None:
        """Ends the app with a crash file, not a traceback on the terminal, which would show values of variables."""
        if not self.crash:
            self.crash = terminal.write_crash(error)
            self._return_code = 1
            self._close_messages_no_wait()

    def on_mount(self) -> None:
        """Opens the first screen."""
        terminal.end_on_signals(self.exit)
        from sft_tui.screen import launch_screen, run_screen

        # The app's own objects live until it ends: a garbage collection of all of them takes longer than drawing.
        gc.freeze()
        self.push_screen(launch_screen.LaunchScreen(self.options.demo))
        if self.options.run:
            self.push_screen(run_screen.RunScreen(self.options.run))
        if self.options.demo:
            self.begin_demo(self.options.demo)

    def do_palette(self) -> None:
        """Opens the palette over the screen in front."""
        from sft_tui.screen.palette import PaletteScreen

        if isinstance(self.screen, CanvasScreen):
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
        self.options = replace(self.options, ink=replace(self.options.ink, theme=following))

    def do_runs(self) -> None:
        """Opens the screen of all runs."""
        from sft_tui.screen.runs_screen import RunsScreen

        self._go_to(RunsScreen, RunsScreen)

    def do_launch(self) -> None:
        """Opens the screen for a new run."""
        from sft_tui.screen.launch_screen import LaunchScreen

        self._go_to(LaunchScreen, LaunchScreen)

    def open_run(self, name: str) -> None:
        """Shows a run."""
        from sft_tui.screen.run_screen import RunScreen

        self._go_to(RunScreen, lambda: RunScreen(name), name)

    def _go_to(self, kind: type[CanvasScreen], make: Callable[[], CanvasScreen], about: str = "") -> None:
        """Goes back to an open screen of this kind, so that they do not pile up, or else opens a new one."""
        open_ones = [s for s in self.screen_stack if isinstance(s, kind) and s.about == about]
        if not open_ones:
            self.push_screen(make())
            return
        while self.screen is not open_ones[-1]:
            self.pop_screen()

    def begin(self, record: RunRecord) -> starting.Started:
        """Starts a planned run; raises InputError, also if the run is already finished."""
        message = starting.why_nothing_to_do(record)
        if message is not None:
            raise InputError(message.code, **message.args)
        return starting.start(self.options.logs, record)

    def start_run(self, record: RunRecord) -> None:
        """Starts a planned run, and shows it; raises InputError."""
        self.open_run(self.begin(record).record.run)

    def begin_demo(self, preset: str) -> None:
        """Starts a demo, or finds its current stage, with a command that does not depend on this screen."""
        if self._demo_begins:
            return
        story = demo.STORIES[preset]
        run = story.current()
        if run:
            self.open_run(run)
            return
        self._demo_begins = True
        self.notify_here(say(f"app.{preset}_data", self.options.lang))

        def done(code: int, printed: str) -> None:
            self.call_from_thread(self._demo_begun, story, code, printed)

        options = ["--t5"] if story is demo.T5 else []
        Background(["demo", *options, "--detach", "--logs", str(self.options.logs)], self.options.lang, done)

    def _demo_begun(self, story: demo.Story, code: int, printed: str) -> None:
        self._demo_begins = False
        if code:
            self.notify_here(summary(printed), "bad")
            return
        story = demo.shown_for(story)
        run = story.current()
        if not run:
            self.notify_here(demo.demo_done(story, self.options.lang))
        elif self.screen_stack[-1] is self.screen_stack[1] and not self.typing:
            self.open_run(run)
        else:
            self.notify_here(say("screen.begun", self.options.lang, run=text.safe(run, 40)))

    @property
    def typing(self) -> bool:
        """Whether the screen in front has a question or an edit open, so that it must not be switched."""
        return isinstance(self.screen, CanvasScreen) and self.screen.question is not None

    def notify_here(self, words: str, role: str = "accent") -> None:
        """Shows a notice on whichever screen is in front."""
        if isinstance(self.screen, CanvasScreen):
            self.screen.show_notice(words, role)

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
    for line in _demos_result(options):
        echo(line)
    if app.crash:
        echo(say("screen.crashed", options.lang, path=app.crash), err=True)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))  # threads that wait for files must not delay the exit
