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
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForSeq2SeqLM

from engine.contract.config import RunConfig
from engine.contract.facts import ModelFacts, Positions, Sizes
from engine.contract.messages import InputError
from engine.contract.untrusted import reading_untrusted
from engine.models.counting import state_bytes
from engine.models.freezing import trained_parameters
from engine.models.from_transformers import loaded
from engine.models.lora import prepare_learning
from engine.models.model_folder import ModelFolder, plain
from engine.models.seq2seq.note import NEEDED
from engine.models.special_tokens import special_tokens
from engine.models.weightfile import wrapper_of

POSITIONS = ("embed_positions", "position_embeddings", "wpe")  # names that families give to a table of positions


def describe(folder: ModelFolder, config: RunConfig) -> ModelFacts:
    """Parameters, special tokens and positions of a folder's model; raises InputError."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wrapper = wrapper_in(folder.path, folder.tensors)
    net = loaded(AutoModelForSeq2SeqLM, folder.path, wrapper, device_map="meta")
    counted, _ = prepare_learning(net, config, parts(net))
    shapes = [parameter.shape for parameter in trained_parameters(net).values()]
    state = sum(state_bytes(config.optimizer, shape) for shape in shapes)
    return ModelFacts(
        name=str(folder.path),
        family=str(folder.settings["model_type"]),
        weights_bytes=folder.size,
        special=special_tokens(lambda name: getattr(net.config, name, None), NEEDED),
        rows=net.get_input_embeddings().weight.shape[0],
        sizes=Sizes(counted.parameters, counted.trained, state),
        positions=Positions(**positions(net)),
        wrapper=wrapper,
        settings=plain(folder.settings),
    )


def parts(net: Any) -> dict[str, list[nn.Parameter]]:
    """The embeddings, and encoder and decoder without them, by the model's own accessors."""
    embeddings = list(net.get_input_embeddings().parameters())
    shared = {id(parameter) for parameter in embeddings}
    stacks = {"encoder": net.get_encoder(), "decoder": net.get_decoder()}
    own = {name: [p for p in stack.parameters() if id(p) not in shared] for name, stack in stacks.items()}
    return {"embeddings": embeddings, **own}


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
