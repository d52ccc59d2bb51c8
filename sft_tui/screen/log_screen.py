"""What the screen of a run does with its log: level, folds, and a search that also reads what is not held in memory."""

import time
from dataclasses import replace

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import runs
from sft_tui.feed import LEVELS
from sft_tui.log_lines import LogLine
from sft_tui.log_search import LogSearch
from sft_tui.screen import log_panel, run_view
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.text import safe

SHOWN_SECONDS = 0.3  # between two drawings of what a search has found
OF_HITS = ("next_hit", "previous_hit")
SEARCH_PAUSE = 0.002  # seconds between two pieces, to leave time to keys


class LogScreen(CanvasScreen):
    """The part of a run's screen that is about its log."""

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()
        self.found: tuple[LogLine, ...] = ()  # by the search, in the whole log
        self.searched = 1.0  # share of the log

    def contents(self) -> RunView | None:
        """All that the screen shows; None before anything is known."""
        raise NotImplementedError

    def _log_size(self, view: RunView) -> tuple[int, int]:
        """Columns and lines of the log on the screen, or of a page of it."""
        width, height = self.app.size
        areas = run_view.areas_of(view, width, height - 1)
        return next((area.inside for area in areas if area.name == "log"), (width - 4, height - 3))

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out: without words to search for, the log has no hits."""
        if name in OF_HITS and not self.selection.search:
            return say("screen.no_search", self.services.options.lang)
        return super().why_disabled(name)

    def do_level(self) -> None:
        """Shows another level of the log."""
        self.selection = replace(self.selection.next("level", LEVELS), log_back=0, hit=None)
        if self.selection.search:
            self._search_all()

    def do_unfold(self) -> None:
        """Shows what the folded lines on the screen stand for, or folds all again."""
        view = self.contents()
        if view is not None:
            self.selection = log_panel.unfolded(view, *self._log_size(view))

    def do_search(self) -> None:
        """Asks for the text to search."""
        lang = self.services.options.lang
        self.ask(Question(say("screen.search", lang), self._searched, typed=self.selection.search))

    def _searched(self, words: str) -> None:
        self.selection = replace(self.selection, search=words, hit=None)
        self._search_all()
        self._to_hit(0)

    def do_next_hit(self) -> None:
        """Moves to the next line that has the words searched for."""
        self._to_hit(1)

    def do_previous_hit(self) -> None:
        """Moves to the previous line that has them."""
        self._to_hit(-1)

    def _to_hit(self, by: int) -> None:
        view = self.contents()
        if view is None or not self.selection.search:
            return
        self.selection = log_panel.to_hit(view, by, *self._log_size(view))
        if self.selection.hit is None and self.searched >= 1:
            words = safe(self.selection.search, 40)
            key = "screen.no_line" if self.selection.level == "all" else "screen.no_line_shown"
            self.show_notice(say(key, self.services.options.lang, words=words), "warn")

    def _search_all(self) -> None:
        """Begins to search the whole log, if any part of it is not held."""
        view = self.contents()
        self.found, self.searched = (), 1.0
        self.workers.cancel_group(self, "search")
        if view is not None and self.selection.search and not view.earlier.is_whole:
            self.searched = 0.0
            self.search(self.selection.search, self.selection.level)

    @work(thread=True, exclusive=True, group="search")
    def search(self, words: str, level: str) -> None:
        """Searches the stream piece by piece, and shows what was found so far."""
        worker, options, shown = get_current_worker(), self.services.options, 0.0
        try:
            search = LogSearch(runs.find(options.logs, self.about), words, level, options.lang)
            while not worker.is_cancelled and not search.is_over:
                search.read()
                if search.is_over or time.monotonic() - shown > SHOWN_SECONDS:
                    shown = time.monotonic()
                    share = 1.0 if search.is_over else search.share
                    self.app.call_from_thread(self._show_found, words, level, tuple(search.found), share)
                time.sleep(SEARCH_PAUSE)
        except InputError:  # the log can no longer be read, which the screen shows
            self.app.call_from_thread(self._show_found, words, level, (), 1.0)

    def _show_found(self, words: str, level: str, found: tuple[LogLine, ...], share: float) -> None:
        if (words, level) != (self.selection.search, self.selection.level):
            return
        view = self.contents()
        last = log_panel.last_seen(view) if view is not None else None
        self.found, self.searched = found, share
        view = self.contents()
        if view is not None and last is not None:  # what was found above it does not move it
            self.selection = log_panel.back_to(view, last)
        if self.selection.hit is None:
            self._to_hit(0)
        if self.in_front:
            self.draw()
