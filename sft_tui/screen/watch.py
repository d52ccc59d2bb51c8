"""The screen of one run: follows its stream in a thread, and does what the commands do."""

import time
from dataclasses import replace

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from sft_tui import headless, runs, starting
from sft_tui.curves import METRICS
from sft_tui.feed import LEVELS, Feed
from sft_tui.locale import say, status_name
from sft_tui.screen import actions, run_view
from sft_tui.screen.app import Drawn, Question
from sft_tui.screen.ink import Line, filled
from sft_tui.screen.run_view import Look, View
from sft_tui.text import safe

PIECE_PAUSE = 0.01  # seconds between two pieces of a long log, for whoever else waits for the processor


class RunScreen(Drawn):
    """One run."""

    scope = actions.RUN

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name_of_run = name
        self.look = Look()
        self.feed: Feed | None = None
        self.fault = ""
        self._was_alive = False
        self._first_size = 0

    def on_mount(self) -> None:
        """Begins to follow the run."""
        self.draw()
        self.follow()

    @work(thread=True, exclusive=True, group="feed")
    def follow(self) -> None:
        """Takes in what the run writes, piece by piece, and draws at most once a tick."""
        worker, options = get_current_worker(), self.desk.options
        try:
            feed = Feed(runs.find(options.logs, self.name_of_run), options.lang)
        except InputError as error:
            self.fault = error.message.text(options.lang)
            self.app.call_from_thread(self.draw)
            return
        drawn = 0.0
        while not worker.is_cancelled:
            try:
                changed = feed.poll()
            except InputError as error:
                self.fault = error.message.text(options.lang)
                self.app.call_from_thread(self.draw)
                return
            now = time.monotonic()
            if changed and (now - drawn >= options.tick or not feed.behind or self.feed is None):
                drawn = now
                self.feed = feed
                self.app.call_from_thread(self.told)
            time.sleep(PIECE_PAUSE if feed.behind else options.tick)

    def told(self) -> None:
        """Draws what is new, and rings where the run has ended."""
        run = self.feed.run if self.feed else None
        if run is not None:
            if self._was_alive and not run.alive:
                self.ring(status_name(run.status, self.desk.options.lang))
            self._was_alive = run.alive
        if self.is_current:
            self.draw()

    def ring(self, status: str) -> None:
        """A bell, and a notification for terminals that show them (OSC 9)."""
        words = safe(f"{self.name_of_run}: {status}", 80)
        self.desk.write_raw(f"\a\x1b]9;sft-tui · {words}\x1b\\")

    def view(self, width: int, height: int) -> list[Line]:
        """The run, or why it cannot be shown."""
        lang = self.desk.options.lang
        if self.fault:
            return filled([[(f" {safe(self.fault, 600)}", "bad")]], width, height)
        shown = self.shown()
        if shown is None:
            return filled([[(f" {safe(self.name_of_run, 60)} …", "dim")]], width, height)
        return run_view.draw(replace(shown, lang=lang), width, height)

    def shown(self) -> View | None:
        """All that is shown; None while nothing was read."""
        feed = self.feed
        if feed is None or feed.run is None:
            return None
        total = feed.behind + 1
        read = 1.0
        if feed.behind:
            self._first_size = max(self._first_size, total)
            read = 1 - total / (self._first_size + 1)
        run = replace(feed.run, state=feed.state)
        ink, lang = self.desk.options.ink, self.desk.options.lang
        return View(run, feed.curves, list(feed.log), self.look, ink, lang, read, time.time())

    @property
    def _steps(self) -> int:
        return max(1, self.feed.curves.of[self.look.metric].last) if self.feed else 1

    def do_metric(self) -> None:
        """Another curve."""
        self.look = self.look.next("metric", METRICS)

    def do_log_scale(self) -> None:
        """Logarithmic or linear."""
        self.look = replace(self.look, log_scale=not self.look.log_scale)

    def do_zoom_in(self) -> None:
        """Fewer steps."""
        self.look = self.look.zoomed(0.5, self._steps)

    def do_zoom_out(self) -> None:
        """More steps."""
        self.look = self.look.zoomed(2.0, self._steps)

    def do_pan_left(self) -> None:
        """Earlier steps."""
        self.look = self.look.panned(1, self._steps)

    def do_pan_right(self) -> None:
        """Later steps."""
        self.look = self.look.panned(-1, self._steps)

    def do_tail(self) -> None:
        """The newest steps, or all."""
        window = 0 if self.look.window else min(self._steps, 200)
        self.look = replace(self.look, window=window, back=0)

    def do_level(self) -> None:
        """Another level of the log."""
        self.look = replace(self.look.next("level", LEVELS), log_back=0)

    def do_search(self) -> None:
        """Asks for a text."""
        self.ask(Question(say("ui_search", self.desk.options.lang), self._searched, typed=self.look.search))

    def _searched(self, words: str) -> None:
        self.look = replace(self.look, search=words, log_back=0)

    def do_page(self) -> None:
        """Another panel."""
        self.look = self.look.next("page", run_view.PAGES)

    def move(self, by: int) -> None:
        """Back and on in the log."""
        lines = len(run_view.matching(self.feed.log, self.look)) if self.feed else 0
        self.look = replace(self.look, log_back=min(max(0, self.look.log_back - by), max(0, lines - 1)))

    def do_copy(self) -> None:
        """Copies the certificate, or the log that is shown."""
        if self.feed is None or self.feed.run is None:
            return
        end = self.feed.state.ended
        if end is not None and not self.feed.run.alive:
            words = "\n".join(line for _, line in headless.ended_lines(end, self.desk.options.lang))
        else:
            words = "\n".join(f"{line.at} {line.text}" for line in run_view.matching(self.feed.log, self.look))
        self.copy(words)

    def _living(self) -> runs.Run:
        """The run as it is, without reading its log here; raises InputError where it is not known yet."""
        known = self.feed.run if self.feed is not None else None
        if self.feed is None or known is None:
            raise InputError("run_unread", name=self.name_of_run)
        record = known.run_dir.read_record()
        return runs.Run(known.run_dir, record, self.feed.state, runs.is_alive(known.run_dir, record))

    def _asking(self, question: str, said: str, **how: object) -> None:
        run = self._living()
        if not run.alive:
            raise InputError("run_not_running", run=run.name, status=run.status)
        lang = self.desk.options.lang

        def answered(key: str) -> None:
            if key != "y":
                return
            try:
                runs.stop(run, **how)  # type: ignore[arg-type]
                self.tell(say(said, lang))
            except InputError as error:
                self.tell(error.message.text(lang), "bad")

        self.ask(Question(say(question, lang, run=safe(run.name, 40)), answered))

    def do_stop(self) -> None:
        """Asks whether to save and stop."""
        self._asking("ui_ask_stop", "stopping", why="stop")

    def do_now(self) -> None:
        """Asks whether to end without saving."""
        self._asking("ui_ask_now", "ending", now=True)

    def do_pause(self) -> None:
        """Asks whether to pause; goes on with a paused run."""
        run = self._living()
        if not run.alive and run.status == runs.PAUSED:
            self._go_on({})
            return
        self._asking("ui_ask_pause", "pausing", why="pause")

    def do_resume(self) -> None:
        """Goes on with a run that ended."""
        run = self._living()
        if run.alive:
            raise InputError("run_running", run=run.name)
        self._go_on({})

    def do_fix(self) -> None:
        """Goes on with what mends the end."""
        self._go_on(starting.fix_of(self._living()))

    def _go_on(self, fix: dict[str, object]) -> None:
        run = self._living()
        record = starting.plan_resume(run.record, {}, fix=fix)
        if starting.is_finished(record):
            raise InputError(
                "resume_finished",
                run=run.name,
                steps_total=starting.steps_of(record),
                resume_option=f"sft-tui resume {run.name}",
                fresh_option=record.fresh_option,
            )
        starting.start(self.desk.options.logs, record)
        self.tell(say("ui_going_on", self.desk.options.lang, run=safe(run.name, 40)))
