"""What a model on disk consists of, whether its weights are complete, and how large it is; for a T5 without torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.contract.bounds import WIDEST
from engine.contract.config import RunConfig
from engine.contract.facts import LONGEST_NAME, ModelFacts
from engine.contract.memory import MemoryFacts
from engine.contract.messages import InputError
from engine.contract.untrusted import reading_untrusted
from engine.models.family_note import described
from engine.models.finite import same_content
from engine.models.kinds import require_file, require_folder
from engine.models.memory import MemoryPlan
from engine.models.misfit import misfit
from engine.models.sizes import check_sizes
from engine.models.special_tokens import special_tokens
from engine.models.structure import require_file_of_text, tensors_in
from engine.models.t5 import memory as t5_memory
from engine.models.weightfile import (
    T5_NAMES,
    Tensor,
    Tensors,
    bad,
    require_regular,
    tensors_of,
    weight_files,
    wrapper_of,
)

LONGEST_CONFIG = 10_000_000  # bytes
T5_FAMILY = {"t5", "mt5"}
GATE, GATED = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", "gated-gelu"  # of T5 1.1, mT5 and Flan
NO_T5 = (
    "its names are not those of a T5; a model of another family is named by its folder, with its config.json",
    "其中的名称不是 T5 的；其他模型请指定含 config.json 的目录",
)

SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")


def describe(config: RunConfig) -> ModelFacts:
    """Kind, shape, parts and special tokens of the model that a run starts from; raises InputError."""
    path = Path(config.pretrained_model)
    if not config.pretrained_model:
        return _facts(_new_config(config), _t5_tensors(_new_config(config)), 0, config.freeze)
    if path.is_dir():
        return _folder(path, config.freeze, Path(config.token_store))
    require_regular(path, "pretrained_model")
    require_file(path)
    tensors, wrapper = unwrapped(tensors_of(path), T5_NAMES)
    require_file_of_text(path, tensors)
    shared = tensors.get("shared.weight")
    if shared is None or len(shared.shape) != 2 or not T5_NAMES & tensors.keys() - {"shared.weight"}:
        raise bad(path, *NO_T5)
    settings = {**_new_config(config), "vocab_size": shared.shape[0]}
    if GATE in tensors:
        settings["feed_forward_proj"] = GATED
    head = tensors.get("lm_head.weight")
    tied = head is None or head.storage == shared.storage or same_content(path, head, shared)
    settings["tie_word_embeddings"] = tied
    _check_fit(path, tensors, settings)
    return replace(_facts(settings, tensors, path.stat().st_size, config.freeze), wrapper=wrapper)


def predicted(facts: ModelFacts, tokens: int, freeze: str, plan: MemoryPlan) -> MemoryFacts:
    """The peaks of memory of a run with the model that `facts` describe and a tokenizer of `tokens` tokens."""
    if facts.family not in T5_FAMILY:
        return MemoryFacts()
    if not facts.rows:  # the tokenizer determines a new model's embeddings
        more = tokens * int(facts.settings["d_model"])
        facts = replace(facts, rows=tokens, parameters=facts.parameters + more, trained=facts.trained + more)
    return t5_memory.predicted(facts, freeze, plan)


def unwrapped(tensors: Tensors, wanted: Iterable[str]) -> tuple[Tensors, str]:
    """The tensors by their own names, and the prefix removed from these."""
    wrapper = wrapper_of(tensors, wanted)
    return {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}, wrapper


def _new_config(config: RunConfig) -> dict[str, Any]:
    """The config.json of a T5 with the settings of a run; its special tokens are the tokenizer's."""
    names = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
    shape = {name: getattr(config, name) for name in names}
    check_sizes(Path("--num_layers …"), shape)
    return {"model_type": "t5", "vocab_size": 0, "tie_word_embeddings": True, **shape}


# --- folders


