"""The folder that a run was started in, which relative paths in its settings are relative to in every process."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from engine.contract.config import FIELDS, setting_of


def _path_of_a_folder(value: str) -> None:
    """Raises ValueError if no folder can have this name."""
    if b"\0" in os.fsencode(value):
        raise ValueError("no path of a folder")


Project = Annotated[str, _path_of_a_folder]


def is_here(project: str) -> bool:
    """Whether a project is the current folder; an unknown project counts as the current folder."""
    try:
        return not project or os.path.samefile(project, ".")
    except OSError:
        return False


def seen_from(project: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths are relative to the project, with paths as seen from the current folder."""
    if is_here(project):
        return dict(values)
    return {name: os.path.join(project, value) if _is_path(name, value) else value for name, value in values.items()}


def kept_in(project: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as named in the current folder, with paths below the project made relative, so that it can be moved."""
    if is_here(project):
        return dict(values)
    below = os.path.join(project, "")
    absolute = {name: os.path.join(os.getcwd(), value) for name, value in values.items() if _is_path(name, value)}
    return {**values, **{name: path.removeprefix(below) for name, path in absolute.items()}}


def place_of(folder: Path, project: str) -> tuple[str, str | None]:
    """A folder as a process started in the project must name it, and where to start it: None for the current folder."""
    if is_here(project):
        return str(folder), None
    inside = os.path.relpath(folder, project)
    return str(folder.absolute()) if inside.startswith(os.pardir) else inside, project


def _is_path(name: str, value: Any) -> bool:
    return bool(name in FIELDS and setting_of(name).path and isinstance(value, str) and value)
