"""The record in the folder of a model that was downloaded or converted here: where it came from, and its files."""

import contextlib
from pathlib import Path
from typing import Any

from engine.contract.durable import read_json

RECORD = "SOURCE.json"
HASHES = "SHA256SUMS"  # of its files, as sha256sum writes and the check reads them


def record_of(folder: Path) -> dict[str, Any]:
    """The record of a model's folder; {} if it has none, or if a file of it is missing or has another size."""
    record = read_json(folder / RECORD)
    files = record.get("files")
    if not isinstance(files, dict) or not files:
        return {}
    with contextlib.suppress(OSError, ValueError):
        if all((folder / str(name)).stat().st_size == size for name, size in files.items()):
            return record
    return {}