def _folder(path: Path, freeze: str, notes: Path) -> ModelFacts:
    require_folder(path)
    settings = read_config(path / "config.json")
    tensors = tensors_in(path, settings)
    size = sum(file.stat().st_size for file in weight_files(path))
    if settings["model_type"] not in T5_FAMILY:
        return described(path, freeze, tensors, notes)
    tensors, wrapper = unwrapped(tensors, T5_NAMES)
    _check_fit(path, tensors, settings)
    special = special_tokens({"pad_token_id": 0, "eos_token_id": 1, **settings}.get)
    return replace(_facts(settings, tensors, size, freeze), special=special, wrapper=wrapper)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are numbers or short texts, as facts may hold them."""
    return {
        name[:LONGEST_NAME]: value
        for name, value in settings.items()
        if (isinstance(value, int) and abs(value) < WIDEST) or (isinstance(value, str) and len(value) <= LONGEST_NAME)
    }


def read_config(path: Path) -> dict[str, Any]:
    """A model's config.json; raises InputError if it is invalid, or names code or sizes that are never run or built."""
    if not path.is_file():
        raise bad(path.parent, "it has no config.json", "其中没有 config.json")
    if path.stat().st_size > LONGEST_CONFIG:
        size = f"{path.stat().st_size:,}"
        raise bad(path.parent, f"its config.json has {size} bytes", f"其 config.json 有 {size} 字节")
    with reading_untrusted("model_bad", path.parent):
        settings = json.loads(path.read_bytes())
    if not isinstance(settings, dict):
        raise bad(path.parent, "its config.json is not a JSON object", "其 config.json 不是 JSON 对象")
    for name, value in settings.items():
        if name.endswith("implementation") and "/" in json.dumps(value):
            raise bad(
                path.parent, f"its config.json names foreign code: {name}", f"其 config.json 引用外部代码：{name}"
            )
    check_sizes(path.parent, settings)
    return settings


# --- T5


def _t5_tensors(settings: Mapping[str, Any]) -> Tensors:
    """The tensors of a T5 of that configuration, shared ones under one name."""
    d, heads, ff = (int(settings[name]) for name in ("d_model", "num_heads", "d_ff"))
    inner, vocabulary = heads * int(settings["d_kv"]), int(settings["vocab_size"])
    gated = "gated" in str(settings.get("feed_forward_proj", "relu"))
    found: dict[str, tuple[int, ...]] = {"shared.weight": (vocabulary, d)}
    buckets = int(settings.get("relative_attention_num_buckets", 32))
    decoder = int(settings.get("num_decoder_layers") or settings["num_layers"])
    for stack, layers in (("encoder", int(settings["num_layers"])), ("decoder", decoder)):
        attentions = ["SelfAttention"] + (["EncDecAttention"] if stack == "decoder" else [])
        for block in range(layers):
            for place, attention in enumerate(attentions):
                at = f"{stack}.block.{block}.layer.{place}"
                found |= {f"{at}.{attention}.{name}.weight": (inner, d) for name in "qkv"}
                found |= {f"{at}.{attention}.o.weight": (d, inner), f"{at}.layer_norm.weight": (d,)}
            at = f"{stack}.block.{block}.layer.{len(attentions)}"
            wide = ("wi_0", "wi_1") if gated else ("wi",)
            found |= {f"{at}.DenseReluDense.{name}.weight": (ff, d) for name in wide}
            found |= {f"{at}.DenseReluDense.wo.weight": (d, ff), f"{at}.layer_norm.weight": (d,)}
        found[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (buckets, heads)
        found[f"{stack}.final_layer_norm.weight"] = (d,)
    if not settings.get("tie_word_embeddings", True):
        found["lm_head.weight"] = (vocabulary, d)
    return {name: Tensor("F32", shape, name) for name, shape in found.items()}


def _shape_in(tensors: Tensors) -> dict[str, int]:
    """The settings that define the shape of a T5 with these weights; empty if they are not a T5's."""
    first = "encoder.block.0.layer"
    try:
        d_model = tensors["shared.weight"].shape[1]
        heads = tensors[f"{first}.0.SelfAttention.relative_attention_bias.weight"].shape[1]
        inner = tensors[f"{first}.0.SelfAttention.q.weight"].shape[0]
        d_ff = tensors[GATE if GATE in tensors else f"{first}.1.DenseReluDense.wi.weight"].shape[0]
        layers = {
            stack: 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith(f"{stack}.block."))
            for stack in ("encoder", "decoder")
        }
        shape = {"d_model": d_model, "d_kv": inner // heads, "d_ff": d_ff, "num_heads": heads}
    except (LookupError, ValueError, ZeroDivisionError):
        return {}
    return {**shape, "num_layers": layers["encoder"], "num_decoder_layers": layers["decoder"]}


_ALIASES = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}


