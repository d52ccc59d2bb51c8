"""Which freed blocks the C library returns to the system."""

import subprocess
import sys

PROGRAM = """
import sys
from pathlib import Path
from engine.cpu.heap import return_blocks_of

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "returned":
    assert return_blocks_of(1 << 20)
blocks = [bytearray(b"x") * (4 << 20) for _ in range(16)]
held = resident()
del blocks[:-1]  # the last one keeps the end of the heap
print(held - resident())
"""


def returned(how: str) -> int:
    """Bytes that a process returns when it frees 15 blocks of 4 MiB."""
    command = [sys.executable, "-c", PROGRAM, how]
    kept = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    return int(subprocess.run(command, env=kept, capture_output=True, text=True, timeout=60, check=True).stdout)


def test_freed_blocks_are_returned_only_if_asked() -> None:
    assert returned("as it is") < 4 << 20
    assert returned("returned") > 56 << 20
