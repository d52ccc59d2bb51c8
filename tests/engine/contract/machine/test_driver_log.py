import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.contract.machine.driver_log import DriverLog, Xid

BEFORE = """\
6,1201,5000000,-;usb 1-1: new device
4,1202,9000000,-;NVRM: Xid (PCI:0000:01:00): 31, pid=812, name=python, Ch 00000008, MMU Fault
"""
SINCE = """\
4,1203,61000000,-;NVRM: GPU at PCI:0000:01:00: GPU-aab10000
4,1204,61000100,-;NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', GPU has \x1b[31mfallen off the bus.
 SUBSYSTEM=pci
12,1205,62000000,-;NVRM: Xid (PCI:0000:01:00): seventy, forged
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "kmsg"
    path.write_text(BEFORE)
    return path


Opened = Callable[[Path], DriverLog]


@pytest.fixture
def opened() -> Iterator[Opened]:
    found: list[DriverLog] = []

    def start(path: Path) -> DriverLog:
        found.append(DriverLog(path))
        return found[-1]

    yield start
    for one in found:
        one.close()


def reported(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_what_the_driver_reported_since_the_run_began_is_found(log: Path, opened: Opened) -> None:
    began = opened(log)
    reported(log, SINCE)
    (one,) = began.xids()
    assert (one.place, one.number, one.is_hardware) == ("PCI:0000:01:00", 79, True)
    assert "fallen off the bus." in str(one)
    assert "\x1b" not in str(one)
    assert began.xids() == []


@pytest.mark.parametrize("microseconds", [0, 8_000_000, 10**15])
def test_the_clock_of_the_log_does_not_matter(log: Path, opened: Opened, microseconds: int) -> None:
    """As after a suspension: the kernel's clock is behind that of programs by hours, or ahead of it."""
    began = opened(log)
    reported(log, SINCE.replace("61000100", str(microseconds)))
    assert [one.number for one in began.xids()] == [79]


def test_a_log_that_wrapped_around_gives_what_it_still_has(
    log: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says once that records were overwritten, and then returns the oldest that there is."""
    began, read, said = opened(log), os.read, [BrokenPipeError()]
    reported(log, SINCE)

    def overwritten(descriptor: int, size: int) -> bytes:
        if said:
            raise said.pop()
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", overwritten)
    assert [one.number for one in began.xids()] == [79]


def test_faults_of_a_program_are_not_the_gpus(log: Path, opened: Opened) -> None:
    log.write_text("")
    began = opened(log)
    reported(log, BEFORE + SINCE)
    assert [(one.number, one.is_hardware) for one in began.xids()] == [(31, False), (79, True)]
    assert not Xid("PCI:0000:01:00", 13, "Graphics Exception").is_hardware


def test_a_log_that_cannot_be_read_has_nothing(tmp_path: Path, opened: Opened) -> None:
    assert opened(tmp_path / "nowhere").xids() == []
    assert opened(tmp_path).xids() == []
