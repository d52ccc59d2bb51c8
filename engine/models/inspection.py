"""What a model on disk consists of, whether that is complete, and how large it is; without torch where possible."""

from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts
from engine.contract.memory import MemoryFacts
from engine.models.kinds import require_file
from engine.models.memory import MemoryPlan
from engine.models.registry import BY_SETTINGS, family_by, opened
from engine.models.structure import require_file_of_text
from engine.models.weightfile import require_regular, tensors_of


def describe(config: RunConfig) -> ModelFacts:
    """Kind, size, parts and special tokens of the model that a run starts from; raises InputError."""
    path = Path(config.pretrained_model)
    if not config.pretrained_model:
        return BY_SETTINGS.describe_new(config)
    if path.is_dir():
        family, folder = opened(path)
        return family.describe(folder, config)
    require_regular(path, "pretrained_model")
    require_file(path)
    tensors = tensors_of(path)
    require_file_of_text(path, tensors)
    return BY_SETTINGS.describe_file(path, tensors, config)


def predicted(facts: ModelFacts, tokens: int, freeze: str, plan: MemoryPlan) -> MemoryFacts:
    """The peaks of memory of a run with the model that `facts` describe and a tokenizer with `tokens` tokens."""
    family = family_by({"model_type": facts.family})
    return family.memory(facts.for_tokens(tokens), freeze, plan) if family else MemoryFacts()
