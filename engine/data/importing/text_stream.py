"""Lines of text files: numbered, and given back where a reader went too far."""

import codecs
import io
from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TextIO

CHUNK = 1 << 20  # characters read at a time
LONGEST_RECORD = 64 << 20  # characters
TOO_LONG = "\0TOO LONG\n"


def _undecoded(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no text become lone surrogates, by which a record with them is known."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("undecoded", _undecoded)


def decoded(stream: BinaryIO, encoding: str) -> io.TextIOWrapper:
    """The text of a stream, line ends as they are; each byte that is no text is one lone surrogate."""
    return io.TextIOWrapper(stream, encoding, errors="undecoded", newline="")


class TextLines(Iterator[str]):
    """The physical lines of a file, with their ends; `taken` holds those since it was last cleared.

    What stands for a line that is too long is TOO_LONG.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._waiting: deque[str] = deque()
        self.number = 0  # of the line that was given out last, from 1
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
        """Has these lines, which were given out last, come again."""
        before = len(self._waiting)
        self._waiting.extendleft(reversed(list(lines)))
        self.number -= len(self._waiting) - before

    def ahead(self, count: int) -> list[str]:
        """Up to so many of the next lines, which come all the same."""
        while len(self._waiting) < count and (line := self._read()):
            self._waiting.append(line)
        return [self._waiting[place] for place in range(min(count, len(self._waiting)))]
