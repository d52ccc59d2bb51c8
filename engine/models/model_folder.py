"""A model's folder: its config.json, and what tensors its files hold, read without torch and executing nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.bounds import WIDEST
from engine.contract.facts import LONGEST_NAME
from engine.contract.untrusted import reading_untrusted
from engine.models.kinds import require_folder
from engine.models.sizes import check_sizes
from engine.models.structure import tensors_in
from engine.models.weightfile import Tensors, bad, weight_files

LONGEST_CONFIG = 10_000_000  # bytes

Settings = Mapping[str, Any]  # of a config.json


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder: its config.json, the tensors that its files hold, and the size of these files in bytes."""

    path: Path
    settings: Settings
    tensors: Tensors
    size: int


def read_folder(path: Path) -> ModelFolder:
    """The content of a model's folder; raises InputError if it is not one, saying what it is."""
    require_folder(path)
    settings = read_config(path / "config.json")
    tensors = tensors_in(path, settings)
    return ModelFolder(path, settings, tensors, sum(file.stat().st_size for file in weight_files(path)))


def read_config(path: Path) -> dict[str, Any]:
    """A model's config.json; raises InputError if it is invalid, or names code or sizes that are never run or built."""
    if not path.is_file():
        raise bad(path.parent, "no_config")
    if path.stat().st_size > LONGEST_CONFIG:
        raise bad(path.parent, "config_long", size=f"{path.stat().st_size:,}")
    with reading_untrusted("model_bad", path.parent):
        settings = json.loads(path.read_bytes())
    if not isinstance(settings, dict):
        raise bad(path.parent, "config_not_json")
    for name, value in settings.items():
        if name.endswith("implementation") and "/" in json.dumps(value):
            raise bad(path.parent, "config_names_code", name=name)
    check_sizes(path.parent, settings)
    return settings


def plain(settings: Settings) -> dict[str, Any]:
    """The settings that are numbers or short texts, as facts may hold them."""
    return {
        name[:LONGEST_NAME]: value
        for name, value in settings.items()
        if (isinstance(value, int) and abs(value) < WIDEST) or (isinstance(value, str) and len(value) <= LONGEST_NAME)
    }
