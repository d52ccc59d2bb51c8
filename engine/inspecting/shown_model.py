"""What a model's folder holds, and what training it takes: for a person who wants to know before a run."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig, override
from engine.contract.facts import LONGEST_NAME, Batch, ModelFacts, TokenizerFacts
from engine.contract.inputs import has_tokenizer, require_files
from engine.contract.messages import InputError, Message
from engine.contract.model_record import record_of
from engine.contract.model_reports import LONGEST_EXAMPLE, ShownModel, TemplateFacts, TrainingNeed
from engine.contract.presets import built_in, preset
from engine.contract.processor import multiplies_bf16
from engine.contract.reasons import reason_phrase
from engine.contract.requests import ShowRequest
from engine.inspecting.answer_lines import send
from engine.inspecting.data_facts import read_tokenizer
from engine.inspecting.limits import hide_torch
from engine.models import inspection
from engine.models.memory import MemoryPlan
from engine.models.registry import family_for
from engine.obtaining.licence import licence_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from engine.data.chat.templates import ChatTemplate

LORA_RANK = 16
ROW = 128  # tokens of a row, half of them its answer, that the needs are for
REPLIES = Batch(16, 128, 128)
# Marks in a rendered conversation, of the families of templates; the first that is found names it.
KINDS = {
    "<|im_start|>": "ChatML", "<|start_header_id|>": "Llama 3", "<start_of_turn>": "Gemma", "<|turn>": "Gemma 4",
    "<｜User｜>": "DeepSeek", "[gMASK]": "GLM", "[INST]": "Mistral", "<|start|>": "Harmony", "<|user|>": "Phi",
    "<|User|>": "DeepSeek", "### Instruction": "Alpaca", "USER:": "Vicuna",
}  # fmt: skip
THOUGHT = "Quartz"
TALK = (
    {"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Italy?"}, {"role": "assistant", "content": "Rome."},
)  # fmt: skip


def shown_model(request: ShowRequest) -> ShownModel:
    """The facts about a model at a path; raises InputError if it is not one, saying what it is."""
    send(doing=request.path)
    path = Path(request.path)
    config = RunConfig(pretrained_model=str(path), tokenizer="")
    require_files(config, "pretrained_model")
    name = "chat" if family_for(config).rows == "chat" else "sft-small"
    config, _ = override(preset(name).config, {"pretrained_model": str(path), "tokenizer": ""})
    if not inspection.described_by_torch(config):
        hide_torch()
    model = inspection.describe(config)
    tokenizer, about = _tokenizer(path, config)
    template = _template(tokenizer, config) if name == "chat" and tokenizer is not None else None
    record = record_of(path) if path.is_dir() else {}
    rows = about.tokens if isinstance(about, TokenizerFacts) else model.rows or 1
    return ShownModel(
        model, tuple(_needs(name, config, model, rows)), config.micro_batch_tokens, about, template,
        licence_of(path if path.is_dir() else path.parent),
        str(record.get("id") or record.get("file") or "")[:LONGEST_NAME],
        str(record.get("revision") or "")[:LONGEST_NAME],
    )  # fmt: skip


def _tokenizer(
    path: Path, config: RunConfig
) -> "tuple[PreTrainedTokenizerBase | None, TokenizerFacts | Message | None]":
    """The tokenizer in a model's folder; the error that says why it cannot be used; None if there is none."""
    if not has_tokenizer(str(path)):
        return None, None
    try:
        return read_tokenizer(config)
    except InputError as error:
        return None, error.message


# --- training


def _needs(name: str, config: RunConfig, model: ModelFacts, rows: int) -> Iterator[TrainingNeed]:
    """The ways to train a model, from the one that takes the most."""
    half = model.decoder.layers // 2 if model.decoder else 0
    frozen = f"embeddings,layers.0-{half - 1}" if half else "embeddings" if model.decoder else "encoder,embeddings"
    ways: dict[str, dict[str, Any]] = {
        "whole": {"freeze": "", "lora_rank": 0},
        "frozen": {"freeze": frozen, "lora_rank": 0},
        "lora": {"freeze": "", "lora_rank": LORA_RANK},
    }
    for way, settings in ways.items():
        own, _ = override(config, settings)
        try:
            facts = inspection.describe(own)
        except InputError:  # a family without these parts, or a file of weights that takes no adapters
            continue
        host = inspection.predicted(facts, rows, own, _plan(own, facts)).host
        used = f"{name}-lora" if way == "lora" and f"{name}-lora" in built_in() else name
        usual, values = preset(used).config, {"tokenizer": "", **settings}
        shown = {setting: value for setting, value in values.items() if value != getattr(usual, setting)}
        trained = facts.for_tokens(rows).sizes.trained
        yield TrainingNeed(way, used, shown, trained, host.total if host else 0)


def _plan(config: RunConfig, model: ModelFacts) -> MemoryPlan:
    """A run with full micro-batches of rows of a usual length."""
    rows = max(1, config.micro_batch_tokens // ROW)
    batch = Batch(rows, ROW // 2, ROW // 2, rows * ROW)
    bf16 = config.mixed_precision != "fp32" and multiplies_bf16()
    return MemoryPlan(config.loss_chunk_tokens, (batch,), (batch,), REPLIES, model.weights_bytes, bf16)


# --- the chat template


def _template(tokenizer: "PreTrainedTokenizerBase", config: RunConfig) -> TemplateFacts | Message:
    """What the template makes of a conversation; the error that says why it cannot be used."""
    from engine.data.bounded import done_in_time
    from engine.data.chat.templates import ChatTemplate

    try:
        template = ChatTemplate.of(tokenizer, "", "")
        work = partial(_template_facts, template, config)
        return done_in_time(work, template.name, LONGEST_EXAMPLE, template.at_work)
    except InputError as error:
        return error.message


def _template_facts(template: "ChatTemplate", config: RunConfig) -> TemplateFacts:
    from engine.data.chat.conversations import chat_of
    from engine.data.chat.rows import RowMaker
    from engine.data.chat.settings import ChatSettings
    from engine.data.shapes.account import RefusedError

    stops = ChatSettings.of(config).stops
    try:
        maker = RowMaker(template, stops, config.max_seq_len, "answers", "drop")
        made, example = maker.rows(chat_of(list(TALK))), template.render(TALK, None, prompt=False)
    except RefusedError as error:
        raise InputError("template_refuses_talk", why=reason_phrase(str(error))) from None
    last = made.rows[-1].ids[made.rows[-1].spans[-1][1] - 1]
    stop = str(template.tokenizer.convert_ids_to_tokens(last)) if last in maker.stops else ""
    kind = next((name for mark, name in KINDS.items() if mark in example), "")
    thoughtful = [{"role": "assistant", "content": f"<think>\n{THOUGHT}\n</think>\n\nParis."} if n == 1 else turn
                  for n, turn in enumerate(TALK)]  # fmt: skip
    keeps = THOUGHT in template.render(thoughtful, None, prompt=False)
    return TemplateFacts(kind, stop[:LONGEST_NAME], len(made.rows) == 1, keeps, example[:LONGEST_EXAMPLE])
