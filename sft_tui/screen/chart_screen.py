"""The base of the screens that have a chart: its keys, the same wherever there is one."""

from dataclasses import replace

from engine.contract.texts import say
from sft_tui.screen import chart_panel, cursor_reading
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.charted import Charted
from sft_tui.screen.run_contents import SMOOTHINGS, Selection

TAIL_STEPS = 200
FAR_COLUMNS, FURTHER_COLUMNS = 5, 25  # that the cursor moves by


class ChartScreen(CanvasScreen):
    """A screen with a chart, whose keys change `selection`: the metric, the steps and how they are shown.

    To have one, a screen

    - derives from this class, and has its scope in `actions.PARTS` with `actions.CHART`, whose keys it then has;
    - returns from `charted` the curves of its chart, of one run or of several, by name;
    - returns from `chart_size` the columns and lines of the chart with its frame, which the cursor moves by;
    - draws it with `chart_panel.overlay(charted, self.selection, ink, lang, width, height)`, which uses all that
      the keys select; the screen of a run draws `chart_panel.draw`, with the run's newest figures;
    - says in `why_disabled` that the chart is not shown, for the names in `actions.names(actions.CHART)`;
    - calls `super()` in its own `why_disabled`, `do_back`, `do_page_up`, `do_page_down`, `do_oldest` and `do_newest`,
      if it has them: a cursor in the chart takes these keys.
    """

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()

    def charted(self) -> Charted | None:
        """The curves in the chart; None if there are none yet."""
        raise NotImplementedError

    def chart_size(self) -> tuple[int, int]:
        """Columns and lines of the chart with its frame."""
        raise NotImplementedError

    @property
    def _steps(self) -> int:
        charted = self.charted()
        return max(1, charted.steps) if charted is not None else 1

    @property
    def cursor_shown(self) -> bool:
        """Whether there is a cursor on the screen."""
        return bool(self.selection.cursor) and self.chart_size()[0] > 0

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out: it needs a cursor."""
        if name == "rows" and not self.cursor_shown:
            return say("screen.no_cursor", self.services.options.lang)
        return super().why_disabled(name)

    def do_metric(self) -> None:
        """Shows the next curve."""
        self._next_metric(1)

    def do_metric_back(self) -> None:
        """Shows the previous curve."""
        self._next_metric(-1)

    def _next_metric(self, by: int) -> None:
        charted = self.charted()
        if charted is not None:
            self.selection = self.selection.next("metric", charted.charts, by)

    def do_uncut(self) -> None:
        """Shows all values, or without the few that are far from the others."""
        self.selection = replace(self.selection, uncut=not self.selection.uncut)

    def do_smoother(self) -> None:
        """Takes the mean over more steps."""
        self._smooth(1)

    def do_rougher(self) -> None:
        """Takes the mean over fewer steps."""
        self._smooth(-1)

    def _smooth(self, by: int) -> None:
        place = SMOOTHINGS.index(self.selection.smoothing) + by
        self.selection = replace(self.selection, smoothing=SMOOTHINGS[min(len(SMOOTHINGS) - 1, max(0, place))])

    def do_cursor(self) -> None:
        """Shows a cursor at the newest step, or hides it."""
        charted = self.charted()
        if self.selection.cursor or charted is None or not charted.steps:
            self.selection = replace(self.selection, cursor=0)
        else:
            self.selection = charted.at(self.selection, charted.shown(self.selection)[1])

    def _move_cursor(self, by: int) -> None:
        charted = self.charted()
        if charted is not None:
            self.selection = charted.moved(self.selection, by, chart_panel.across(self.chart_size()[0]))

    def do_cursor_left(self) -> None:
        """Moves the cursor several columns to earlier steps."""
        self._from_cursor(-FAR_COLUMNS)

    def do_cursor_right(self) -> None:
        """Moves the cursor several columns to later steps."""
        self._from_cursor(FAR_COLUMNS)

    def _from_cursor(self, by: int) -> None:
        if not self.selection.cursor:
            self.do_cursor()
        self._move_cursor(by)

    def do_page_up(self) -> None:
        """Moves the cursor far to earlier steps; without one, a page up."""
        if self.cursor_shown:
            self._move_cursor(-FURTHER_COLUMNS)
        else:
            super().do_page_up()

    def do_page_down(self) -> None:
        """Moves the cursor far to later steps; without one, a page down."""
        if self.cursor_shown:
            self._move_cursor(FURTHER_COLUMNS)
        else:
            super().do_page_down()

    def do_oldest(self) -> None:
        """Moves the cursor to the first step; without one, to the first line."""
        self._to_step(1) if self.cursor_shown else super().do_oldest()

    def do_newest(self) -> None:
        """Moves the cursor to the newest step; without one, to the last line."""
        self._to_step(self._steps) if self.cursor_shown else super().do_newest()

    def _to_step(self, step: int) -> None:
        charted = self.charted()
        if charted is not None:
            self.selection = charted.at(self.selection, step)

    def do_spike_before(self) -> None:
        """Moves the cursor to the spike before it."""
        self._to_spike(-1)

    def do_spike_after(self) -> None:
        """Moves the cursor to the spike after it."""
        self._to_spike(1)

    def _to_spike(self, by: int) -> None:
        charted = self.charted()
        if charted is None:
            return
        first, last = charted.shown(self.selection)
        here = self.selection.cursor or (first if by > 0 else last)
        found = charted.spike(self.selection.metric, here, by)
        if found:
            self._to_step(found)
        else:
            self.show_notice(say("screen.no_spike", self.services.options.lang))

    def do_rows(self) -> None:
        """Shows the rows of the steps under the cursor."""
        charted = self.charted()
        if charted is not None:
            first, last = cursor_reading.steps(charted, self.selection, chart_panel.across(self.chart_size()[0]))
            self.services.open_rows(next(iter(charted.runs)), first, last)

    def do_back(self) -> None:
        """Hides the cursor if there is one; else leaves this screen."""
        if self.cursor_shown:
            self.selection = replace(self.selection, cursor=0)
        else:
            super().do_back()

    def do_log_scale(self) -> None:
        """Switches between logarithmic and linear."""
        self.selection = replace(self.selection, log_scale=not self.selection.log_scale)

    def do_zoom_in(self) -> None:
        """Shows fewer steps."""
        self.zoom(-1)

    def do_zoom_out(self) -> None:
        """Shows more steps."""
        self.zoom(1)

    def zoom(self, by: int) -> None:
        """Shows twice as many steps, or half of them if `by` is negative."""
        charted = self.charted()
        if charted is not None:
            self.selection = charted.zoomed(self.selection, by)

    def do_pan_left(self) -> None:
        """Moves the cursor, or without one the steps of the chart, to earlier ones."""
        if self.cursor_shown:
            self._move_cursor(-1)
        else:
            self.selection = self.selection.panned(1, self._steps)

    def do_pan_right(self) -> None:
        """Moves the cursor, or without one the steps of the chart, to later ones."""
        if self.cursor_shown:
            self._move_cursor(1)
        else:
            self.selection = self.selection.panned(-1, self._steps)

    def do_tail(self) -> None:
        """Shows the newest steps, or all."""
        window = 0 if self.selection.window else min(self._steps, TAIL_STEPS)
        self.selection = replace(self.selection, window=window, back=0)
