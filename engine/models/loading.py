"""Loads a model from whatever source a run uses, and checks it against its tokenizer."""

import json
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedTokenizerBase

from engine.contract import vocabulary
from engine.contract.config import RunConfig
from engine.contract.inputs import tokenizer_folder
from engine.contract.messages import InputError, Message
from engine.contract.untrusted import reading_untrusted
from engine.data.chat.templates import read_template
from engine.data.tokenizer import facts_of, load_tokenizer
from engine.models.family import Notify
from engine.models.generation import read_generation
from engine.models.kinds import require_file
from engine.models.registry import BY_SETTINGS, family_by, family_for, family_of, opened, require_chosen
from engine.models.sizes import RATES
from engine.models.special_tokens import special_tokens
from engine.models.structure import require_file_of_text
from engine.models.weightfile import bad, require_regular, state_within, tensors_of

KINDS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}  # of weights that models are saved in


def _ignore(_message: Message) -> None:
    """Ignores a notice."""


def load_tokenizer_of(config: RunConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a run, with the chat template that its settings name; raises InputError.

    It is about the model first if that is invalid and holds the tokenizer.

    The tokenizer of another kind of model has other faults, which are not worth fixing.
    """
    folder, family = tokenizer_folder(config), family_for(config)
    try:
        tokenizer = load_tokenizer(folder, family.tokens)
    except InputError:
        if Path(folder).is_dir() and folder == config.pretrained_model:
            opened(Path(folder))
        raise
    if family.rows == "chat" and config.chat_template:  # it is published with the model
        tokenizer.chat_template = read_template(config.chat_template, tokenizer)
    return tokenizer


def load_model(config: RunConfig, tokenizer: PreTrainedTokenizerBase, *, packed: bool = False) -> Any:
    """The model of a run, fp32, on the CPU, checked against the tokenizer; raises InputError.

    `packed`: the model is for a packed network, and may be the modules alone, without transformers' forward pass.
    """
    model = load_mapped(config, tokenizer, packed=packed)
    detach_from_files((*model.parameters(), *model.buffers()))
    return model


def load_mapped(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, *, packed: bool = False, notify: Notify = _ignore
) -> Any:
    """The same, but the weights may still be mapped from a file: detach them before they are used.

    `notify` is called with notices about what had to be assumed because the files do not state it.
    """
    path = Path(config.pretrained_model)
    if not config.pretrained_model:
        require_chosen(BY_SETTINGS.new_name, BY_SETTINGS, config.family)
        model: Any = BY_SETTINGS.new(config, tokenizer)
    elif path.is_dir():
        model = _from_folder(path, config.family, packed=packed, notify=notify)
    else:
        require_chosen(str(path), BY_SETTINGS, config.family)
        model = BY_SETTINGS.of_file(path, _read_state_dict(path), config, tokenizer, packed=packed, notify=notify)
    set_dropout(model, config.dropout_rate)
    _check_vocabulary(model, config, tokenizer)
    return model


def build_model(model_config: dict[str, Any], state: dict[str, Tensor], path: Path, *, packed: bool = False) -> Any:
    """The model that a checkpoint describes, with the weights `state`, mapped or not; raises InputError."""
    family = family_by(model_config)
    if family is None:
        kind = str(model_config.get("model_type"))
        raise bad(path, "family_unknown", kind=kind)
    return family.build(model_config, state, path, packed=packed)


def _from_folder(path: Path, chosen: str, *, packed: bool, notify: Notify) -> Any:
    family, folder = opened(path, chosen)
    generation = read_generation(path)
    wrapper = family.wrapper(folder)
    if wrapper:
        notify(Message.of("model_wrapped", path=str(path), prefix=wrapper))
    model = family.load(folder, wrapper, packed=packed)
    model.generation_config = generation
    return model


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    require_regular(path, "pretrained_model")
    require_file(path)
    require_file_of_text(path, tensors_of(path))  # reports any fault in our own words
    with reading_untrusted("model_bad", path):
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # about pickle protocols: they are refused in our own words
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    found = state_within(state, Tensor)
    if found is None:
        raise InputError("model_pickle", path=str(path), why="it holds something other than named tensors")
    return dict(found)


def dtype_of(files: Iterable[Path]) -> torch.dtype:
    """The floating-point dtype of most weights in some files; raises InputError."""
    counts = Counter[str]()
    for file in files:
        for tensor in tensors_of(file).values():
            counts[tensor.kind] += tensor.count
    known = [KINDS[kind] for kind, _ in counts.most_common() if kind in KINDS]
    return known[0] if known else torch.float32


def detach_from_files(tensors: Iterable[Tensor], kind: torch.dtype | None = None) -> None:
    """Copies weights out of the files they are mapped from: overwriting such a file would change them mid-run.

    The copies have the dtype `kind`, if one is given.
    """
    for tensor in tensors:
        tensor.data = tensor.data.to(kind or tensor.dtype, copy=True)


def set_dropout(model: Any, rate: float) -> None:
    """Sets every dropout rate, of any kind and name, in the model and its configuration; does nothing below 0."""
    if rate < 0:
        return
    for holder in _with_rates(model):
        if isinstance(holder, _DropoutNd):
            holder.p = rate
        for name, value in list(vars(holder).items()):
            if _is_rate(name, value):
                setattr(holder, name, rate)


def drops(model: Any) -> bool:
    """Whether any dropout rate in the model or its configuration is above 0."""
    return any(
        (isinstance(holder, _DropoutNd) and holder.p > 0)
        or any(_is_rate(name, value) and value > 0 for name, value in vars(holder).items())
        for holder in _with_rates(model)
    )


def _with_rates(model: Any) -> list[Any]:
    """Everything of a model that may hold a dropout rate: its configurations and its modules."""
    parts = [getattr(model.config, name, None) for name in ("encoder", "decoder")]
    return [model.config, *(part for part in parts if hasattr(part, "to_dict")), *model.modules()]


def _is_rate(name: str, value: Any) -> bool:
    dropped = any(part in name for part in RATES)
    return dropped and isinstance(value, int | float) and not isinstance(value, bool)


def _check_vocabulary(model: Any, config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    special = special_tokens(lambda name: getattr(model.config, name, None), family_of(model).needed)
    facts, named = facts_of(tokenizer), tokenizer_folder(config)
    for fault in vocabulary.faults(config.pretrained_model or BY_SETTINGS.new_name, rows, special, named, facts):
        raise InputError(fault.code, **fault.args)


def model_config_json(model: Any) -> str:
    """The model's configuration, from which `build_model` rebuilds it."""
    return json.dumps(model.config.to_dict(), default=str, sort_keys=True)
