"""The kind of model in a folder by the names of its weights, whatever its config.json calls it; without torch."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.contract.messages import InputError
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

WANTED = (
    "Name a sequence-to-sequence model: a T5, mT5, BART, Pegasus, Marian or another with an encoder and a decoder.",
    "请指定序列到序列模型：T5、mT5、BART、Pegasus、Marian 等含编码器和解码器的模型。",
)
BEFORE = ("Name the model that it was made from.", "请指定它的原始模型。")
# Other models by their weights: what they are, and what to use instead.
OTHERS = {
    "images": ("a model that reads images", "读取图像的模型", *WANTED),
    "speech": ("a model that reads speech", "读取语音的模型", *WANTED),
    "encoder": ("an encoder alone, which writes no text", "只有编码器、不能生成文本的模型", *WANTED),
    "decoder": ("a decoder alone, which has no encoder for the prompt", "只有解码器、没有编码器的模型", *WANTED),
    "head": ("a model with a head that scores or classifies", "带有评分或分类层的模型", *BEFORE),
}


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


def unknown(path: Path, settings: Mapping[str, Any], tensors: Tensors) -> InputError:
    """The error that says what a model of no known family is."""
    other = _other_kind(tensors)
    return error_of(path, _named(other, settings) if other else _unknown(settings))


def _require_full_numbers(path: Path, tensors: Tensors, settings: Mapping[str, Any]) -> None:
    """Raises InputError if weights are quantized: stored in few bits, too few for the small changes of a step."""
    packed = next((name for name, tensor in tensors.items() if _is_packed(name, tensor.kind)), "")
    if packed:
        raise _quantized(path, _method(settings) or f"{packed} in {tensors[packed].kind}")
    if name := _said_to_be_quantized(settings):
        kind = Kind(
            f"a model of full numbers whose config.json says that it is quantized ({name})",
            f"完整数值的模型，但其 config.json 称它已量化（{name}）",
            f"Take {name} out of its config.json.",
            f"请从其 config.json 中删除 {name}。",
        )
        raise error_of(path, kind, drop=name)


def _said_to_be_quantized(settings: Mapping[str, Any]) -> str:
    return next((name for name in QUANTIZED if settings.get(name)), "")


def _method(settings: Mapping[str, Any]) -> str:
    said = settings.get(_said_to_be_quantized(settings))
    return str(said.get("quant_method") or "")[:LONGEST] if isinstance(said, dict) else ""


def _quantized(path: Path, how: str) -> InputError:
    kind = Kind(
        f"a quantized model{f' ({how})' if how else ''}, which cannot be trained",
        f"量化模型{f'（{how}）' if how else ''}，无法训练",
        "Name the model that it was made from, in fp32, bf16 or fp16.",
        "请指定量化之前的模型（fp32、bf16 或 fp16）。",
    )
    return error_of(path, kind)


def require_file_of_text(path: Path, tensors: Tensors) -> None:
    """Raises InputError saying what a file of weights is, if it is known not to be a text-to-text model."""
    _require_full_numbers(path, tensors, {})
    if other := _other_kind(tensors):
        raise error_of(path, _named(other, {}))


def _is_packed(name: str, kind: str) -> bool:
    """Whether weights are integers or 8-bit; positions and masks, which some families also store, do not count."""
    return kind not in FLOATS and "weight" in name.rpartition(".")[2]


def _other_kind(tensors: Iterable[str]) -> str:
    """Which of `OTHERS` has weights of such names; empty if they have an encoder and a decoder that reads it."""
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


def _by_config(settings: Mapping[str, Any]) -> tuple[str, str]:
    name = called(settings)
    return (f" (by its config.json: {name})", f"（其 config.json 称之为 {name}）") if name else ("", "")


def _named(other: str, settings: Mapping[str, Any]) -> Kind:
    what, what_zh, fix, fix_zh = OTHERS[other]
    by, by_zh = _by_config(settings)
    return Kind(what + by, what_zh + by_zh, fix, fix_zh)


def _unknown(settings: Mapping[str, Any]) -> Kind:
    by, by_zh = _by_config(settings)
    own = " with code of its own, which is never run" if settings.get("auto_map") else ""
    own_zh = "、依赖自带代码（从不执行）" if own else ""
    return Kind(f"a model of no family that is known here{own}{by}", f"未知类型{own_zh}的模型{by_zh}", *WANTED)
