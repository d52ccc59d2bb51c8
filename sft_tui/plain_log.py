"""`logs/<run>.log`: the lines of `sft-tui logs`, written while the run is in progress, for `tail -f`."""

import contextlib
import io
import os
from pathlib import Path

from engine.contract.events import Record
from engine.contract.files import open_to_append, read_end
from engine.contract.rundir import RunDir
from engine.contract.texts import LANGS, Lang, say
from sft_tui.headless import PlainView
from sft_tui.history import Follower

MOST_MISSED = 16 << 20  # bytes of the stream that the log can lack: since the last snapshot, up to 20 s
TAIL_BYTES = 64 << 10  # of the log's end, searched to find its position in the stream


class PlainLog:
    """Appends a run's lines to its plain log, those of one event in one write.

    A failed write loses lines and never disturbs the run: they are counted, and a line marks the gap as soon as writing
    works again. `why` says why the file cannot be written at all; it is empty if it can.
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
        """Writes the lines of an event."""
        if self._fd < 0:
            return
        self._view.show(record)
        text = self._buffer.getvalue()
        if not text:
            return
        self._buffer.seek(0)
        self._buffer.truncate()
        gap = say("app.plain_log_gap", self._lang, lost=self._lost) + "\n" if self._lost else ""
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


def complete(run_dir: RunDir, lang: Lang) -> None:
    """Appends the lines that the log lacks because its writer was killed; the caller must hold the run's lock.

    The writer saves the snapshot only when the log is complete up to it, so any missing lines come after it. A log that
    does not exist is not created: somebody removed it on purpose.
    """
    try:
        *had, _torn = read_end(run_dir.plain_log, TAIL_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return
    both: list[Lang] = [lang, *(other for other in LANGS if other != lang)]
    missing = min((_missing(run_dir, one, had) for one in both), key=len)
    if missing:
        with contextlib.suppress(OSError):
            fd = open_to_append(run_dir.plain_log)
            try:
                text = "".join(f"{line}\n" for line in missing)
                os.write(fd, b"\n" * (not _ends_with_newline(fd)) + text.encode("utf-8", "backslashreplace"))
            finally:
                os.close(fd)


def _missing(run_dir: RunDir, lang: Lang, had: list[str]) -> list[str]:
    """The lines in `lang` of the events after the snapshot, without those that the log already `had` at its end."""
    follower, out = Follower(run_dir), io.StringIO()
    view = PlainView(lang, out, out, follower.state)
    for record in follower.poll(MOST_MISSED):
        view.show(record)
    lines = out.getvalue().split("\n")[:-1]
    return lines[max(range(len(lines) + 1), key=lambda place: _lines_in_common(lines, place, had)) :]


def _lines_in_common(lines: list[str], place: int, had: list[str]) -> int:
    """How many of the lines before `place` are also the last lines of the log."""
    most = min(place, len(had))
    return next((count for count in range(most) if lines[place - 1 - count] != had[-1 - count]), most)


def _ends_with_newline(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"
