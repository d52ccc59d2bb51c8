"""The end of a file that a process appends to, as lines made harmless: bounded, and read again only if it changed."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from engine.contract.files import read_piece, unreadable
from sft_tui.text import safe

TAIL_BYTES = 256 << 10
MOST_LINES = 5000
LONGEST_LINE = 2000  # characters


@dataclass
class Tail:
    """The last lines of a file; `poll` brings them up to date."""

    path: Path
    lines: tuple[str, ...] = ()
    begins: tuple[int, ...] = ()  # where in the file each of them begins, in bytes
    cut: bool = False  # whether there is more before these lines
    _known: tuple[int, int] = (-1, -1)  # size and time of the file that was read

    def poll(self) -> bool:
        """Reads the file if it changed; returns whether it did. Raises InputError if it cannot be read."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unreadable(self.path, error) from None
        if (status.st_size, status.st_mtime_ns) == self._known:
            return False
        begin = max(0, status.st_size - TAIL_BYTES)
        try:
            found = read_piece(self.path, begin, TAIL_BYTES)
        except OSError as error:
            raise unreadable(self.path, error) from None
        self._known = status.st_size, status.st_mtime_ns
        self._take(found, begin)
        return True

    def _take(self, found: bytes, begin: int) -> None:
        lines = found.split(b"\n")
        begins = list(itertools.accumulate((len(line) + 1 for line in lines), initial=begin))[: len(lines)]
        if begin > 0:
            del lines[0], begins[0]  # begins in the middle
        if lines and not lines[-1]:
            del lines[-1], begins[-1]
        self.cut = begin > 0 or len(lines) > MOST_LINES
        self.begins = tuple(begins[-MOST_LINES:])
        self.lines = tuple(
            safe(_last_of(line.decode("utf-8", "replace")), LONGEST_LINE) for line in lines[-MOST_LINES:]
        )


def _last_of(line: str) -> str:
    """What a terminal would show of a line that a progress bar wrote over and over."""
    parts = [part for part in line.split("\r") if part.strip()]
    return parts[-1] if parts else ""
