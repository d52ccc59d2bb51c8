"""Facts about models of families other than T5, cached next to the token stores: finding them takes torch and time."""

import contextlib
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.contract.bounds import as_json, read_as
from engine.contract.durable import read_json, write_json
from engine.contract.facts import ModelFacts
from engine.models.weightfile import Tensors, tensors_of, weight_files

RECORD = "families.json"


def described(path: Path, freeze: str, tensors: Tensors, folder: Path) -> ModelFacts:
    """The facts of `seq2seq.described` on a model whose files hold `tensors`, cached if known; raises InputError."""
    kept = read_json(folder / RECORD).get(_key(path, freeze, tensors))
    if isinstance(kept, dict) and kept.get("sha256") == _digest(kept.get("facts")):
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # written by another version
            return read_as(ModelFacts, kept["facts"])
    from engine.models.seq2seq import described  # imports torch

    return described.describe(path, freeze, tensors)


def keep(path: Path, freeze: str, folder: Path, facts: ModelFacts) -> None:
    """Records in `folder` the facts about a valid model, under a key of its configuration and its tensors."""
    tensors: Tensors = {}
    for file in weight_files(path):
        tensors.update(tensors_of(file))
    key, kept = _key(path, freeze, tensors), as_json(facts)
    with contextlib.suppress(OSError):  # must work in folders that are not writable
        folder.mkdir(parents=True, exist_ok=True)
        noted = {**read_json(folder / RECORD), key: {"facts": kept, "sha256": _digest(kept)}}
        write_json(folder / RECORD, noted, durable=False)


def _key(path: Path, freeze: str, tensors: Tensors) -> str:
    """A hash of everything that the facts depend on."""
    shapes = sorted((name, tensor.kind, tensor.shape) for name, tensor in tensors.items())
    config = json.dumps(read_json(path / "config.json"), sort_keys=True)
    return hashlib.sha256(repr((version("transformers"), config, freeze, shapes)).encode()).hexdigest()


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
