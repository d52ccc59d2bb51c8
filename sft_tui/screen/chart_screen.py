"""The base of the screens that have a chart: its keys, the same wherever there is one."""

from dataclasses import replace

from sft_tui.curves import METRICS
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.charted import Charted
from sft_tui.screen.run_contents import Selection

TAIL_STEPS = 200


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

    def do_metric(self) -> None:
        """Shows the next curve."""
        self.selection = self.selection.next("metric", list(METRICS))

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
        """Moves to earlier steps."""
        self.selection = self.selection.panned(1, self._steps)

    def do_pan_right(self) -> None:
        """Moves to later steps."""
        self.selection = self.selection.panned(-1, self._steps)

    def do_tail(self) -> None:
        """Shows the newest steps, or all."""
        window = 0 if self.selection.window else min(self._steps, TAIL_STEPS)
        self.selection = replace(self.selection, window=window, back=0)
