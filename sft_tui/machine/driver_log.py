"""What NVIDIA's driver reported to the kernel's log: Xid errors, each with a number that says what failed."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from engine.contract.harmless import harmless

KERNEL_LOG = Path("/dev/kmsg")
MOST_RECORDS = 20_000
# "prio,seq,microseconds since boot,flags;NVRM: Xid (PCI:0000:01:00): 79, pid=…, GPU has fallen off the bus."
XID = re.compile(rb"^\d+,\d+,(\d+),[^;]*;NVRM: Xid \(([^)]{1,40})\): (\d{1,4}), ?([^\n]{0,200})", re.MULTILINE)
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


def xids(since: float, log: Path = KERNEL_LOG) -> list[Xid]:
    """The errors since a monotonic time, oldest first; none where this user may not read the kernel's log."""
    found: list[Xid] = []
    with contextlib.suppress(OSError):
        descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
        try:
            for _ in range(MOST_RECORDS):
                record = _next(descriptor)
                if not record:
                    break
                found += [_xid(match) for match in XID.finditer(record) if int(match[1]) >= since * 1e6]
        finally:
            os.close(descriptor)
    return found


def _xid(match: re.Match[bytes]) -> Xid:
    place, words = (harmless(part.decode("utf-8", "replace")) for part in (match[2], match[4]))
    return Xid(place, int(match[3]), words)


def _next(descriptor: int) -> bytes:
    """The next record; a read returns one, and fails where the log wrapped around meanwhile."""
    try:
        return os.read(descriptor, 8192)
    except BrokenPipeError:
        return b"-"
