"""What NVIDIA's driver reported to the kernel's log: Xid errors, each with a number that says what failed."""

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.contract.harmless import harmless

KERNEL_LOG = Path("/dev/kmsg")
MOST_RECORDS = 20_000
MOST_NAMED = 3
# "prio,seq,microseconds,flags;NVRM: Xid (PCI:0000:01:00): 79, pid=…, GPU has fallen off the bus."
XID = re.compile(rb"^\d+,\d+,\d+,[^;]*;NVRM: Xid \(([^)]{1,40})\): (\d{1,4}), ?([^\n]{0,200})", re.MULTILINE)
# Of the card, its memory, its links or its firmware, by NVIDIA's catalogue of Xid errors; others are a program's.
HARDWARE = {48, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120, 140}


@dataclass(frozen=True)
class Xid:
    """An error that the driver reported: where, its number, and its words."""

    place: str
    number: int
    words: str

    @property
    def is_hardware(self) -> bool:
        """Whether the GPU itself is at fault, not the program on it."""
        return self.number in HARDWARE

    def __str__(self) -> str:
        return f"Xid {self.number} ({self.place}): {self.words}"


class DriverLog:
    """The kernel's log from now on.

    Its records have a time of the kernel's own clock, which drifts from those that programs read, by seconds in a week
    and by more over suspensions. So the place where the log ends now is kept, and no times are compared.
    """

    def __init__(self, log: Path = KERNEL_LOG) -> None:
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):  # this user may not read it
            self._descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self._descriptor, 0, os.SEEK_END)

    def xids(self) -> list[Xid]:
        """The errors since then that were not returned before, oldest first; none where the log cannot be read."""
        found: list[Xid] = []
        if self._descriptor is None:
            return found
        with contextlib.suppress(OSError):
            for _ in range(MOST_RECORDS):
                record = _next(self._descriptor)
                if not record:
                    break
                found += map(_xid, XID.finditer(record))
        return found

    def close(self) -> None:
        """Lets go of the log."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def in_words(xids: Sequence[Xid]) -> str:
    """The last few of some errors, on one line; empty if there are none."""
    return " | ".join(map(str, xids[-MOST_NAMED:]))


def _xid(match: re.Match[bytes]) -> Xid:
    place, words = (harmless(part.decode("utf-8", "replace")) for part in (match[1], match[3]))
    return Xid(place, int(match[2]), words)


def _next(descriptor: int) -> bytes:
    """The next record; a read returns one, and fails where the log wrapped around meanwhile."""
    try:
        return os.read(descriptor, 8192)
    except BrokenPipeError:
        return b"-"
