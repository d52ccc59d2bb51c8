"""Lines of text files: numbered, and put back if a reader went too far."""

import codecs
import io
from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TextIO

CHUNK = 1 << 20  # characters read at a time
LONGEST_RECORD = 64 << 20  # characters
TOO_LONG = "\0TOO LONG\n"


def _undecoded(error: UnicodeError) -> tuple[str, int]:
    """Replaces undecodable bytes with lone surrogates, which mark the records that contain them."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("undecoded", _undecoded)


def decoded(stream: BinaryIO, encoding: str) -> io.TextIOWrapper:
    """The text of a stream, line ends unchanged; each undecodable byte becomes one lone surrogate."""
    return io.TextIOWrapper(stream, encoding, errors="undecoded", newline="")


class TextLines(Iterator[str]):
    """The physical lines of a file, with their ends; `taken` holds those since it was last cleared.

    TOO_LONG stands for a line that is too long.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._waiting: deque[str] = deque()
        self.number = 0  # of the last line returned, from 1
        self.taken: list[str] = []

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return line

    def _read(self) -> str:
        line = self._file.readline(LONGEST_RECORD)
        if len(line) < LONGEST_RECORD or line.endswith(("\n", "\r")):
            return line
        while line and not line.endswith(("\n", "\r")):
            line = self._file.readline(CHUNK)
        return TOO_LONG

    def back(self, lines: Iterable[str]) -> None:
        """Puts these lines, the last ones returned, back to be read again."""
        before = len(self._waiting)
        self._waiting.extendleft(reversed(list(lines)))
        self.number -= len(self._waiting) - before

    def ahead(self, count: int) -> list[str]:
        """Up to `count` of the next lines, without consuming them."""
        while len(self._waiting) < count and (line := self._read()):
            self._waiting.append(line)
        return [self._waiting[place] for place in range(min(count, len(self._waiting)))]
