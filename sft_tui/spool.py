"""Stores what comes through a pipe in a file, because the process that reads it has a standard input of its own."""

import os
import shutil
import stat
import sys
import tempfile
from contextlib import ExitStack
from typing import BinaryIO

from engine.contract.messages import InputError
from sft_tui.text import size

CHUNK = 1 << 20
OURS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # names of files that only this process holds open


def is_stream(name: str) -> bool:
    """Whether a name refers to standard input, or to a pipe or device instead of a file."""
    if name == "-" or name.startswith(OURS):
        return True
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def spooled(name: str, stack: ExitStack) -> str:
    """The path of a file with all the input, at most half of the temporary folder's free space; raises InputError."""
    folder = tempfile.gettempdir()
    limit = shutil.disk_usage(folder).free // 2
    path = stack.enter_context(tempfile.TemporaryDirectory(dir=folder)) + "/input"
    try:
        if name == "-":
            _copy(name, sys.stdin.buffer, path, limit)
        else:
            with open(name, "rb") as source:
                _copy(name, source, path, limit)
    except OSError as error:
        raise InputError("source_unreadable", path=name, why=error.strerror or str(error)) from None
    return path


def _copy(name: str, source: BinaryIO, path: str, limit: int) -> None:
    with open(path, "wb") as kept:
        while data := source.read(CHUNK):
            kept.write(data)
            if kept.tell() > limit:
                raise InputError("source_endless", path=name, limit=size(limit))
