"""The screen of one run: follows its stream in a thread, and offers what the commands do."""

import os
import time
from dataclasses import replace

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import demo, event_text, runs
from sft_tui.event_text import status_name
from sft_tui.feed import Feed, FeedState
from sft_tui.screen import actions, chart_panel, fix_keys, log_panel, run_view
from sft_tui.screen.bottom import Question
from sft_tui.screen.charted import Charted
from sft_tui.screen.ink import Line, filled, plain
from sft_tui.screen.log_screen import LogScreen
from sft_tui.screen.run_actions import RunActions
from sft_tui.screen.run_contents import RunView
from sft_tui.screen.run_layout import ALL, PANELS, Area, Scroll
from sft_tui.screen.run_pages import RunPages
from sft_tui.text import safe

QUIET_SECONDS = 5.0  # without a key; after that the user is assumed to be only watching
OF_RUN = ("stop", "pause", "now", "resume", "copy", *actions.PAGES)  # actions that need the run's state
OF_PANEL = {action: name for name, panel in PANELS.items() for action in panel.actions}
WIDEST_COPY = 400  # columns of a page that is copied
PIECE_PAUSE = 0.01  # seconds between two pieces of a long log, to leave time to other threads


class RunScreen(RunActions, RunPages, LogScreen):
    """The screen of one run."""

    scope = actions.RUN

    def __init__(self, name: str) -> None:
        super().__init__()
        self.about = name
        self.latest: FeedState | None = None
        self.fault = ""
        self._first_size = 0
        self._of_living: Question | None = None  # a question about a run that is alive

    def on_mount(self) -> None:
        """Begins to follow the run."""
        self.draw()
        self.follow()

    @work(thread=True, exclusive=True, group="feed")
    def follow(self) -> None:
        """Reads what the run writes, piece by piece, and draws at most once per tick."""
        worker, options = get_current_worker(), self.services.options
        try:
            feed = Feed(runs.find(options.logs, self.about), options.lang)
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
            if changed and (now - drawn >= options.tick or not feed.behind or not drawn):
                drawn = now
                self.app.call_from_thread(self.show_latest, feed.latest())
            time.sleep(PIECE_PAUSE if feed.reading else options.tick)

    def relabel(self) -> None:
        """Reads the log again for another language."""
        super().relabel()
        self.follow()

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out: the run's state is unknown or unsuitable, or its panel is hidden."""
        lang, latest, page = self.services.options.lang, self.latest, self.selection.page
        if name not in (*OF_RUN, *OF_PANEL):
            return super().why_disabled(name)
        if latest is None:
            return self.fault or InputError("run_unread", name=self.about).message.text(lang)
        panel = OF_PANEL.get(name, page)
        if page not in (ALL, panel):
            return say(f"screen.no_{panel}", lang)
        return self._refusal(name, latest) or super().why_disabled(name)

    def _refusal(self, name: str, latest: FeedState) -> str:
        """Why a run in this state cannot accept a request; empty if it can. All is known as of the same moment."""
        lang, run = self.services.options.lang, latest.run
        paused = not run.alive and run.status == runs.PAUSED
        if name in ("stop", "now") or (name == "pause" and not paused):
            ended = InputError("run_not_running", run=run.name, status=run.status)
            return "" if run.alive else fix_keys.with_keys(ended.message.text(lang))
        if name in ("resume", "pause"):
            running = InputError("run_running", run=run.name).message if run.alive else None
            message = running or latest.facts.why_not_resumable
            return fix_keys.with_keys(message.text(lang)) if message is not None else ""
        return ""

    def show_latest(self, latest: FeedState | None) -> None:
        """Draws what is new, and rings the bell if the run has ended."""
        before, self.latest = self.latest, latest
        self.alive = latest.run.alive if latest is not None else None
        if before is not None and latest is not None:
            self._keep_place(before, latest)
            if before.run.alive and not latest.run.alive:
                self.notice = ("", "")  # the notice that it was asked to stop
                if self.question is self._of_living:
                    self.question = None  # the question whether to stop it
                self._over(latest.run)
        if self.in_front:
            self.draw()

    def _keep_place(self, before: FeedState, now: FeedState) -> None:
        """Keeps a scrolled-back view in place while the run continues."""
        lines, last = 0, log_panel.last_seen(self._shown(before))
        if last is not None:
            lines = log_panel.back_to(self._shown(now), last).log_back - self.selection.log_back
        steps = now.curves.of["loss"].last - before.curves.of["loss"].last
        self.selection = self.selection.kept(lines, max(0, steps))

    def _over(self, run: runs.Run) -> None:
        """Rings the bell, and shows what comes after a half of the demo."""
        lang = self.services.options.lang
        self.ring(status_name(run.status, lang))
        if run.status != "finished":
            return
        if run.record.continued:
            self.await_next(run.record.preset)
        elif (story := demo.STORIES.get(run.record.preset)) is not None and story.stage() == "done":
            self.notice = (say("screen.demo_over", lang), "accent")

    @work(thread=True, exclusive=True, group="next")
    def await_next(self, preset: str) -> None:
        """Waits for the next run of a demo, which the supervisor of this one starts."""
        story = demo.story_of(preset)
        if story is None:
            return
        try:
            run = demo.await_next(self.services.options.logs, story, self.services.options.lang)
        except InputError as error:
            self.app.call_from_thread(self.show_notice, error.message.text(self.services.options.lang), "bad")
            return
        if run:
            self.app.call_from_thread(self._continued, run)

    def _continued(self, run: str) -> None:
        """Switches to the demo's second half, unless the user is doing something."""
        if self.in_front and self.question is None and time.monotonic() - self.pressed > QUIET_SECONDS:
            self.services.open_run(run)
        else:
            self.services.notify_here(say("screen.demo_next", self.services.options.lang, run=safe(run, 40)))

    def ring(self, status: str) -> None:
        """Rings the bell, and sends a notification to terminals that show them."""
        words = safe(f"{self.about}: {status}", 80)
        self.services.write_raw("\a" + notification(words))

    def view(self, width: int, height: int) -> list[Line]:
        """The run, or why it cannot be shown."""
        latest = self.latest
        if self.fault:
            return filled([[(f" {safe(self.fault, 600)}", "bad")]], width, height)
        if latest is None:
            return filled([[(f" {safe(self.about, 60)} …", "dim")]], width, height)
        self._first_size = max(self._first_size, latest.behind)
        read = 1 - latest.behind / self._first_size if latest.behind else 1.0
        shown = self._shown(latest, read)
        self.selection = run_view.within_limits(shown, width, height)
        return run_view.draw(replace(shown, selection=self.selection), width, height)

    def _shown(self, latest: FeedState, read: float = 1.0) -> RunView:
        run, curves, log, how = latest.run, latest.curves, latest.log, self.services.options
        return RunView(
            run,
            curves,
            log,
            self.selection,
            how.ink,
            how.lang,
            read,
            time.time(),
            latest.earlier,
            self.found,
            self.searched,
            latest.facts,
        )

    def contents(self) -> RunView | None:
        """All that the screen shows; None before anything is known."""
        return self._shown(self.latest) if self.latest is not None else None

    def charted(self) -> Charted | None:
        """The run's curves."""
        return chart_panel.charted(self._shown(self.latest)) if self.latest is not None else None

    def chart_size(self) -> tuple[int, int]:
        """Columns and lines of the chart with its frame; 0 of both if it is not shown."""
        width, height = self.app.size
        if self.latest is None:
            return 0, 0
        shown = self._shown(self.latest)
        panel = run_view.size_of("chart", shown, width, height - 1)
        return chart_panel.main_size(shown, *panel) if panel[0] else panel

    def move(self, by: int) -> None:
        """Scrolls the panel that fills the screen, or the log if all are shown."""
        self._scroll(PANELS["log" if self.selection.page == ALL else self.selection.page].keys, by)

    def _scroll(self, scroll: Scroll | None, by: int) -> None:
        if scroll is not None and self.latest is not None:
            self.selection = scroll(self._shown(self.latest), by)

    def do_back(self) -> None:
        """Clears the search of the log if there is one; else leaves this screen."""
        if self.selection.search and not self.cursor_shown:
            self._searched("")
        else:
            super().do_back()

    def _area_at(self, x: int, y: int) -> Area | None:
        if self.latest is None:
            return None
        width, height = self.app.size
        return run_view.area_at(self._shown(self.latest), width, height - 1, x, y)

    def clicked(self, x: int, y: int) -> None:
        """Makes the clicked panel fill the screen, or shows all panels again if it already does."""
        area = self._area_at(x, y)
        if area is not None:
            self.open_page(ALL if self.selection.page != ALL else area.name)
            self.draw()

    def wheeled(self, x: int, y: int, by: int) -> None:
        """Zooms or scrolls the panel under the wheel."""
        area = self._area_at(x, y)
        if area is not None:
            self._scroll(area.panel.wheel, by)
            self.draw()

    def do_copy(self) -> None:
        """Copies the page in front; the certificate, or the log, where all panels are shown."""
        if self.latest is None:
            return
        end, page = self.latest.run.state.ended, self.selection.page
        if page != ALL and (whole := PANELS[page].whole) is not None:
            words = "\n".join(plain(line) for line in whole(self._shown(self.latest), WIDEST_COPY))
        elif end is not None and not self.latest.run.alive:
            words = "\n".join(line for _, line in event_text.ended_lines(end, self.services.options.lang))
        else:
            words = log_panel.copied(self.latest.log, self.selection)
        self.copy(words)

    def shown_run(self) -> runs.Run:
        """The run as of the last look at its files."""
        if self.latest is None:
            raise InputError("run_unread", name=self.about)
        return self.latest.run

    def chosen(self) -> runs.Run:
        """The run's current state, without reading its log here; raises InputError if it is not known yet."""
        shown = self.shown_run()
        run_dir = shown.run_dir
        record = run_dir.read_record()
        if shown.alive:  # the thread that follows it may have seen that on another machine's streams alone
            return replace(shown, record=record, alive=runs.lives(run_dir, record, shown.state))
        return replace(shown, record=record, alive=runs.is_alive(run_dir, record))

    def _asking(self, question: str, said: str, **how: object) -> None:
        run = self.chosen()
        if not run.alive:
            raise InputError("run_not_running", run=run.name, status=run.status)
        lang = self.services.options.lang

        def answered(key: str) -> None:
            if key != "y":
                return
            try:
                runs.stop(run, **how)  # type: ignore[arg-type]
                self.show_notice(say(said, lang))
            except InputError as error:
                self.show_notice(error.message.text(lang), "bad")

        self._of_living = Question(say(question, lang, run=safe(run.name, 40)), answered)
        self.ask(self._of_living)

    def do_stop(self) -> None:
        """Asks whether to save and stop."""
        self._asking("screen.ask_stop", "app.stopping", why="stop")

    def do_now(self) -> None:
        """Asks whether to end without saving."""
        self._asking("screen.ask_now", "app.ending", now=True)

    def do_pause(self) -> None:
        """Asks whether to pause; continues a paused run."""
        run = self.chosen()
        if not run.alive and run.status == runs.PAUSED:
            self.resume_with(run, {})
            return
        self._asking("screen.ask_pause", "app.pausing", why="pause")

    def do_resume(self) -> None:
        """Resumes a run that ended."""
        self.resume_with(self.chosen(), {})

    @property
    def window_title(self) -> str:
        """The run, and how much of it is done."""
        step = self.latest.run.state.step if self.latest is not None else None
        share = f" {100 * step.step // step.steps_total} %" if step is not None and step.steps_total else ""
        return safe(self.about, 60) + share


def notification(words: str) -> str:
    """The sequence that shows `words`, which are harmless, as a desktop notification (OSC 9); tmux may pass it on."""
    sequence = f"\x1b]9;sft-tui · {words}\x1b\\"
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\" if os.environ.get("TMUX") else sequence
