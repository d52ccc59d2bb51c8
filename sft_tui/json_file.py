"""One value of a JSON file of a model or a tokenizer, set or removed; the rest of the file stays as it is."""

import json
import os
from pathlib import Path
from typing import Any

from engine.contract.durable import write_json
from engine.contract.files import read_whole, reason
from engine.contract.messages import InputError


def edit(path: Path, name: str, value: Any | None) -> None:
    """Sets `name` to `value`, or removes it if that is None; makes a file that does not exist; raises InputError."""
    path = Path(os.path.realpath(path))
    whole = _read(path) if path.exists() else {}
    if value is None and name not in whole:
        raise InputError("json_value_missing", path=str(path), name=name)
    whole.pop(name, None) if value is None else whole.update({name: value})
    try:
        write_json(path, whole)
    except OSError as error:
        raise InputError("json_unwritable", path=str(path), why=reason(error)) from None


def parsed(text: str) -> Any:
    """A value as typed: JSON, or else a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads(read_whole(path))
    except OSError as error:
        raise InputError("run_file_unreadable", path=str(path), why=reason(error)) from None
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        raise InputError("json_not_object", path=str(path))
    return whole
