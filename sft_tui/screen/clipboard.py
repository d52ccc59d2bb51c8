"""Copies from a terminal: by OSC 52, inside tmux by its buffer, and always to a file as well."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LONGEST = 74_000  # bytes; many terminals accept no more by OSC 52
TMUX_SECONDS = 2.0


def copy(text: str, folder: Path, osc52: Callable[[str], None]) -> Path | None:
    """Copies `text`, which is already harmless; returns the file it was written to, or None if that failed."""
    path = _written(text, folder)
    short = text.encode()[:LONGEST].decode(errors="ignore")
    if os.environ.get("TMUX"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                ["tmux", "load-buffer", "-w", "-"], input=short.encode(), timeout=TMUX_SECONDS, check=False,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
    else:
        osc52(short)
    return path


def _written(text: str, folder: Path) -> Path | None:
    try:  # a new name: no link is followed, and no other file overwritten
        fd, path = tempfile.mkstemp(".txt", f"copied-{time.strftime('%Y%m%d-%H%M%S')}-", folder)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return None
    return Path(path)
