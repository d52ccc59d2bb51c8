"""The progress of a download: a bar on a terminal, else a line from time to time; on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine.contract.texts import Lang, say
from sft_tui.output import echo
from sft_tui.preflight.ask_engine import Progress
from sft_tui.text import safe, size

LINE_SECONDS = 10.0
LONGEST_NAME = 30  # characters


@contextmanager
def download_progress(lang: Lang) -> Iterator[Progress]:
    """A function that shows how many bytes of a model there are."""
    if not sys.stderr.isatty():
        yield _Lines(lang).show
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Progress(*columns, console=console, expand=True, transient=True) as bars:
        task = bars.add_task("", total=None, visible=False)

        def show(name: str, done: int, total: int) -> None:
            if total:
                bars.update(task, description=safe(name, LONGEST_NAME), completed=done, total=total, visible=True)

        yield show


class _Lines:
    """A line at the first news, and then every ten seconds."""

    def __init__(self, lang: Lang) -> None:
        self._lang, self._at = lang, 0.0

    def show(self, name: str, done: int, total: int) -> None:
        """Shows the progress, if it is time to."""
        now = time.monotonic()
        if total and (not self._at or now - self._at >= LINE_SECONDS):
            self._at = now
            counts = {"done": size(done), "total": size(total)}
            echo(say("model.fetching", self._lang, name=safe(name, LONGEST_NAME), **counts), err=True)
