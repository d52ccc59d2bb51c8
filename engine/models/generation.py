"""The generation settings that come with a model: kept for its users, and published with the best model."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.generation.configuration_utils import GenerationConfig

from engine.contract.files import read_linked
from engine.contract.messages import InputError
from engine.contract.untrusted import one_line

OWN, OF_MODEL = "generation_config.json", "config.json"
LONGEST = 10_000_000  # bytes


def read_generation(folder: Path) -> GenerationConfig:
    """The settings in generation_config.json, or in config.json, where older versions kept them; raises InputError.

    Settings that could not be saved again are refused: a model could not be published with them.
    """
    path = folder / (OWN if (folder / OWN).exists() else OF_MODEL)
    try:
        whole = json.loads(read_linked(path, LONGEST))
        if not isinstance(whole, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise InputError("generation_bad", path=str(path), why=why, key="") from None
    try:
        return _settings(whole, path.name)
    except Exception as error:  # its many validations may raise anything
        key = _culprit(whole, path.name)
        why = f"{key} = {json.dumps(whole[key], ensure_ascii=False)[:60]}" if key else one_line(error, 200).rstrip(".")
        raise InputError("generation_bad", path=str(path), why=why, key=key) from None


def _settings(whole: Mapping[str, Any], name: str) -> GenerationConfig:
    with tempfile.TemporaryDirectory() as folder:  # the settings are fully validated only when they are saved
        (Path(folder) / name).write_text(json.dumps(whole, allow_nan=False), encoding="utf-8")
        older: dict[str, Any] = {"_from_model_config": True} if name == OF_MODEL else {}
        found = GenerationConfig.from_pretrained(folder, config_file_name=name, local_files_only=True, **older)
        found.save_pretrained(folder)
    return found


def _culprit(whole: Mapping[str, Any], name: str) -> str:
    """The one setting without which the others can be saved; empty if there is no such setting."""
    for key in whole:
        try:
            _settings({other: value for other, value in whole.items() if other != key}, name)
        except Exception:  # its many validations may raise anything
            continue
        return key
    return ""


def end_replies_at(model: Any, stops: Sequence[int]) -> None:
    """Adds tokens to those that end a reply of a model, when it is evaluated and where it is published."""
    own = model.generation_config.eos_token_id
    known = own if isinstance(own, list) else [] if own is None else [own]
    if not set(stops) <= set(known):
        model.generation_config.eos_token_id = [*known, *(stop for stop in stops if stop not in known)]
