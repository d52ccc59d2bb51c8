"""Load weights, freeze what shall not learn, choose the precision."""

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedTokenizerBase,
    T5Config,
)

from engine.contract.config import RunConfig
from engine.contract.inputs import tokenizer_folder
from engine.contract.messages import InputError, Message
from engine.contract.untrusted import reading_foreign
from engine.data.tokenizer import load_tokenizer, tokens_needed
from engine.models.generation import read_generation
from engine.models.inspection import GATE, GATED, NO_T5, T5_FAMILY, misfit, read_config
from engine.models.kinds import require_file, require_folder
from engine.models.structure import require_file_of_text, tensors_in
from engine.models.t5.modules import T5Modules, is_known
from engine.models.weightfile import T5_NAMES, bad, require_regular, state_within, tensors_of, wrapper_of

Tell = Callable[[Message], None]


def _tell_nobody(_message: Message) -> None:
    """A notice that nobody asked for."""


def load_tokenizer_of(config: RunConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a run; raises InputError, of the model first where that is none and the tokenizer in its folder.

    A tokenizer of another kind of model has other faults, which are not worth fixing.
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

    `packed`: it is for a packed network, and may be the modules alone, without transformers' forward pass.
    """
    model = load_mapped(config, tokenizer, packed=packed)
    detach_from_files((*model.parameters(), *model.buffers()))
    return model


def load_mapped(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, *, packed: bool = False, tell: Tell = _tell_nobody
) -> Any:
    """The same with weights that may still be those of a mapped file: they are to be detached before they are used.

    `tell` is told what was made of the files that they do not say.
    """
    path = config.pretrained_model
    if not path:
        from transformers import T5ForConditionalGeneration

        torch.manual_seed(config.seed)
        model: Any = T5ForConditionalGeneration(_t5_config(config, tokenizer, len(tokenizer), tied=True))
    elif Path(path).is_dir():
        model = _from_folder(Path(path), packed=packed, tell=tell)
    else:
        model = _from_state_dict(Path(path), config, tokenizer, packed=packed, tell=tell)
    set_dropout(model, config.dropout_rate)
    _check_vocabulary(model, config, tokenizer)
    return model


def build_model(model_config: dict[str, Any], state: dict[str, Tensor], path: Path, *, packed: bool = False) -> Any:
    """The model that a checkpoint describes, its weights those of `state`, mapped or not; raises InputError."""
    with reading_foreign("model_bad", path):
        parsed = AutoConfig.for_model(**model_config)
    if packed and (modules := _modules(parsed, state)):
        return modules
    with reading_foreign("model_bad", path):
        kind = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(parsed)]
    return _with_weights(kind, parsed, state, path)


def _modules(parsed: Any, state: Mapping[str, Tensor], generation_config: Any = None) -> T5Modules | None:
    """A T5's modules with these weights; None where it is none, or transformers must say what is wrong with them."""
    if not is_known(parsed):
        return None
    parsed.dtype = torch.float32
    try:
        return T5Modules(parsed, generation_config or GenerationConfig.from_model_config(parsed), state)
    except Exception:  # whatever it is, transformers is asked next, and what it says is told
        return None


def _modules_of_folder(path: Path, wrapper: str, settings: GenerationConfig) -> T5Modules | None:
    try:
        parsed = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        state = load_file(path / "model.safetensors")
    except Exception:  # likewise
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


def _from_folder(path: Path, *, packed: bool, tell: Tell) -> Any:
    require_folder(path)
    settings = read_config(path / "config.json")
    names = tensors_in(path, settings)
    generation = read_generation(path)
    if settings["model_type"] in T5_FAMILY:
        wrapper = wrapper_of(names, T5_NAMES)
    else:
        from engine.models.seq2seq.described import wrapper_in

        wrapper = wrapper_in(path, names)
    _tell_wrapper(wrapper, path, tell)
    if packed and (modules := _modules_of_folder(path, wrapper, generation)):
        return modules
    model = loaded(path, wrapper)
    model.generation_config = generation
    return model


def _tell_wrapper(wrapper: str, path: Path, tell: Tell) -> None:
    if wrapper:
        tell(Message.of("model_wrapped", path=str(path), prefix=wrapper))


def loaded(path: Path, wrapper: str = "", **more: Any) -> Any:
    """transformers' model of a folder, without `wrapper` before its weights' names; raises InputError."""
    renamed = {"key_mapping": {f"^{re.escape(wrapper)}": ""}} if wrapper else {}
    with reading_foreign("model_bad", path), warnings.catch_warnings(action="ignore"):  # said in our own words
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            path,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,  # its default asks on standard input, and a "y" there would run the folder's code
            ignore_mismatched_sizes=True,  # they are told in our own words
            output_loading_info=True,
            **renamed,
            **more,
        )
    _check_keys(path, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model


def _from_state_dict(
    path: Path, config: RunConfig, tokenizer: PreTrainedTokenizerBase, *, packed: bool, tell: Tell
) -> Any:
    state = _read_state_dict(path)
    wrapper = wrapper_of(state, T5_NAMES)
    _tell_wrapper(wrapper, path, tell)
    state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    shared = state.get("shared.weight")
    if shared is None or shared.dim() != 2 or not T5_NAMES & state.keys() - {"shared.weight"}:
        raise bad(path, *NO_T5)
    head = state.get("lm_head.weight")
    tied = head is None or (head.shape == shared.shape and bool(torch.equal(head, shared)))
    parsed = _t5_config(config, tokenizer, shared.shape[0], tied=tied, gated=GATE in state)
    if GATE in state:
        tell(Message.of("model_gated", path=str(path)))
    if packed and (modules := _modules(parsed, state)):
        return modules
    from transformers import T5ForConditionalGeneration

    return _with_weights(T5ForConditionalGeneration, parsed, state, path)


def _with_weights(kind: Any, parsed: Any, state: dict[str, Tensor], path: Path) -> Any:
    """A model of class `kind` with the weights `state`; raises InputError where they do not fit."""
    _check_fit(kind, parsed, state, path)
    with reading_foreign("model_bad", path):
        return kind.from_pretrained(None, config=parsed, state_dict=dict(state), dtype=torch.float32)


def _check_fit(kind: Any, parsed: Any, state: dict[str, Tensor], path: Path) -> None:
    """Compares names and shapes with those of an empty model; names of one shared weight stand for each other."""
    with reading_foreign("model_bad", path), torch.device("meta"):
        wanted = kind(parsed).state_dict(keep_vars=True)
    groups: dict[int, set[str]] = {}
    for name, tensor in wanted.items():
        groups.setdefault(id(tensor), set()).add(name)
    missing = [min(names) for names in groups.values() if not names & state.keys()]
    unexpected = [name for name in state if name not in wanted]
    mismatched = [name for name in state if name in wanted and state[name].shape != wanted[name].shape]
    _check_keys(path, missing, unexpected, mismatched)


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    require_regular(path, "pretrained_model")
    require_file(path)
    require_file_of_text(path, tensors_of(path))  # in our own words, whatever is wrong with it
    with reading_foreign("model_bad", path):
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # on pickles' protocols: they are refused in our own words
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    found = state_within(state, Tensor)
    if found is None:
        raise InputError("model_pickle", path=str(path), why="it holds something other than named tensors")
    return dict(found)


def _check_keys(path: Path, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[Any]) -> None:
    groups = (list(missing), list(unexpected), [str(m[0] if isinstance(m, tuple) else m) for m in mismatched])
    if any(groups):
        raise misfit(path, *groups, {})


def detach_from_files(tensors: Iterable[Tensor]) -> None:
    """Copies weights out of the files they are mapped from: writing over such a file would change them mid-run."""
    for tensor in tensors:
        tensor.data = tensor.data.clone()


def set_dropout(model: Any, rate: float) -> None:
    """Sets every rate of dropout, of whatever kind and name, in the model and its configuration; below 0: none."""
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
    name, named = config.pretrained_model or "new T5", tokenizer_folder(config)
    rows = model.get_input_embeddings().weight.shape[0]
    highest = tokens_needed(tokenizer)
    if highest > rows:
        raise InputError("vocabulary_mismatch", tokenizer=named, tokens=highest, model=name, rows=rows)
    eos = model.config.eos_token_id
    if tokenizer.eos_token_id not in (eos if isinstance(eos, list) else [eos]):
        raise InputError(
            "special_token_mismatch",
            model=name,
            model_id=str(eos),
            token="eos",
            tokenizer=named,
            tokenizer_id=str(tokenizer.eos_token_id),
        )
    if model.config.decoder_start_token_id is None:
        raise InputError("decoder_start_missing", model=name)
    for token in ("decoder_start", "pad"):
        number = getattr(model.config, f"{token}_token_id")
        if not isinstance(number, int) or not 0 <= number < rows:
            raise InputError("special_token_bad", model=name, token=token, number=str(number), rows=rows)


@dataclass(frozen=True)
class Frozen:
    """What `freeze` did: parameter counts, and what to tell the user."""

    parameters: int
    trained: int
    notices: tuple[Message, ...]


def freeze(model: Any, names: str) -> Frozen:
    """Freezes the parts of `model` that `names` lists with commas; raises InputError for an unknown part.

    `encoder`, `decoder` and `embeddings` are found through the model's own accessors; any other name stands for
    the parameters whose names begin with it.
    """
    parts = [name for name in (part.strip() for part in names.split(",")) if name]
    for name in parts:
        for parameter in _parameters_of(model, name):
            parameter.requires_grad_(False)
    everything = list(model.parameters())
    total = sum(p.numel() for p in everything)
    trained = sum(p.numel() for p in everything if p.requires_grad)
    if not trained:
        raise InputError("nothing_trainable", freeze=names)
    notices = [Message.of("trainable", trained=f"{trained:,}", total=f"{total:,}", frozen=", ".join(parts) or "-")]
    head = model.get_output_embeddings()
    if head is not None and not head.weight.requires_grad and head.weight is model.get_input_embeddings().weight:
        notices.append(Message("head_frozen"))
    return Frozen(total, trained, tuple(notices))


def _parameters_of(model: Any, name: str) -> list[nn.Parameter]:
    if name == "embeddings":
        return list(model.get_input_embeddings().parameters())
    if name in ("encoder", "decoder"):
        part = model.get_encoder() if name == "encoder" else model.get_decoder()
        shared = {id(p) for p in model.get_input_embeddings().parameters()}
        return [p for p in part.parameters() if id(p) not in shared]
    found = [p for key, p in model.named_parameters() if key.startswith(name)]
    if not found:
        known = ", ".join(dict(model.named_children()))
        raise InputError("freeze_unknown", name=name, known=known)
    return found


def set_training_mode(model: nn.Module) -> None:
    """Train mode, but eval mode for every part whose parameters are all frozen: it has no dropout."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            module.eval()


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name, each once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint must know besides the trained parameters: frozen ones and persistent buffers, each once."""
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    tensors: dict[str, Tensor] = {}
    seen = set(trained)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach()
    return tensors


def choose_precision(wanted: str, device: torch.device) -> tuple[str, Message | None]:
    """("bf16" or "fp32", and a notice where bf16 had to give way): bf16 only where the hardware computes in it."""
    if wanted == "fp32":
        return "fp32", None
    if _native_bf16(device):
        return "bf16", None
    return "fp32", Message.of("precision_fallback", device=device.type)


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


def model_config_json(model: Any) -> str:
    """The model's configuration, from which `build_model` makes it again."""
    return json.dumps(model.config.to_dict(), default=str, sort_keys=True)
