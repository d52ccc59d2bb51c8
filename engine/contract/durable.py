"""Files that a reader finds whole, and JSON read from them; what reached the disk, and how much fits on it."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.contract.bounds import Made, read_as
from engine.contract.files import read_whole, staged


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if there is none."""
    try:
        value = json.loads(read_whole(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_json_as(kind: type[Made], path: Path) -> Made:
    """What a JSON file holds, in the types and bounds of `kind`; an empty `kind()` if it does not fit or is missing."""
    try:
        return read_as(kind, read_json(path))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return kind()


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True, compact: bool = False) -> None:
    """Writes `value` so that a reader finds the old file or the new one, never a part of one.

    `durable`: sync it to the disk; `compact`: write it on one line, for files that people do not read.
    """
    place = staged(path)
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=None if compact else 1))
            file.write("\n")
            file.flush()
            if durable:
                os.fsync(file.fileno())
        place.rename(path)
        if durable:
            sync(path.parent)
    finally:
        place.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Syncs the content of a file, or the entries of a folder, to the disk; raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_bytes(path: Path) -> int:
    """Free space of the file system that `path` is on, or will be on once it is created."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
