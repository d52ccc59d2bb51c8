"""What people set before: recent values of each setting that is a path, and the last values of each preset.

It is a convenience kept in the folder of the runs: a damaged file counts as an empty one, a failed write as nothing.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from engine.contract.bounds import REST, Longest, Name, PathText, as_json
from engine.contract.config import FIELDS, KINDS, check_value, setting_of
from engine.contract.durable import read_json_as, write_json
from engine.contract.messages import InputError
from engine.contract.record import RunRecord

FILE = ".remembered.json"
MOST_RECENT = 12  # values of a setting
MOST_PRESETS = 100
LONGEST = 4096  # characters of a value: the longest path of the system

Value = Annotated[PathText, Longest(LONGEST)] | int | float
Recent = Annotated[list[Annotated[PathText, Longest(LONGEST)]], Longest(100)]
Last = Annotated[dict[Name, Value], Longest(1000)]


@dataclass(frozen=True)
class Remembered:
    """The file: recent values by setting, newest first, and values by preset, the latest preset last."""

    recent: Annotated[dict[Name, Recent], Longest(1000)] = field(default_factory=dict)
    values: Annotated[dict[Name, Last], Longest(1000)] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)


def recent(logs: Path, setting: str) -> list[str]:
    """The values that a setting had in runs before, newest first."""
    return _read(logs).recent.get(setting, [])[:MOST_RECENT]


def last_values(logs: Path, preset: str) -> dict[str, Any]:
    """The settings that the last run of a preset was given in place of the preset's; only those still valid."""
    return {name: value for name, value in _read(logs).values.get(preset, {}).items() if _is_valid(name, value)}


def last_presets(logs: Path) -> list[str]:
    """The presets of runs before, newest first."""
    return list(_read(logs).values)[::-1]


def remember(logs: Path, setting: str, value: str) -> None:
    """Keeps a value as the newest of a setting."""
    _write(logs, _with_recent(_read(logs), setting, value))


def remember_values(logs: Path, preset: str, values: Mapping[str, Any]) -> None:
    """Keeps settings as the last of a preset, and those that are paths as recent values."""
    known = _read(logs)
    others = {name: last for name, last in known.values.items() if name != preset}
    kept = dict(list(others.items())[1 - MOST_PRESETS :])
    known = replace(known, values={**kept, preset: dict(values)})
    for name, value in values.items():
        if name in FIELDS and setting_of(name).path:
            known = _with_recent(known, name, str(value))
    _write(logs, known)


def remember_run(logs: Path, record: RunRecord) -> None:
    """Keeps the settings of a new training run; a resumed one says nothing new."""
    if record.job == "train" and not record.resume:
        remember_values(logs, record.preset, {name: new for name, (_, new) in record.overrides.items()})


def _with_recent(known: Remembered, setting: str, value: str) -> Remembered:
    if not value or len(value) > LONGEST:
        return known
    others = [one for one in known.recent.get(setting, []) if one != value]
    return replace(known, recent={**known.recent, setting: [value, *others][:MOST_RECENT]})


def _is_valid(name: str, value: object) -> bool:
    if name not in FIELDS:
        return False
    try:
        check_value(name, value)
    except InputError:
        return False
    return isinstance(value, KINDS[name]) or KINDS[name] is float


def _read(logs: Path) -> Remembered:
    return read_json_as(Remembered, logs / FILE)


def _write(logs: Path, known: Remembered) -> None:
    with contextlib.suppress(OSError, ValueError):  # a file name may be invalid UTF-8
        logs.mkdir(parents=True, exist_ok=True)
        write_json(logs / FILE, as_json(known), durable=False)
