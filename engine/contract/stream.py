"""The log stream on disk: an append-only writer and a reader that survives any content."""

import datetime
import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from engine.contract.bounds import MOST_ATTEMPTS, Count, Number64, read_as
from engine.contract.events import MAX_LINE_BYTES, Envelope, Eval, Event, Record, Step, Warning, decode, encode
from engine.contract.files import end_of_hole, open_regular, open_to_append, read_end, unreadable
from engine.contract.messages import InputError, Message

READ_BYTES = 1 << 20
SEEN_BYTES = 256  # an inode may be reused by another file
Listener = Callable[[Record], None]


class EventWriter:
    """Appends events to a stream, each with one write.

    A failed write (because of a full disk, say) stops the log and not the caller: the events are counted, and a warning
    marks the gap as soon as writing works again. If the file cannot be opened, or is a link, the constructor raises
    OSError.
    """

    def __init__(self, path: Path, src: str, attempt: int, listener: Listener | None = None) -> None:
        self._fd = open_to_append(path)
        self.attempt = attempt
        self._src, self._listener = src, listener
        self._seq = itertools.count(1)
        self._lost, self._why = 0, ""
        self._torn = not _ends_with_newline(self._fd)
        self._one_at_a_time = threading.RLock()  # a rank's heartbeats come from a separate thread

    def write(self, event: Event) -> None:
        """Appends `event`; never raises because of the disk."""
        with self._one_at_a_time:
            self._write(event)

    def _write(self, event: Event) -> None:
        if self._lost and self._append(self._gap()):
            self._lost = 0
        record = Record(self._envelope(), event)
        if self._lost or not self._append(record):
            self._lost += 1
        if self._listener is not None:
            try:
                self._listener(record)
            except (OSError, ValueError):  # a viewer that lost its terminal is not a reason to stop
                self._listener = None

    def close(self) -> None:
        """Closes the file; the writer cannot be used afterwards."""
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
        return Envelope(now, round(time.monotonic(), 6), self.attempt, self._src, next(self._seq))


