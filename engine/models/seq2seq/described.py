"""Facts about a model of any family but T5, from its transformers class, which is built without its weights.

Needs torch; an inspection imports it only if it has to.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoConfig

from engine.contract.facts import ModelFacts, Positions
from engine.contract.messages import InputError
from engine.contract.untrusted import reading_untrusted
from engine.models.freezing import freeze
from engine.models.seq2seq.from_transformers import loaded
from engine.models.special_tokens import special_tokens
from engine.models.weightfile import Tensors, weight_files, wrapper_of

POSITIONS = ("embed_positions", "position_embeddings", "wpe")  # names that families give to a table of positions


def describe(path: Path, parts: str, tensors: Tensors) -> ModelFacts:
    """Parameters, special tokens and positions of a folder's model whose files hold `tensors`; raises InputError."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wrapper = wrapper_in(path, tensors)
    net = loaded(path, wrapper, device_map="meta")
    counted = freeze(net, parts)
    return ModelFacts(
        family=str(net.config.model_type),
        weights_bytes=sum(file.stat().st_size for file in weight_files(path)),
        special=special_tokens(lambda name: getattr(net.config, name, None)),
        rows=net.get_input_embeddings().weight.shape[0],
        parameters=counted.parameters,
        trained=counted.trained,
        positions=Positions(**positions(net)),
        wrapper=wrapper,
    )


def wrapper_in(path: Path, names: Mapping[str, Any]) -> str:
    """The prefix of the names of all weights in a folder's files that is not part of the family's names."""
    with reading_untrusted("model_bad", path), warnings.catch_warnings(action="ignore"), torch.device("meta"):
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        kind: Any = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING.get(type(config), None)
        if kind is None:
            why = f"transformers has no sequence-to-sequence model for {config.model_type}"
            raise InputError("model_bad", path=str(path), why=why)
        wanted = kind(config).state_dict()
    return wrapper_of(names, wanted)


def positions(net: Any) -> dict[str, int]:
    """The most tokens that a prompt and a label may have, for models with a limited number of positions."""
    found = {"prompt": _positions(net.get_encoder()), "label": _positions(net.get_decoder())}
    return {part: most for part, most in found.items() if most}


def _positions(part: nn.Module) -> int:
    """The number of positions in the tables of a part; 0 if there is none, or if it grows with the longest row."""
    tables = [
        module
        for name, module in part.named_modules()
        if name.rpartition(".")[2] in POSITIONS and not hasattr(module, "make_weight")
    ]
    places = [
        int(table.weight.shape[0]) - int(getattr(table, "offset", 0))
        for table in tables
        if isinstance(getattr(table, "weight", None), torch.Tensor) and table.weight.dim() == 2
    ]
    return min(places, default=0)
