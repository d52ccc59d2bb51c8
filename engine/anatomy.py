"""What a model on disk is made of: names, shapes and kinds of its tensors, without torch and executing nothing.

A safetensors file says so in its header, a torch file in a pickle that is read here by an unpickler that knows only
the few names a state dict needs and answers them with descriptions of its own.
"""

import collections
import io
import json
import math
import pickle
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.foreign import reading_foreign

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8,
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
LONGEST_CONFIG = 10_000_000  # bytes
MOST_LAYERS, WIDEST = 512, 1 << 24  # beyond any model that could be trained here, and within what arithmetic bears
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
GIT_LFS = b"version https://git-lfs"
# Families of sequence-to-sequence models; a folder of any other is refused by transformers, after a while.
SEQ2SEQ = {
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "fsmt", "led", "longt5", "m2m_100",
    "marian", "mbart", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "seamless_m4t",
    "seamless_m4t_v2", "switch_transformers", "t5", "t5gemma", "umt5", "xlm-prophetnet",
}  # fmt: skip
T5_FAMILY = {"t5", "mt5"}


@dataclass(frozen=True)
class Tensor:
    """A tensor as its file describes it; tensors of one `storage` share their memory, of `stored` elements."""

    kind: str
    shape: tuple[int, ...]
    storage: str
    stored: int = 0

    @property
    def count(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


Tensors = dict[str, Tensor]


def describe(config: RunConfig) -> dict[str, Any]:
    """Kind, shape, parts and special tokens of the model that a run starts from; raises InputError.

    `parameters` and `trained` count each shared weight once; `special` has the token ids that a
    model's own configuration names; `weights_bytes` is the size of its files.
    """
    path = Path(config.pretrained_model)
    if not config.pretrained_model:
        return _facts(_new_config(config), _t5_tensors(_new_config(config)), 0, config.freeze, {})
    if path.is_dir():
        return _folder(path, config.freeze)
    tensors = _tensors_of(path)
    shared = tensors.get("shared.weight")
    if shared is None or len(shared.shape) != 2:
        raise _bad(path, "it has no matrix shared.weight, so it is no T5", "其中没有矩阵 shared.weight，不是 T5")
    settings = {**_new_config(config), "vocab_size": shared.shape[0]}
    head = tensors.get("lm_head.weight")
    settings["tie_word_embeddings"] = head is None or head.storage == shared.storage or head.shape == shared.shape
    _check_fit(path, tensors, settings)
    return _facts(settings, tensors, path.stat().st_size, config.freeze, {})


def _bad(path: Path, why: str, why_zh: str) -> InputError:
    return InputError("model_bad", path=str(path), why=why, why_zh=why_zh)


def _new_config(config: RunConfig) -> dict[str, Any]:
    """What config.json would say of a T5 with the settings of a run; its special tokens are the tokenizer's."""
    names = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
    shape = {name: getattr(config, name) for name in names}
    _check_sizes(Path("--num_layers …"), shape)
    return {"model_type": "t5", "vocab_size": 0, "tie_word_embeddings": True, **shape}


def require_regular(path: Path, setting: str) -> None:
    """Raises InputError where `path` is something else than a plain file that can be read."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind == stat.S_IFREG:
            with path.open("rb"):
                return
        kinds = {stat.S_IFDIR: ("it is a folder", "它是目录"), stat.S_IFIFO: ("it is a pipe", "它是管道")}
        why, why_zh = kinds.get(kind, ("it is a device or a socket", "它是设备或套接字"))
    except OSError as error:
        why = why_zh = error.strerror or str(error)
    raise InputError("file_unreadable", path=str(path), why=why, why_zh=why_zh, setting=setting)


# --- folders


def _folder(path: Path, freeze: str) -> dict[str, Any]:
    settings = _read_config(path / "config.json")
    family = str(settings.get("model_type"))
    if family not in SEQ2SEQ:
        why = f"its model_type is {family}, which is no sequence-to-sequence model"
        raise _bad(path, why, f"其 model_type 为 {family}，不是序列到序列模型")
    tensors: Tensors = {}
    files = weight_files(path)
    for file in files:
        tensors.update(_tensors_of(file))
    if family in T5_FAMILY:
        _check_fit(path, tensors, settings)
    default = {"pad": 0, "eos": 1} if family in T5_FAMILY else {}
    special = {name: settings.get(f"{name}_token_id", default.get(name)) for name in ("pad", "eos", "decoder_start")}
    return _facts(settings, tensors, sum(file.stat().st_size for file in files), freeze, special)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _bad(path.parent, "it has no config.json", "其中没有 config.json")
    if path.stat().st_size > LONGEST_CONFIG:
        size = f"{path.stat().st_size:,}"
        raise _bad(path.parent, f"its config.json has {size} bytes", f"其 config.json 有 {size} 字节")
    with reading_foreign("model_bad", path.parent):
        settings = json.loads(path.read_bytes())
    if not isinstance(settings, dict):
        raise _bad(path.parent, "its config.json is no JSON object", "其 config.json 不是 JSON 对象")
    for name, value in settings.items():
        if name.endswith("implementation") and "/" in json.dumps(value):
            raise _bad(
                path.parent, f"its config.json names foreign code: {name}", f"其 config.json 引用外部代码：{name}"
            )
    _check_sizes(path.parent, settings)
    return settings


def _check_sizes(path: Path, settings: Mapping[str, Any]) -> None:
    """Raises InputError for sizes that no model can have, before anything is built of them."""
    for name, value in settings.items():
        if isinstance(value, int) and not isinstance(value, bool):
            layers = "layers" in name and not name.startswith("max_")
            most = MOST_LAYERS if layers else WIDEST
            if name.startswith(("num_", "d_", "vocab", "hidden", "encoder_", "decoder_", "rel")) and value > most:
                raise _bad(
                    path, f"{name} = {value:,}, and at most {most:,} can be meant", f"{name} = {value:,}，至多 {most:,}"
                )
            if name in ("num_labels", "max_length") and value > WIDEST:
                raise _bad(path, *[f"{name} = {value:,}"] * 2)
    labels = settings.get("num_labels")
    if isinstance(labels, int) and labels > 1 << 16:
        raise _bad(path, *[f"num_labels = {labels:,}"] * 2)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a model; raises InputError."""
    if not path.is_dir():
        return [path]
    for name in WEIGHT_FILES:
        index = path / f"{name}.index.json"
        if (path / name).exists():
            return [path / name]
        if index.exists():
            with reading_foreign("model_bad", path):
                shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
            for shard in shards:
                if Path(shard).name != shard or not (path / shard).is_file():
                    raise _bad(
                        path, f"{index.name} names {shard}, which is not there", f"{index.name} 列出的 {shard} 不存在"
                    )
            return [path / shard for shard in shards]
    raise _bad(path, f"it has neither {' nor '.join(WEIGHT_FILES)}", f"其中既没有 {'，也没有 '.join(WEIGHT_FILES)}")


# --- files


def _tensors_of(path: Path) -> Tensors:
    require_regular(path, "pretrained_model")
    with path.open("rb") as file:
        start = file.read(len(GIT_LFS))
    if start == GIT_LFS:
        raise InputError("model_lfs", path=str(path))
    if not start:
        raise _bad(path, "it is empty", "文件为空")
    with reading_foreign("model_bad", path):
        if path.suffix == ".safetensors":
            return _safetensors(path)
        if start[:2] == b"PK":
            return _torch_zip(path)
        if start[:1] == b"\x80":
            return _torch_pickle(path)
        why = "it is no torch file: neither a zip archive nor a pickle"
        raise _bad(path, why, "不是 torch 文件：既不是 zip 归档，也不是 pickle")


def _safetensors(path: Path) -> Tensors:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            why = f"its header should have {length:,} bytes, and the file has {size:,}"
            raise _bad(path, why, f"文件头应有 {length:,} 字节，而文件共 {size:,} 字节")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise _bad(path, "its header is no JSON object", "文件头不是 JSON 对象")
    tensors, spans = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in ITEM_BYTES or not all(isinstance(n, int) and n >= 0 for n in (*shape, start, end)):
            raise _bad(path, f"its header describes {name} as {kind} {shape}", f"文件头称 {name} 为 {kind} {shape}")
        if end - start != math.prod(shape) * ITEM_BYTES[kind]:
            why = f"{name} has {end - start:,} bytes, which do not make {kind} {shape}"
            raise _bad(path, why, f"{name} 有 {end - start:,} 字节，与 {kind} {shape} 不符")
        tensors[name] = Tensor(kind, tuple(shape), name)
        spans.append((start, end))
    reached = 0
    for start, end in sorted(spans):
        if start != reached:
            raise _bad(path, "its tensors overlap or leave gaps", "张量相互重叠或留有空隙")
        reached = end
    if 8 + length + reached != size:
        wanted = f"{8 + length + reached:,}"
        why = f"it should have {wanted} bytes, and has {size:,}: it was cut or damaged"
        raise _bad(path, why, f"应有 {wanted} 字节，实有 {size:,} 字节：文件被截断或损坏")
    return tensors


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int


class _Names(pickle.Unpickler):
    """Reads the names and shapes of a state dict; every name it does not know is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _rebuilt if name == "_rebuild_tensor_v2" else _parameter
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        _, kind, key, _, count, *_ = pid
        return _Storage(str(kind), str(key), int(count))


def _rebuilt(storage: _Storage, offset: int, shape: tuple[int, ...], *_: Any) -> Tensor:
    return Tensor(storage.kind, tuple(int(n) for n in shape), f"{storage.key}+{int(offset)}", storage.count)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _torch_zip(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        (pickled,) = (name for name in sizes if name.endswith("/data.pkl"))
        if sizes[pickled] > LONGEST_HEADER:
            size = f"{sizes[pickled]:,}"
            raise _bad(path, f"its list of tensors has {size} bytes", f"其张量列表有 {size} 字节")
        if not archive.getinfo(pickled).CRC:
            del archive.getinfo(pickled).CRC  # torch can write archives without checksums; zipfile asks for none then
        state = _Names(io.BytesIO(archive.read(pickled))).load()
        _require_tensors(path, state)
        folder = pickled.removesuffix("data.pkl") + "data/"
        for name, tensor in state.items():
            key = tensor.storage.partition("+")[0]
            if sizes.get(folder + key, -1) < tensor.count * ITEM_BYTES.get(tensor.kind, 1):
                raise _bad(path, f"the content of {name} is not all there", f"{name} 的内容不完整")
    return {str(name): tensor for name, tensor in state.items()}


def _torch_pickle(path: Path) -> Tensors:
    """The form that torch wrote before 1.6, and still reads: pickles one after the other, then the content."""
    with path.open("rb") as file:
        for _ in range(3):  # a magic number, the version, the machine
            _Names(file).load()
        state = _Names(file).load()
        _require_tensors(path, state)
        keys = set(_Names(file).load())
        counts = {tensor.storage.partition("+")[0]: (tensor.kind, tensor.stored) for tensor in state.values()}
        needed = sum(8 + count * ITEM_BYTES.get(kind, 1) for kind, count in counts.values())
        if not counts.keys() <= keys or path.stat().st_size - file.tell() < needed:
            raise _bad(path, "the content of its tensors is not all there", "张量的内容不完整")
    return {str(name): tensor for name, tensor in state.items()}


def _require_tensors(path: Path, state: Any) -> None:
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()) or not state:
        why, why_zh = "it holds something other than named tensors", "其中有具名张量以外的内容"
        raise InputError("model_pickle", path=str(path), why=why, why_zh=why_zh)


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
    """The settings that make the shape of a T5 with these weights; nothing where they are no T5."""
    first = "encoder.block.0.layer"
    try:
        d_model = tensors["shared.weight"].shape[1]
        heads = tensors[f"{first}.0.SelfAttention.relative_attention_bias.weight"].shape[1]
        inner = tensors[f"{first}.0.SelfAttention.q.weight"].shape[0]
        d_ff = tensors[f"{first}.1.DenseReluDense.wi.weight"].shape[0]
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
    """Raises InputError where names or shapes are not those of a T5 of that configuration."""
    with reading_foreign("model_bad", path):
        wanted = _t5_tensors(settings)
    have = dict(tensors)
    for name in sorted(_ALIASES & have.keys()):
        have.setdefault("shared.weight", have[name])
    missing = sorted(wanted.keys() - have.keys())
    unexpected = sorted(have.keys() - wanted.keys() - _ALIASES)
    mismatched = sorted(name for name in wanted.keys() & have.keys() if wanted[name].shape != have[name].shape)
    shape = {} if path.is_dir() else _shape_in(have)  # a folder says its shape itself
    groups = {"missing": missing, "unexpected": unexpected, "mismatched": mismatched}
    if missing or unexpected or mismatched:
        counts = {f"{name}_count": len(group) for name, group in groups.items()}
        shown = {name: ", ".join(group[:3]) + (", …" * (len(group) > 3)) or "-" for name, group in groups.items()}
        raise InputError("model_keys", path=str(path), **counts, **shown, **shape)


# --- what it comes to

_BUFFERS = ("final_logits_bias",)  # stored with the weights, and no parameter


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


def _facts(
    settings: Mapping[str, Any], tensors: Tensors, size: int, freeze: str, special: dict[str, Any]
) -> dict[str, Any]:
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
    pick = {name: value for name, value in settings.items() if isinstance(value, int | str | bool)}
    embedded = next((t for n, t in tensors.items() if n.removeprefix("model.") in ("shared.weight", *_ALIASES)), None)
    return {
        "settings": pick,
        "special": special,
        "rows": embedded.shape[0] if embedded is not None and embedded.shape else 0,
        "parameters": total,
        "trained": trained,
        "weights_bytes": size,
        "kinds": sorted({tensor.kind for tensor in tensors.values()}),
    }
