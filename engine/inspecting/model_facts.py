"""The facts about the model that a run starts from, and the memory that it will take."""

from dataclasses import replace
from pathlib import Path

from engine.contract import config as settings
from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts
from engine.contract.inputs import require_files
from engine.contract.memory import MemoryFacts
from engine.contract.processor import multiplies_bf16
from engine.contract.requests import MemoryRequest
from engine.inspecting.answer_lines import paced, send
from engine.inspecting.limits import hide_torch
from engine.models import checksums, inspection, weightfile
from engine.models.finite import require_numbers
from engine.models.memory import MemoryPlan


def model_facts(config: RunConfig) -> ModelFacts:
    """Facts about the model that a run starts from, and what vouches for its files; raises InputError."""
    send(doing="pretrained_model")
    require_files(config, "pretrained_model")
    if not inspection.described_by_torch(config):
        hide_torch()
    facts = inspection.describe(config)
    if not config.pretrained_model:
        return facts
    path, notes = Path(config.pretrained_model), Path(config.token_store)
    files = weightfile.weight_files(path)
    verified = checksums.verify(files, notes, paced("pretrained_model"))
    require_numbers(files, notes)
    if path.is_dir():
        _require_generation(path)
    return replace(facts, verified=verified)


def _require_generation(path: Path) -> None:
    """Raises InputError if a model's generation settings could not be saved again with it."""
    hide_torch()
    from engine.models.generation import read_generation

    read_generation(path)


def memory_facts(request: MemoryRequest) -> MemoryFacts:
    """The predicted peaks of memory, once `model_facts`, the tokenizer's size and the steps are known."""
    config, steps, model = settings.from_json(request.config), request.steps, request.model
    plan = MemoryPlan(
        loss_chunk_tokens=config.loss_chunk_tokens,
        padded=steps.largest,
        packed=steps.packed,
        generation=steps.generation,
        model_file_bytes=model.weights_bytes,
        bf16=config.mixed_precision != "fp32" and (request.gpu_bf16 if request.on_gpu else multiplies_bf16()),
        on_gpu=request.on_gpu,
        shards=request.processes if config.shard == "full" else 1,
    )
    return inspection.predicted(model, request.tokens, config, plan)
