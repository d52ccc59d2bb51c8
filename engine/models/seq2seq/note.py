"""What transformers' classes say of models, cached next to the token stores: finding it takes torch and time."""

import contextlib
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.contract.bounds import as_json, read_as
from engine.contract.config import RunConfig
from engine.contract.durable import read_json, write_json
from engine.contract.facts import ModelFacts
from engine.models.model_folder import ModelFolder

RECORD = "families.json"
NEEDED = ("decoder_start", "pad", "eos")  # special tokens that encoder-decoder models cannot do without


def known(model: ModelFolder, config: RunConfig) -> ModelFacts | None:
    """What was found of a model before; None if nothing was, or not the same."""
    kept = read_json(Path(config.token_store) / RECORD).get(_key(model, config))
    if isinstance(kept, dict) and kept.get("sha256") == _digest(kept.get("facts")):
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # written by another version
            return read_as(ModelFacts, kept["facts"])
    return None


def keep(model: ModelFolder, config: RunConfig, found: ModelFacts) -> None:
    """Records what was found of a model, if the folder of the token stores is writable."""
    folder, facts = Path(config.token_store), as_json(found)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        entry = {"facts": facts, "sha256": _digest(facts)}
        write_json(folder / RECORD, {**read_json(folder / RECORD), _key(model, config): entry}, durable=False)


def _key(model: ModelFolder, config: RunConfig) -> str:
    """A hash of everything that the facts depend on."""
    shapes = sorted((name, tensor.kind, tensor.shape) for name, tensor in model.tensors.items())
    settings = json.dumps(dict(model.settings), sort_keys=True)
    learns = (config.freeze, config.lora_rank, config.lora_parts, config.optimizer)
    known = (version("transformers"), NEEDED, settings, learns, shapes)
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
