"""Facts on models of other families than T5, kept next to the token stores: finding them takes torch, and seconds."""

import contextlib
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.contract.rundir import read_json, write_json
from engine.models.weightfile import Tensors, tensors_of, weight_files

RECORD = "families.json"
FACTS = ("special", "rows", "parameters", "trained", "positions", "wrapper")


def described(path: Path, freeze: str, tensors: Tensors, folder: Path) -> dict[str, Any]:
    """What `seq2seq.described` says of a model whose files hold `tensors`, or said of it before; raises InputError."""
    kept = read_json(folder / RECORD).get(_key(path, freeze, tensors))
    if isinstance(kept, dict) and kept.get("sha256") == _digest(kept.get("facts")):
        return dict(kept["facts"])
    from engine.models.seq2seq import described  # with torch

    return described.describe(path, freeze, tensors)


def keep(path: Path, freeze: str, folder: Path, facts: dict[str, Any]) -> None:
    """Notes in `folder` the facts of a model that is in order: its configuration and its tensors decide them."""
    tensors: Tensors = {}
    for file in weight_files(path):
        tensors.update(tensors_of(file))
    key, told = _key(path, freeze, tensors), {name: facts[name] for name in FACTS}
    with contextlib.suppress(OSError):  # looking must work where nothing may be written
        folder.mkdir(parents=True, exist_ok=True)
        noted = {**read_json(folder / RECORD), key: {"facts": told, "sha256": _digest(told)}}
        write_json(folder / RECORD, noted, durable=False)


def _key(path: Path, freeze: str, tensors: Tensors) -> str:
    """A hash of all that the facts depend on."""
    shapes = sorted((name, tensor.kind, tensor.shape) for name, tensor in tensors.items())
    config = json.dumps(read_json(path / "config.json"), sort_keys=True)
    return hashlib.sha256(repr((version("transformers"), config, freeze, shapes)).encode()).hexdigest()


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
