"""What a model on disk consists of, whether that is complete, and how large it is; without torch where possible."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.durable import read_json
from engine.contract.facts import LONGEST_NAME, ModelFacts
from engine.contract.memory import MemoryFacts
from engine.models.kinds import require_file
from engine.models.memory import MemoryPlan
from engine.models.model_folder import Settings
from engine.models.registry import BY_SETTINGS, family_by, opened, require_chosen
from engine.models.structure import require_file_of_text
from engine.models.weightfile import require_regular, tensors_of

HUB_CACHE = re.compile(r"models--[\w.-]+?--([\w.-]+)")
ON_HUB = re.compile(r"[\w.-]+/([\w.-]+)")
GENERIC = re.compile(r"best|model|models|merged|final|output|checkpoints?|checkpoint-\d+|[0-9a-f]{40}")  # say nothing
DTYPES = {"BF16": "bf16", "F32": "fp32", "F16": "fp16", "F64": "fp64"}


def describe(config: RunConfig) -> ModelFacts:
    """Kind, size, parts and special tokens of the model that a run starts from; raises InputError."""
    path = Path(config.pretrained_model)
    if not config.pretrained_model:
        require_chosen(BY_SETTINGS.new_name, BY_SETTINGS, config.family)
        facts = BY_SETTINGS.describe_new(config)
        return replace(facts, title=facts.name, kind=BY_SETTINGS.name)
    if path.is_dir():
        family, folder = opened(path, config.family)
        facts, kinds = family.describe(folder, config), (tensor.kind for tensor in folder.tensors.values())
        return replace(facts, title=title_of(path, folder.settings), kind=family.name, dtype=usual_dtype(kinds))
    require_regular(path, "pretrained_model")
    require_file(path)
    tensors = tensors_of(path)
    require_file_of_text(path, tensors)
    require_chosen(str(path), BY_SETTINGS, config.family)
    facts, kinds = BY_SETTINGS.describe_file(path, tensors, config), (tensor.kind for tensor in tensors.values())
    return replace(facts, title=path.name[:LONGEST_NAME], kind=BY_SETTINGS.name, dtype=usual_dtype(kinds))


def described_by_torch(config: RunConfig) -> bool:
    """Whether `describe` takes torch for the model of a run, by its config.json alone."""
    path = Path(config.pretrained_model)
    settings = read_json(path / "config.json") if config.pretrained_model and path.is_dir() else {}
    family = family_by(settings)
    return family is not None and family.described_by_torch(settings)


def title_of(path: Path, settings: Settings) -> str:
    """What people call the model of a folder: its name on the hub, if it is known, or that of its folder."""
    folder = path.resolve()
    if cached := next(filter(None, map(HUB_CACHE.fullmatch, reversed(folder.parts))), None):
        return cached[1][:LONGEST_NAME]
    said = settings.get("_name_or_path")
    if isinstance(said, str) and (on_hub := ON_HUB.fullmatch(said)) and not GENERIC.fullmatch(on_hub[1]):
        return on_hub[1][:LONGEST_NAME]
    if GENERIC.fullmatch(folder.name):
        return f"{folder.parent.name}/{folder.name}"[:LONGEST_NAME]
    return folder.name[:LONGEST_NAME]


def usual_dtype(kinds: Iterable[str]) -> str:
    """The dtype of most tensors, as `mixed_precision` names it: bf16, fp32, …"""
    found = Counter(kinds).most_common(1)
    return DTYPES.get(found[0][0], found[0][0].lower()) if found else ""


def predicted(facts: ModelFacts, tokens: int, config: RunConfig, plan: MemoryPlan) -> MemoryFacts:
    """The peaks of memory of a run with the model that `facts` describe and a tokenizer with `tokens` tokens."""
    family = family_by({"model_type": facts.family})
    return family.memory(facts.for_tokens(tokens), config, plan) if family else MemoryFacts()
