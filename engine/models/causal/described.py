"""Facts about a causal model by its config.json and its tensors; without torch."""

import re
import warnings
from collections.abc import Iterable
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.durable import read_json
from engine.contract.facts import DecoderFacts, ModelFacts, Positions, SpecialTokens
from engine.contract.untrusted import reading_untrusted
from engine.models.causal import shape
from engine.models.counting import counted
from engine.models.misfit import require_fit
from engine.models.model_folder import ModelFolder, plain
from engine.models.special_tokens import special_tokens
from engine.models.weightfile import Tensors, bad, wrapper_of

POSITIONS = re.compile(r"(?:^|\.)(?:wpe|embed_positions|position_embeddings?)\.weight$")
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def of_folder(folder: ModelFolder, config: RunConfig) -> ModelFacts:
    """The facts about the model of a folder; raises InputError if it is not complete."""
    parsed = parsed_config(folder)
    wrapper = wrapper_in(folder, parsed)
    tensors = {name.removeprefix(wrapper): tensor for name, tensor in folder.tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not shape.BUFFERS.search(name)}
    if shape.is_known(parsed.model_type):
        tensors = _complete(folder, tensors, parsed)
    else:
        _require_layers(folder, tensors, parsed.num_hidden_layers)
    if parsed.tie_word_embeddings:
        tensors.pop(shape.HEAD, None)
    once = {tensor.storage: name for name, tensor in reversed(tensors.items())}
    own = {name: tensor for name, tensor in tensors.items() if once[tensor.storage] == name}
    return ModelFacts(
        name=str(folder.path),
        family=str(folder.settings["model_type"]),
        rows=int(parsed.vocab_size),
        sizes=counted(own, shape.part_of, shape.is_linear, config),
        weights_bytes=folder.size,
        special=stop_tokens(folder, parsed),
        positions=Positions(row=context_of(parsed) or None if has_position_table(own) else None),
        wrapper=wrapper,
        settings=plain(folder.settings),
        decoder=decoder_facts(parsed),
    )


def parsed_config(folder: ModelFolder) -> Any:
    """transformers' configuration of a folder's model; raises InputError."""
    from transformers import AutoConfig  # loads torch, unless that is hidden by now

    with reading_untrusted("model_bad", folder.path), warnings.catch_warnings(action="ignore"):
        parsed = AutoConfig.for_model(**dict(folder.settings))
    lacking = [name for name in NEEDED if not isinstance(getattr(parsed, name, None), int)]
    if lacking:
        raise bad(folder.path, "config_lacks", names=", ".join(lacking))
    return parsed


def wrapper_in(folder: ModelFolder, parsed: Any) -> str:
    """The prefix of the names of all weights that a program which wrapped the model put there."""
    if not shape.is_known(parsed.model_type):
        return ""
    with reading_untrusted("model_bad", folder.path):
        own = shape.tensors_of(parsed)
    return wrapper_of(folder.tensors, [f"{base}{name}" for base in ("", *shape.BASES) for name in own])


def stop_tokens(folder: ModelFolder, parsed: Any) -> SpecialTokens:
    """The tokens that end a reply: those of the generation settings, or else of the config.json."""
    own = read_json(folder.path / "generation_config.json")
    said = {"eos_token_id": parsed.eos_token_id, "pad_token_id": parsed.pad_token_id, **folder.settings}
    if own.get("eos_token_id") is not None:
        said["eos_token_id"] = own["eos_token_id"]
    return special_tokens(said.get, ())


def context_of(parsed: Any) -> int:
    """The tokens of a row, prompt and answers together, that it was made for; 0 if the configuration does not say."""
    most = getattr(parsed, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else 0


def has_position_table(names: Iterable[str]) -> bool:
    """Whether positions have weights of their own: then there are none beyond the context."""
    return any(POSITIONS.search(name) for name in names)


def decoder_facts(parsed: Any) -> DecoderFacts:
    """The shape of a model of that configuration."""
    window = shape.declared(parsed, "sliding_window") or 0
    kinds = getattr(parsed, "layer_types", None) or ["sliding_attention" if window else ""] * parsed.num_hidden_layers
    sliding = sum(kind == "sliding_attention" for kind in kinds)
    return DecoderFacts(
        layers=parsed.num_hidden_layers,
        sliding_layers=sliding,
        width=parsed.hidden_size,
        hidden_width=shape.hidden_width(parsed),
        heads=parsed.num_attention_heads,
        kv_heads=shape.kv_heads(parsed),
        head_width=shape.head_width(parsed),
        window=window if sliding else 0,
        context=context_of(parsed),
        tied=bool(parsed.tie_word_embeddings),
    )


def _complete(folder: ModelFolder, tensors: Tensors, parsed: Any) -> Tensors:
    """The tensors under the names that transformers gives them; raises InputError if they are not all and only those.

    Models that were saved without their head have their names without the base's prefix.
    """
    wanted, have = shape.tensors_of(parsed), shape.own_names(tensors)
    own = {name: tensors[full] for name, full in have.items()}
    same = (next(name for name in wanted if shape.part_of(name) == "embeddings"), shape.HEAD)
    shapes, found = ({name: tensor.shape for name, tensor in some.items()} for some in (wanted, own))
    require_fit(folder.path, shapes, [same] if parsed.tie_word_embeddings else [], found)
    base = "transformer." if parsed.model_type == "gpt2" else "model."
    return {name if shape.part_of(name) == "head" else f"{base}{name}": tensor for name, tensor in own.items()}


def _require_layers(folder: ModelFolder, tensors: Tensors, wanted: int) -> None:
    """Raises InputError if the number of layers is not the one that the config.json says."""
    found = {int(layer[1]) for name in tensors if (layer := shape.LAYER.search(name))}
    if found != set(range(wanted)):
        raise bad(folder.path, "layers_differ", wanted=wanted, found=len(found))
