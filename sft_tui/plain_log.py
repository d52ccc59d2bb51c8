"""`logs/<run>.log`: what `sft-tui logs` prints, written while the run writes it, for `tail -f`."""

import io
import os
from pathlib import Path

from engine.contract.events import Record
from engine.contract.files import open_to_append
from engine.contract.messages import Lang
from sft_tui.headless import PlainView
from sft_tui.locale import say


class PlainLog:
    """Appends a run's lines to its plain log, all of one event with one write.

    A write that fails loses lines and never disturbs the run: they are counted, and a line marks the gap as soon as
    writing works again. `why` says why the file cannot be written at all; it is empty where it can.
    """

    def __init__(self, path: Path, lang: Lang) -> None:
        self.why = ""
        self._lang = lang
        self._lost = 0
        self._buffer = io.StringIO()
        self._view = PlainView(lang, self._buffer, self._buffer)
        try:
            self._fd = open_to_append(path)
            self._torn = not _ends_with_newline(self._fd)
        except OSError as error:
            self._fd, self.why = -1, error.strerror or str(error)

    def show(self, record: Record) -> None:
        """Writes what there is to say of an event."""
        if self._fd < 0:
            return
        self._view.show(record)
        text = self._buffer.getvalue()
        if not text:
            return
        self._buffer.seek(0)
        self._buffer.truncate()
        gap = say("plain_log_gap", self._lang, lost=self._lost) + "\n" if self._lost else ""
        self._lost = 0 if self._append(gap + text) else self._lost + text.count("\n")

    def close(self) -> None:
        """Closes the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, text: str) -> bool:
        data = b"\n" * self._torn + text.encode("utf-8", "backslashreplace")
        try:
            written = os.write(self._fd, data)
        except OSError:
            return False
        if written:
            self._torn = data[written - 1] != ord("\n")
        return written == len(data)


def _ends_with_newline(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"
