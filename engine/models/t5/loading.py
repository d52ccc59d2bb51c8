"""A T5's modules, or transformers' T5 where those will not do: from a folder, a file, a checkpoint, or new."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase, T5Config

from engine.contract.config import RunConfig
from engine.contract.messages import Message
from engine.contract.untrusted import reading_untrusted
from engine.models.family import Notify
from engine.models.from_transformers import with_weights
from engine.models.t5 import shape
from engine.models.t5.modules import T5Modules, is_known
from engine.models.weightfile import bad, wrapper_of


def new(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Any:
    """A new T5 with random weights, by transformers."""
    from transformers import T5ForConditionalGeneration

    torch.manual_seed(config.seed)
    return T5ForConditionalGeneration(_config(config, tokenizer, len(tokenizer), tied=True))


def of_file(
    path: Path,
    state: Mapping[str, Tensor],
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    packed: bool,
    notify: Notify,
) -> Any:
    """The T5 with the weights `state`, whose shape the settings say; raises InputError."""
    wrapper = wrapper_of(state, shape.NAMES)
    if wrapper:
        notify(Message.of("model_wrapped", path=str(path), prefix=wrapper))
    state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    shared = state.get(shape.SHARED)
    if shared is None or shared.dim() != 2 or not shape.NAMES & state.keys() - {shape.SHARED}:
        raise bad(path, "not_t5")
    head = state.get(shape.HEAD)
    tied = head is None or (head.shape == shared.shape and bool(torch.equal(head, shared)))
    parsed = _config(config, tokenizer, shared.shape[0], tied=tied, gated=shape.GATE in state)
    if shape.GATE in state:
        notify(Message.of("model_gated", path=str(path)))
    if packed and (modules := _modules(parsed, state)):
        return modules
    from transformers import T5ForConditionalGeneration

    return with_weights(T5ForConditionalGeneration, parsed, dict(state), path)


def modules_of_folder(path: Path, wrapper: str) -> T5Modules | None:
    """The modules of a folder's model; None if transformers must load it, or report its fault."""
    try:
        parsed = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        state = load_file(path / "model.safetensors")
    except Exception:  # transformers is tried next, and its error is the one reported
        return None
    state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return _modules(parsed, state, GenerationConfig())  # those of the folder follow


def modules_of_checkpoint(settings: dict[str, Any], state: Mapping[str, Tensor], path: Path) -> T5Modules | None:
    """The modules of a checkpoint's model; None if it is to be built by transformers; raises InputError."""
    with reading_untrusted("model_bad", path):
        parsed = AutoConfig.for_model(**settings)
    return _modules(parsed, state)


def _modules(
    parsed: Any, state: Mapping[str, Tensor], generation_config: GenerationConfig | None = None
) -> T5Modules | None:
    if not is_known(parsed):
        return None
    parsed.dtype = torch.float32
    try:
        return T5Modules(parsed, generation_config or GenerationConfig.from_model_config(parsed), state)
    except Exception:  # transformers is tried next, and its error is the one reported
        return None


def _config(
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
        feed_forward_proj=shape.GATED if gated else "relu",
    )
