"""Folders and files that are not a model to start from: what each one is, and what to do about it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.contract.durable import read_json
from engine.contract.manifest import CHECKPOINT_NAME
from engine.contract.messages import InputError, Value

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.bin")
TRAINERS = re.compile(r"checkpoint-(\d+)")


class Kind(NamedTuple):
    """What it is and what to do, in both languages; `instead` is the path to use in its place, if there is one."""

    what: str
    what_zh: str
    fix: str
    fix_zh: str
    instead: str = ""


def _has(folder: Path, *patterns: str) -> Path | None:
    return next((found for pattern in patterns for found in sorted(folder.glob(pattern))), None)


def _adapter(folder: Path) -> Kind | None:
    if not _has(folder, "adapter_config.json", "adapter_model.*"):
        return None
    base = str(read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "its base model")[:200]
    merge = f"PeftModel.from_pretrained(model, '{folder}').merge_and_unload().save_pretrained('MERGED')"
    return Kind(
        f"a LoRA adapter (PEFT) of {base}",
        f"{base} 的 LoRA 适配器（PEFT）",
        f"Merge it into that model ({merge}), then name the folder MERGED.",
        f"请先合并到该模型（{merge}），再指定 MERGED 目录。",
    )


def _own_output(folder: Path) -> Kind | None:
    if not (folder / "best/config.json").is_file():
        return None
    best = str(folder / "best")
    return Kind(
        "the output folder of a run", "一次运行的输出目录", "Its model is in best.", "模型在其 best 目录中。", best
    )


def _own_checkpoint(folder: Path) -> Kind | None:
    if not CHECKPOINT_NAME.fullmatch(folder.name) or not _has(folder, "MANIFEST.json"):
        return None
    best = folder.parent.parent / "best"
    instead = str(best) if best.is_dir() else ""
    return Kind(
        "a checkpoint of a run, without the weights that do not learn",
        "一次运行的检查点，其中没有冻结的权重",
        "Resume that run (`sft-tui resume`), or start from the best model next to it.",
        "请继续该运行（`sft-tui resume`），或使用它旁边的 best 模型。",
        instead,
    )


def _trainers_output(folder: Path) -> Kind | None:
    found = {int(match[1]): path for path in folder.glob("checkpoint-*") if (match := TRAINERS.fullmatch(path.name))}
    sound = {step: path for step, path in found.items() if (path / "config.json").is_file()}
    if not sound:
        return None
    names = ", ".join(sound[step].name for step in sorted(sound)[-3:])
    return Kind(
        f"the output folder of transformers' Trainer, with {names}",
        f"transformers Trainer 的输出目录，其中有 {names}",
        "Name one of its checkpoints.",
        "请指定其中一个检查点。",
        str(sound[max(sound)]),
    )


def _hub_cache(folder: Path) -> Kind | None:
    found = _has(folder, "snapshots/*/config.json")
    if found is None:
        return None
    return Kind(
        "a folder of the Hugging Face cache",
        "Hugging Face 缓存目录",
        "Name the snapshot in it.",
        "请指定其中的快照。",
        str(found.parent),
    )


def _deepspeed(folder: Path) -> Kind | None:
    if not _has(folder, "zero_to_fp32.py", "global_step*", "mp_rank_*_model_states.pt", "*zero_pp_rank_*"):
        return None
    return Kind(
        "a checkpoint of DeepSpeed, its weights in parts",
        "DeepSpeed 检查点，权重是分片的",
        "Put them together (there: `python zero_to_fp32.py . MERGED`), and name the result with its config.json.",
        "请先合并（在该目录中运行 `python zero_to_fp32.py . MERGED`），再连同 config.json 一起指定。",
    )


def _fsdp(folder: Path) -> Kind | None:
    if not _has(folder, "*.distcp", "*/*.distcp", "pytorch_model_fsdp*", "*/.metadata"):
        return None
    return Kind(
        "a distributed checkpoint (FSDP), its weights in parts",
        "分布式检查点（FSDP），权重是分片的",
        "Put them together with `accelerate merge-weights`, and name the result with its config.json.",
        "请先用 `accelerate merge-weights` 合并，再连同 config.json 一起指定。",
    )


def _accelerates_state(folder: Path) -> Kind | None:
    weights = _has(folder, *WEIGHTS)
    if weights is None or not _has(folder, "random_states_*.pkl", "optimizer.bin", "scheduler.bin", "optimizer.pt"):
        return None
    return Kind(
        "what accelerate's save_state writes: weights and optimizer without a configuration",
        "accelerate save_state 的目录：有权重和优化器，没有配置",
        "Copy the model's config.json into it, or name its file of weights (a T5's).",
        "请把模型的 config.json 复制进去，或直接指定其中的权重文件（限 T5）。",
        str(weights),
    )


def _weights_alone(folder: Path) -> Kind | None:
    weights = _has(folder, *WEIGHTS, "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt")
    if weights is None or not weights.stat().st_size or (folder / "config.json").exists():
        return None
    return Kind(
        "a folder of weights without a config.json",
        "只有权重、没有 config.json 的目录",
        "Copy the model's config.json into it, or name its file of weights (a T5's).",
        "请把模型的 config.json 复制进去，或直接指定其中的权重文件（限 T5）。",
        str(weights),
    )


FORMATS = {
    "GGUF (llama.cpp)": ("*.gguf",),
    "ONNX": ("*.onnx", "onnx/*.onnx"),
    "TensorFlow": ("tf_model.h5", "*.h5", "*.ckpt.index", "saved_model.pb", "model.ckpt*"),
    "Flax": ("flax_model.msgpack", "*.msgpack"),
    "Core ML": ("*.mlmodel", "*.mlpackage"),
    "OpenVINO": ("openvino_model.xml",),
}
FIRST_BYTES = {
    b"GGUF": "GGUF (llama.cpp)",
    b"\x89HDF": "TensorFlow (HDF5)",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
    b"\x93NUMPY": "NumPy",
}


def _of_format(name: str) -> Kind:
    return Kind(
        f"a model in the format {name}, which cannot be trained",
        f"{name} 格式的模型，无法训练",
        "Name the same model in transformers' format: a folder with config.json and model.safetensors.",
        "请指定同一模型的 transformers 格式：含 config.json 和 model.safetensors 的目录。",
    )


def _other_format(folder: Path) -> Kind | None:
    if _has(folder, *WEIGHTS, *(f"{name}.index.json" for name in WEIGHTS)):
        return None
    return next((_of_format(name) for name, patterns in FORMATS.items() if _has(folder, *patterns)), None)


# In this order: the more specific ones come first.
FOLDERS: tuple[Callable[[Path], Kind | None], ...] = (
    _adapter, _own_output, _own_checkpoint, _hub_cache, _deepspeed, _fsdp, _trainers_output, _accelerates_state,
    _other_format, _weights_alone,
)  # fmt: skip


def require_folder(path: Path) -> None:
    """Raises InputError saying what a folder is, if that is known and it is not a transformers model."""
    whole = (path / "config.json").is_file() and _has(path, *WEIGHTS[:2], *(f"{name}.index.json" for name in WEIGHTS))
    if not whole:
        for look in FOLDERS:
            if kind := look(path):
                raise error_of(path, kind)


def require_file(path: Path) -> None:
    """The same for a file."""
    with path.open("rb") as file:
        start = file.read(8)
    suffix = path.suffix.lower()
    name = next((name for first, name in FIRST_BYTES.items() if start.startswith(first)), "")
    by_suffix = {".gguf": "GGUF (llama.cpp)", ".onnx": "ONNX", ".h5": "TensorFlow", ".msgpack": "Flax", ".npz": "NumPy"}
    if name := name or by_suffix.get(suffix, ""):
        raise error_of(path, _of_format(name))
    if path.name.startswith("adapter_model") and (kind := _adapter(path.parent)):
        raise error_of(path, kind)


def error_of(path: Path, kind: Kind, **more: Value) -> InputError:
    """The error that says what a folder or a file is; `more` holds values for the remedies."""
    texts = {"kind": kind.what, "kind_zh": kind.what_zh, "advice": kind.fix, "advice_zh": kind.fix_zh}
    return InputError("model_kind", path=str(path), instead=kind.instead, **texts, **more)
