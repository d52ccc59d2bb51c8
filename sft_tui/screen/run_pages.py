"""The pages of the screen of a run, each with its number as key."""

from dataclasses import replace

from sft_tui.screen.chart_screen import ChartScreen
from sft_tui.screen.run_layout import ALL, PAGES


class RunPages(ChartScreen):
    """A screen with the pages of a run."""

    def open_page(self, name: str) -> None:
        """Shows a page from its beginning."""
        if name != self.selection.page:
            self.selection = replace(self.selection, page=name, scrolled=0)

    def do_page(self) -> None:
        """Shows the next page."""
        self.open_page(PAGES[(PAGES.index(self.selection.page) + 1) % len(PAGES)])

    def do_page_all(self) -> None:
        """Shows all panels."""
        self.open_page(ALL)

    def do_page_settings(self) -> None:
        """Shows what the run was made of."""
        self.open_page("settings")

    def do_page_chart(self) -> None:
        """Shows the chart alone."""
        self.open_page("chart")

    def do_page_samples(self) -> None:
        """Shows the samples in full."""
        self.open_page("samples")

    def do_page_log(self) -> None:
        """Shows the log alone."""
        self.open_page("log")

    def do_page_machine(self) -> None:
        """Shows all readings of the machine."""
        self.open_page("machine")
