from pathlib import Path

import pytest

from sft_tui.machine.driver_log import Xid, xids

LOG = """\
6,1201,5000000,-;usb 1-1: new device
4,1202,9000000,-;NVRM: Xid (PCI:0000:01:00): 31, pid=812, name=python, Ch 00000008, MMU Fault
4,1203,61000000,-;NVRM: GPU at PCI:0000:01:00: GPU-aab10000
4,1204,61000100,-;NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', GPU has \x1b[31mfallen off the bus.
 SUBSYSTEM=pci
12,1205,62000000,-;NVRM: Xid (PCI:0000:01:00): seventy, forged
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "kmsg"
    path.write_text(LOG)
    return path


def test_what_the_driver_reported_since_the_run_began_is_found(log: Path) -> None:
    (one,) = xids(60.0, log)
    assert (one.place, one.number, one.is_hardware) == ("PCI:0000:01:00", 79, True)
    assert "fallen off the bus." in str(one)
    assert "\x1b" not in str(one)


def test_faults_of_a_program_are_not_the_gpus(log: Path) -> None:
    assert [(one.number, one.is_hardware) for one in xids(0.0, log)] == [(31, False), (79, True)]
    assert not Xid("PCI:0000:01:00", 13, "Graphics Exception").is_hardware


def test_a_log_that_cannot_be_read_has_nothing(tmp_path: Path) -> None:
    assert xids(0.0, tmp_path / "nowhere") == []
    assert xids(0.0, tmp_path) == []
