"""The kind of model in a folder by the names of its weights, whatever its config.json calls it; without torch."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.models.kinds import Kind, error_of
from engine.models.weightfile import Tensors, tensors_of, weight_files

FLOATS = {"F64", "F32", "F16", "BF16"}
QUANTIZED = ("quantization_config", "compression_config")  # in config.json
CROSS = re.compile(r"EncDecAttention|encoder_attn|cross_?attn|cross_?attention", re.IGNORECASE)
IMAGES = re.compile(r"patch_embed|vision_|visual\.|pixel", re.IGNORECASE)
SPEECH = re.compile(r"feature_extractor\.|encoder\.conv1\.|feature_projection|speech_encoder", re.IGNORECASE)
ENCODER, EMBEDDED = re.compile(r"(^|[._])encoder\."), re.compile(r"(^|\.)embeddings\.")
LAYER = re.compile(r"((^|\.)h|layers?|blocks?|groups)\.\d+\.")
DECODER = re.compile(r"(^|\.)decoder\.(block|layers?|embed\w*)\.")
NO_ENCODER = re.compile(r"(^|\.)lm_head\.weight|query_key_value|output_layer\.|\.mixer\.")  # of unusual decoders
HEAD = re.compile(r"^((model|module|_orig_mod)\.)*(classification_head|classifier|qa_outputs|score|v_head)\.")
LONGEST = 60  # characters of the name that a configuration gives its model


def tensors_in(path: Path, settings: Mapping[str, Any]) -> Tensors:
    """The tensors of a folder's model; raises InputError saying what it is if its weights are quantized."""
    try:
        files = weight_files(path)
    except InputError:
        if _said_to_be_quantized(settings):  # files of quantized weights have other names
            raise _quantized(path, _method(settings)) from None
        raise
    tensors: Tensors = {}
    for file in files:
        tensors.update(tensors_of(file))
    _require_full_numbers(path, tensors, settings)
    return tensors


def require_encoder_decoder(path: Path, settings: Mapping[str, Any], tensors: Tensors) -> None:
    """Raises InputError saying what a model is if its weights are not an encoder and a decoder that reads it.

    Some families read images or speech in addition to text.
    """
    if (other := _other_kind(tensors)) not in ("", "images", "speech"):
        raise error_of(path, _named(other, settings))


def require_decoder(path: Path, settings: Mapping[str, Any], tensors: Tensors) -> None:
    """Raises InputError saying what a model is if its weights are not a decoder alone, as a causal model's are."""
    if (other := _other_kind(tensors)) != "decoder":
        raise error_of(path, _named(other or "encoder_decoder", settings))


def unknown(path: Path, settings: Mapping[str, Any], tensors: Tensors) -> InputError:
    """The error that says what a model of no known family is."""
    other = _other_kind(tensors)
    if other in ("", "decoder"):
        return error_of(path, _unknown("unknown_decoder" if other else "unknown", settings))
    return error_of(path, _named(other, settings))


def _require_full_numbers(path: Path, tensors: Tensors, settings: Mapping[str, Any]) -> None:
    """Raises InputError if weights are quantized: stored in few bits, too few for the small changes of a step."""
    packed = next((name for name, tensor in tensors.items() if _is_packed(name, tensor.kind)), "")
    if packed:
        raise _quantized(path, _method(settings) or f"{packed} in {tensors[packed].kind}")
    if name := _said_to_be_quantized(settings):
        kind = Kind.of("called_quantized", name=name)
        raise error_of(path, kind, drop=name)


def _said_to_be_quantized(settings: Mapping[str, Any]) -> str:
    return next((name for name in QUANTIZED if settings.get(name)), "")


def _method(settings: Mapping[str, Any]) -> str:
    said = settings.get(_said_to_be_quantized(settings))
    return str(said.get("quant_method") or "")[:LONGEST] if isinstance(said, dict) else ""


def _quantized(path: Path, how: str) -> InputError:
    kind = Kind.of("quantized", how=Phrase.of("model_kind.in_brackets", what=how) if how else "")
    return error_of(path, kind)


def require_file_of_text(path: Path, tensors: Tensors) -> None:
    """Raises InputError saying what a file of weights is, if it is known not to be an encoder and a decoder."""
    _require_full_numbers(path, tensors, {})
    if other := _other_kind(tensors):
        raise error_of(path, _named("decoder_file" if other == "decoder" else other, {}))


def _is_packed(name: str, kind: str) -> bool:
    """Whether weights are integers or 8-bit; positions and masks, which some families also store, do not count."""
    return kind not in FLOATS and "weight" in name.rpartition(".")[2]


def _other_kind(tensors: Iterable[str]) -> str:
    """The kind of model that has weights of such names; empty if they have an encoder and a decoder that reads it."""
    names = list(tensors)

    def found(pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(name) for name in names)

    for kind, pattern in (("images", IMAGES), ("speech", SPEECH), ("head", HEAD)):
        if found(pattern):
            return kind
    if (found(CROSS) and found(ENCODER)) or not found(LAYER):
        return ""
    only_encoder = (found(ENCODER) or found(EMBEDDED)) and not found(DECODER) and not found(NO_ENCODER)
    return "encoder" if only_encoder else "decoder"


def called(settings: Mapping[str, Any]) -> str:
    """The name that a configuration gives its model."""
    architectures = settings.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    names = [str(name)[:LONGEST] for name in (settings.get("model_type"), first) if name]
    return ", ".join(names)


def _by_config(settings: Mapping[str, Any]) -> Phrase | str:
    name = called(settings)
    return Phrase.of("model_kind.by_config", name=name) if name else ""


def _named(other: str, settings: Mapping[str, Any]) -> Kind:
    return Kind.of(other, by=_by_config(settings))


def _unknown(key: str, settings: Mapping[str, Any]) -> Kind:
    own = Phrase("model_kind.own_code") if settings.get("auto_map") else ""
    return Kind.of(key, own=own, by=_by_config(settings))
