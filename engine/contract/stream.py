"""The log stream on disk: an append-only writer and a reader that survives whatever it finds."""

import datetime
import errno
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

from engine.contract.events import MAX_LINE_BYTES, Envelope, Event, Record, Warning, decode, encode
from engine.contract.messages import Message

READ_BYTES = 1 << 20
Listener = Callable[[Record], None]


class EventWriter:
    """Appends events to a stream, each with one write.

    A write that fails (a full disk, say) stops the log and not the caller: the events are counted, and a warning
    marks the gap as soon as writing works again.
    """

    def __init__(self, path: Path, src: str, attempt: int, listener: Listener | None = None) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._src, self._attempt, self._listener = src, attempt, listener
        self._seq = itertools.count(1)
        self._lost, self._why = 0, ""
        self._torn = not _ends_with_newline(self._fd)

    def write(self, event: Event) -> None:
        """Appends `event`; never raises for the sake of the disk."""
        if self._lost and self._append(self._gap()):
            self._lost = 0
        record = Record(self._envelope(), event)
        if self._lost or not self._append(record):
            self._lost += 1
        if self._listener is not None:
            try:
                self._listener(record)
            except (OSError, ValueError):  # a viewer that lost its terminal is no reason to stop
                self._listener = None

    def close(self) -> None:
        """Closes the file; the writer is of no use afterwards."""
        os.close(self._fd)

    def _gap(self) -> Record:
        return Record(self._envelope(), Warning(Message.of("log_gap", lost=self._lost, why=self._why)))

    def _append(self, record: Record) -> bool:
        line = b"\n" * self._torn + encode(record)
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._why = error.strerror or errno.errorcode.get(error.errno or 0, "")
            return False
        self._torn = written < len(line)
        self._why = "short write"
        return not self._torn

    def _envelope(self) -> Envelope:
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        return Envelope(now, round(time.monotonic(), 6), self._attempt, self._src, next(self._seq))


def _ends_with_newline(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"


class EventReader:
    """Reads a stream as it grows; starts over where the file was cut or replaced, skips what is no event."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = (0, 0)
        self._offset = 0
        self._seen = b""  # the last bytes read: an inode may come back with another file
        self._rest = b""
        self._skipping = False  # inside a line longer than any event
        self.malformed = 0

    def poll(self) -> list[Record]:
        """The records written since the last call; [] where there is no file."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._identity = (0, 0)
            return []
        records: list[Record] = []
        try:
            status = os.fstat(fd)
            identity = (status.st_dev, status.st_ino)
            seen = os.pread(fd, len(self._seen), self._offset - len(self._seen))
            if identity != self._identity or seen != self._seen:
                self._identity, self._offset, self._rest, self._skipping, self._seen = identity, 0, b"", False, b""
            while chunk := os.pread(fd, READ_BYTES, self._offset):
                self._offset += len(chunk)
                self._seen = (self._seen + chunk)[-256:]
                records += self._take(chunk)
        except OSError:  # what was read before is not read again
            pass
        finally:
            os.close(fd)
        return records

    def _take(self, chunk: bytes) -> list[Record]:
        *lines, rest = (self._rest + chunk).split(b"\n")
        records = []
        for line in lines:
            if self._skipping:
                self._skipping = False
                continue
            record = decode(line) if len(line) < MAX_LINE_BYTES else None
            if record is not None:
                records.append(record)
            elif line.strip():
                self.malformed += 1
        if len(rest) >= MAX_LINE_BYTES:  # no event is that long: do not hold it
            self.malformed += not self._skipping
            self._skipping, rest = True, b""
        self._rest = rest
        return records


def last_attempt(path: Path) -> int:
    """The number of the newest attempt in a stream, 0 where there is none; reads the end of the file only."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4 * MAX_LINE_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return 0
    return max((record.envelope.attempt for line in lines if (record := decode(line))), default=0)