def _ends_with_newline(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"


@dataclass(frozen=True)
class Place:
    """How far a stream was read: the file, the offset, and the bytes just before it, which identify the file."""

    device: Number64 = 0
    inode: Number64 = 0
    offset: Count = 0
    seen: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"device": self.device, "inode": self.inode, "offset": self.offset, "seen": self.seen.hex()}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The place that `to_json` described; raises ValueError, TypeError or KeyError."""
        return read_as(cls, {**value, "seen": bytes.fromhex(value["seen"])})


class EventReader:
    """Reads a stream as it grows; starts over if the file was cut or replaced, and skips whatever is not an event."""

    def __init__(
        self, path: Path, place: Place | None = None, wanted: Callable[[bytes], bool] = lambda _line: True
    ) -> None:
        """`wanted` decides from a raw line whether it is decoded at all."""
        self._path, self._wanted = path, wanted
        self._place = place or Place()
        self._rest = b""
        self._skipping = False  # inside a line longer than any event
        self.malformed = 0
        self.restarts = 0  # how often the content read before became invalid
        self.begins: list[int] = []  # where in the file the lines of the last poll's records begin

    @property
    def place(self) -> Place:
        """How far complete lines were read."""
        kept, seen = len(self._rest), self._place.seen
        offset = self._place.offset - kept
        return replace(self._place, offset=offset, seen=seen[: len(seen) - kept] if kept < len(seen) else b"")

    def poll(self, most: int = 1 << 62) -> list[Record]:
        """The records written since the last call, about `most` bytes at a time; [] if the file does not exist.

        Raises InputError if it exists and cannot be opened, or is not a regular file.
        """
        try:
            fd = open_regular(self._path)
        except FileNotFoundError:
            self._place = replace(self._place, device=0, inode=0)
            self.begins = []
            return []
        except OSError as error:
            raise unreadable(self._path, error) from None
        records: list[Record] = []
        self.begins = []
        try:
            self._restart_if_replaced(fd)
            end = self._place.offset + most
            while (size := min(READ_BYTES, end - self._place.offset)) > 0 and (
                chunk := os.pread(fd, size, self._place.offset)
            ):
                offset, seen = self._place.offset + len(chunk), (self._place.seen + chunk)[-SEEN_BYTES:]
                if len(chunk) == size and not any(chunk):  # a hole, which may have terabytes, contains no lines
                    offset = end_of_hole(fd, offset)
                self._place = replace(self._place, offset=offset, seen=seen)
                records += self._records_of(chunk)
        except OSError:  # what was read before is not read again
            pass
        finally:
            os.close(fd)
        return records

    def _restart_if_replaced(self, fd: int) -> None:
        status, place = os.fstat(fd), self._place
        seen = os.pread(fd, len(place.seen), place.offset - len(place.seen)) if place.seen else b""
        if (status.st_dev, status.st_ino) == (place.device, place.inode) and seen == place.seen:
            return
        self.restarts += place.offset > 0
        self._place, self._rest, self._skipping = Place(status.st_dev, status.st_ino), b"", False

    def _records_of(self, chunk: bytes) -> list[Record]:
        *lines, rest = (self._rest + chunk).split(b"\n")
        records = []
        begin = following = self._place.offset - len(chunk) - len(self._rest)
        for line in lines:
            begin, following = following, following + len(line) + 1
            if self._skipping:
                self._skipping = False
                continue
            if not self._wanted(line):
                continue
            record = decode(line) if len(line) < MAX_LINE_BYTES else None
            if record is not None:
                records.append(record)
                self.begins.append(begin)
            elif line.strip():
                self.malformed += 1
        if len(rest) >= MAX_LINE_BYTES:  # no event is that long: do not keep it
            self.malformed += not self._skipping
            self._skipping, rest = True, b""
        self._rest = rest
        return records


def next_attempt(path: Path) -> int:
    """The number of an attempt that starts now; raises InputError if the stream leaves no number for it."""
    number = last_attempt(path) + 1
    if number > MOST_ATTEMPTS:
        raise InputError("attempts_spent", path=str(path), most=MOST_ATTEMPTS)
    return number


def last_attempt(path: Path) -> int:
    """The number of the newest attempt in a stream, 0 if there is none; reads only the end of the file.

    Raises InputError if the file cannot be read.
    """
    return newest(end_of(path))[0]


def newest(records: Sequence[Record]) -> tuple[int, list[Event]]:
    """The number of the newest attempt in some records, 0 if there is none, and its events."""
    number = max((record.envelope.attempt for record in records), default=0)
    return number, [record.event for record in records if record.envelope.attempt == number]


def last_step(path: Path) -> int:
    """The newest step in a stream, 0 if there is none near its end; reads only the end of the file.

    Raises InputError if the file cannot be read.
    """
    steps = [record.event.step for record in end_of(path) if isinstance(record.event, Step)]
    return steps[-1] if steps else 0


def first_evaluation(path: Path) -> Eval | None:
    """The newest evaluation before the first step, None if there is none; reads no further than that step.

    Raises InputError if the file cannot be read.
    """
    reader, found = EventReader(path), None
    while records := reader.poll(4 * MAX_LINE_BYTES):
        for event in (record.event for record in records):
            if isinstance(event, Step):
                return found
            if isinstance(event, Eval) and event.step == 0:
                found = event
    return found


def losses_after(path: Path, step: int) -> dict[int, float]:
    """The newest logged loss of every step after `step`; reads no more of the stream's end than necessary."""
    size = path.stat().st_size if path.exists() else 0
    window = 4 * MAX_LINE_BYTES
    while True:
        steps = [record.event for record in end_of(path, window) if isinstance(record.event, Step)]
        # Attempts overlap: a repeated step comes again after its first run.
        if window >= size or any(event.step <= step for event in steps):
            return {event.step: event.loss for event in steps if event.step > step}
        window *= 4


def end_of(path: Path, window: int = 4 * MAX_LINE_BYTES) -> list[Record]:
    """The records at the end of a stream, [] if there is none; raises InputError if the file cannot be read."""
    try:
        lines = read_end(path, window).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(path, error) from None
    return [record for line in lines if (record := decode(line)) is not None]
