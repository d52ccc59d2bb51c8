"""Loads a model from whatever source a run uses, and checks it against its tokenizer."""

import json
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    GenerationConfig,
    PreTrainedTokenizerBase,
    T5Config,
)

from engine.contract import vocabulary
from engine.contract.config import RunConfig
from engine.contract.inputs import tokenizer_folder
from engine.contract.messages import InputError, Message
from engine.contract.untrusted import reading_untrusted
from engine.data.tokenizer import facts_of, load_tokenizer
from engine.models.generation import read_generation
from engine.models.inspection import GATE, GATED, NO_T5, T5_FAMILY, read_config
from engine.models.kinds import require_file, require_folder
from engine.models.seq2seq.from_transformers import loaded, with_weights
from engine.models.special_tokens import special_tokens
from engine.models.structure import require_file_of_text, tensors_in
from engine.models.t5.modules import T5Modules, is_known
from engine.models.weightfile import T5_NAMES, bad, require_regular, state_within, tensors_of, wrapper_of

Notify = Callable[[Message], None]


def _ignore(_message: Message) -> None:
    """Ignores a notice."""


def load_tokenizer_of(config: RunConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a run; raises InputError, about the model first if that is invalid and holds the tokenizer.

    The tokenizer of another kind of model has other faults, which are not worth fixing.
    """
    folder = tokenizer_folder(config)
    try:
        return load_tokenizer(folder)
    except InputError:
        if Path(folder).is_dir() and folder == config.pretrained_model:
            require_folder(Path(folder))
            tensors_in(Path(folder), read_config(Path(folder) / "config.json"))
        raise


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
    path = config.pretrained_model
    if not path:
        from transformers import T5ForConditionalGeneration

        torch.manual_seed(config.seed)
        model: Any = T5ForConditionalGeneration(_t5_config(config, tokenizer, len(tokenizer), tied=True))
    elif Path(path).is_dir():
        model = _from_folder(Path(path), packed=packed, notify=notify)
    else:
        model = _from_state_dict(Path(path), config, tokenizer, packed=packed, notify=notify)
    set_dropout(model, config.dropout_rate)
    _check_vocabulary(model, config, tokenizer)
    return model


def build_model(model_config: dict[str, Any], state: dict[str, Tensor], path: Path, *, packed: bool = False) -> Any:
    """The model that a checkpoint describes, with the weights `state`, mapped or not; raises InputError."""
    with reading_untrusted("model_bad", path):
        parsed = AutoConfig.for_model(**model_config)
    if packed and (modules := _modules(parsed, state)):
        return modules
    with reading_untrusted("model_bad", path):
        kind = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(parsed)]
    return with_weights(kind, parsed, state, path)


def _modules(parsed: Any, state: Mapping[str, Tensor], generation_config: Any = None) -> T5Modules | None:
    """A T5's modules with these weights; None if it is not a T5, or if transformers must report a fault."""
    if not is_known(parsed):
        return None
    parsed.dtype = torch.float32
    try:
        return T5Modules(parsed, generation_config or GenerationConfig.from_model_config(parsed), state)
    except Exception:  # transformers is tried next, and its error is the one reported
        return None


def _modules_of_folder(path: Path, wrapper: str, settings: GenerationConfig) -> T5Modules | None:
    try:
        parsed = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        state = load_file(path / "model.safetensors")
    except Exception:  # transformers is tried next, and its error is the one reported
        return None
    return _modules(parsed, {name.removeprefix(wrapper): tensor for name, tensor in state.items()}, settings)


def _t5_config(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, vocabulary: int, *, tied: bool, gated: bool = False
) -> T5Config:
    return T5Config(  # type: ignore[call-arg]  # the fields of its base class
        vocab_size=vocabulary,
        d_model=config.d_model,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        num_layers=config.num_layers,
        num_decoder_layers=config.num_decoder_layers,
        num_heads=config.num_heads,
        dropout_rate=0.1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=tied,
        feed_forward_proj=GATED if gated else "relu",
    )


def _from_folder(path: Path, *, packed: bool, notify: Notify) -> Any:
    require_folder(path)
    settings = read_config(path / "config.json")
    names = tensors_in(path, settings)
    generation = read_generation(path)
    if settings["model_type"] in T5_FAMILY:
        wrapper = wrapper_of(names, T5_NAMES)
    else:
        from engine.models.seq2seq.described import wrapper_in

        wrapper = wrapper_in(path, names)
    _notify_wrapper(wrapper, path, notify)
    if packed and (modules := _modules_of_folder(path, wrapper, generation)):
        return modules
    model = loaded(path, wrapper)
    model.generation_config = generation
    return model


def _notify_wrapper(wrapper: str, path: Path, notify: Notify) -> None:
    if wrapper:
        notify(Message.of("model_wrapped", path=str(path), prefix=wrapper))


def _from_state_dict(
    path: Path, config: RunConfig, tokenizer: PreTrainedTokenizerBase, *, packed: bool, notify: Notify
) -> Any:
    state = _read_state_dict(path)
    wrapper = wrapper_of(state, T5_NAMES)
    _notify_wrapper(wrapper, path, notify)
    state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    shared = state.get("shared.weight")
    if shared is None or shared.dim() != 2 or not T5_NAMES & state.keys() - {"shared.weight"}:
        raise bad(path, *NO_T5)
    head = state.get("lm_head.weight")
    tied = head is None or (head.shape == shared.shape and bool(torch.equal(head, shared)))
    parsed = _t5_config(config, tokenizer, shared.shape[0], tied=tied, gated=GATE in state)
    if GATE in state:
        notify(Message.of("model_gated", path=str(path)))
    if packed and (modules := _modules(parsed, state)):
        return modules
    from transformers import T5ForConditionalGeneration

    return with_weights(T5ForConditionalGeneration, parsed, state, path)


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


def detach_from_files(tensors: Iterable[Tensor]) -> None:
    """Copies weights out of the files they are mapped from: overwriting such a file would change them mid-run."""
    for tensor in tensors:
        tensor.data = tensor.data.clone()


def set_dropout(model: Any, rate: float) -> None:
    """Sets every dropout rate, of any kind and name, in the model and its configuration; does nothing below 0."""
    if rate < 0:
        return
    parts = [getattr(model.config, name, None) for name in ("encoder", "decoder")]
    for holder in (model.config, *(part for part in parts if hasattr(part, "to_dict")), *model.modules()):
        if isinstance(holder, _DropoutNd):
            holder.p = rate
        for name, value in list(vars(holder).items()):
            if _is_rate(name, value):
                setattr(holder, name, rate)


def _is_rate(name: str, value: Any) -> bool:
    dropped = "dropout" in name or "layerdrop" in name
    return dropped and isinstance(value, int | float) and not isinstance(value, bool)


def _check_vocabulary(model: Any, config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    special = special_tokens(lambda name: getattr(model.config, name, None))
    facts, named = facts_of(tokenizer), tokenizer_folder(config)
    for fault in vocabulary.faults(config.pretrained_model or "new T5", rows, special, named, facts):
        raise InputError(fault.code, **fault.args)


def model_config_json(model: Any) -> str:
    """The model's configuration, from which `build_model` rebuilds it."""
    return json.dumps(model.config.to_dict(), default=str, sort_keys=True)