def _check_fit(path: Path, tensors: Tensors, settings: Mapping[str, Any]) -> None:
    """Raises InputError if names or shapes are not those of a T5 of that configuration."""
    if unsaid := ", ".join(name for name in SIZES if name not in settings):
        raise bad(path, f"its config.json does not say {unsaid}", f"其 config.json 没有 {unsaid}")
    with reading_untrusted("model_bad", path):
        wanted = _t5_tensors(settings)
    have = dict(tensors)
    for name in sorted(_ALIASES & have.keys()):
        have.setdefault("shared.weight", have[name])
    missing = sorted(wanted.keys() - have.keys())
    unexpected = sorted(have.keys() - wanted.keys() - _ALIASES)
    mismatched = sorted(name for name in wanted.keys() & have.keys() if wanted[name].shape != have[name].shape)
    if missing or unexpected or mismatched:
        raise misfit(path, missing, unexpected, mismatched, {} if path.is_dir() else _shape_in(have))


# --- sizes

_BUFFERS = ("final_logits_bias",)  # stored with the weights, but not parameters


def _is_frozen(name: str, parts: list[str]) -> bool:
    bare = name.removeprefix("model.")
    embedding = bare == "shared.weight" or bare.endswith("embed_tokens.weight")
    for part in parts:
        if part == "embeddings":
            hit = embedding
        elif part in ("encoder", "decoder"):
            hit = bare.startswith(f"{part}.") and not embedding
        else:
            hit = name.startswith(part)
        if hit:
            return True
    return False


def _facts(settings: Mapping[str, Any], tensors: Tensors, size: int, freeze: str) -> ModelFacts:
    parts = [part for part in (name.strip() for name in freeze.split(",")) if part]
    tied = settings.get("tie_word_embeddings", True)
    once: dict[str, tuple[str, Tensor]] = {}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(_BUFFERS)}
    for name, tensor in sorted(tensors.items(), key=lambda item: item[0] in _ALIASES):
        alias = name.removeprefix("model.") in _ALIASES and (tied or not name.endswith("lm_head.weight"))
        if alias and {"shared.weight", "model.shared.weight"} & tensors.keys():
            continue
        once.setdefault(tensor.storage, (name, tensor))
    known = {"encoder", "decoder", "embeddings"}
    for part in parts:
        if part not in known and not any(name.startswith(part) for name, _ in once.values()):
            tops = ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in once.values()))
            raise InputError("freeze_unknown", name=part, known=tops)
    total = sum(tensor.count for _, tensor in once.values())
    trained = sum(tensor.count for name, tensor in once.values() if not _is_frozen(name, parts))
    if not trained and total:
        raise InputError("nothing_trainable", freeze=freeze)
    embedded = next((t for n, t in tensors.items() if n.removeprefix("model.") in ("shared.weight", *_ALIASES)), None)
    return ModelFacts(
        family=str(settings["model_type"]),
        rows=embedded.shape[0] if embedded is not None and embedded.shape else 0,
        parameters=total,
        trained=trained,
        weights_bytes=size,
        settings=_plain(settings),
    )
