"""Folders and files that are not a model to start from: what each one is, and what to do about it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.contract.durable import read_json
from engine.contract.manifest import CHECKPOINT_NAME
from engine.contract.messages import InputError, Value
from engine.contract.outputdir import ADAPTER
from engine.contract.texts import Argument, Phrase

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.bin")
TRAINERS = re.compile(r"checkpoint-(\d+)")


class Kind(NamedTuple):
    """What it is and what to do: use the path `instead` in its place, or convert the file `gguf`, if there is one."""

    what: Phrase
    fix: Phrase
    instead: str = ""
    gguf: str = ""

    @classmethod
    def of(cls, key: str, /, instead: str = "", **args: Argument) -> "Kind":
        """The kind whose words are `model_kind.<key>.what` and `.fix`."""
        return cls(Phrase(f"model_kind.{key}.what", args), Phrase(f"model_kind.{key}.fix", args), instead)


def _has(folder: Path, *patterns: str) -> Path | None:
    return next((found for pattern in patterns for found in sorted(folder.glob(pattern))), None)


def _adapter(folder: Path) -> Kind | None:
    if not _has(folder, "adapter_config.json", "adapter_model.*"):
        return None
    above = folder.absolute().parent
    if folder.name == ADAPTER and _is_whole(above):
        return Kind.of("own_adapter", str(above))
    base = str(read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "its base model")[:200]
    merge = f"PeftModel.from_pretrained(model, '{folder}').merge_and_unload().save_pretrained('MERGED')"
    return Kind.of("adapter", base=base, merge=merge)


def _own_output(folder: Path) -> Kind | None:
    if not (folder / "best/config.json").is_file():
        return None
    best = str(folder / "best")
    return Kind.of("own_output", best)


def _own_checkpoint(folder: Path) -> Kind | None:
    if not CHECKPOINT_NAME.fullmatch(folder.name) or not _has(folder, "MANIFEST.json"):
        return None
    best = folder.parent.parent / "best"
    instead = str(best) if best.is_dir() else ""
    return Kind.of("own_checkpoint", instead)


def _trainers_output(folder: Path) -> Kind | None:
    found = {int(match[1]): path for path in folder.glob("checkpoint-*") if (match := TRAINERS.fullmatch(path.name))}
    sound = {step: path for step, path in found.items() if (path / "config.json").is_file()}
    if not sound:
        return None
    names = ", ".join(sound[step].name for step in sorted(sound)[-3:])
    return Kind.of("trainers_output", str(sound[max(sound)]), names=names)


def _hub_cache(folder: Path) -> Kind | None:
    found = _has(folder, "snapshots/*/config.json")
    if found is None:
        return None
    return Kind.of("hub_cache", str(found.parent))


def _deepspeed(folder: Path) -> Kind | None:
    if not _has(folder, "zero_to_fp32.py", "global_step*", "mp_rank_*_model_states.pt", "*zero_pp_rank_*"):
        return None
    return Kind.of("deepspeed")


def _fsdp(folder: Path) -> Kind | None:
    if not _has(folder, "*.distcp", "*/*.distcp", "pytorch_model_fsdp*", "*/.metadata"):
        return None
    return Kind.of("fsdp")


def _accelerates_state(folder: Path) -> Kind | None:
    weights = _has(folder, *WEIGHTS)
    if weights is None or not _has(folder, "random_states_*.pkl", "optimizer.bin", "scheduler.bin", "optimizer.pt"):
        return None
    return Kind.of("accelerates_state", str(weights))


def _weights_alone(folder: Path) -> Kind | None:
    weights = _has(folder, *WEIGHTS, "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt")
    if weights is None or not weights.stat().st_size or (folder / "config.json").exists():
        return None
    return Kind.of("weights_alone", str(weights))


FORMATS = {
    "ONNX": ("*.onnx", "onnx/*.onnx"),
    "TensorFlow": ("tf_model.h5", "*.h5", "*.ckpt.index", "saved_model.pb", "model.ckpt*"),
    "Flax": ("flax_model.msgpack", "*.msgpack"),
    "Core ML": ("*.mlmodel", "*.mlpackage"),
    "OpenVINO": ("openvino_model.xml",),
}
FIRST_BYTES = {
    b"\x89HDF": "TensorFlow (HDF5)",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
    b"\x93NUMPY": "NumPy",
}


def _of_format(name: str) -> Kind:
    return Kind.of("of_format", name=name)


def _of_gguf(path: Path) -> Kind:
    return Kind.of("gguf", file=shlex.quote(str(path)))._replace(gguf=str(path))


def _other_format(folder: Path) -> Kind | None:
    if _has(folder, *WEIGHTS, *(f"{name}.index.json" for name in WEIGHTS)):
        return None
    if gguf := _has(folder, "*.gguf"):
        return _of_gguf(gguf)
    return next((_of_format(name) for name, patterns in FORMATS.items() if _has(folder, *patterns)), None)


# In this order: the more specific ones come first.
FOLDERS: tuple[Callable[[Path], Kind | None], ...] = (
    _adapter, _own_output, _own_checkpoint, _hub_cache, _deepspeed, _fsdp, _trainers_output, _accelerates_state,
    _other_format, _weights_alone,
)  # fmt: skip


def _is_whole(folder: Path) -> bool:
    """Whether a folder has what a transformers model consists of."""
    weights = _has(folder, *WEIGHTS[:2], *(f"{name}.index.json" for name in WEIGHTS))
    return (folder / "config.json").is_file() and weights is not None


def require_folder(path: Path) -> None:
    """Raises InputError saying what a folder is, if that is known and it is not a transformers model."""
    if not _is_whole(path):
        for look in FOLDERS:
            if kind := look(path):
                raise error_of(path, kind)


def require_file(path: Path) -> None:
    """The same for a file."""
    with path.open("rb") as file:
        start = file.read(8)
    suffix = path.suffix.lower()
    if start.startswith(b"GGUF") or suffix == ".gguf":
        raise error_of(path, _of_gguf(path))
    name = next((name for first, name in FIRST_BYTES.items() if start.startswith(first)), "")
    by_suffix = {".onnx": "ONNX", ".h5": "TensorFlow", ".msgpack": "Flax", ".npz": "NumPy"}
    if name := name or by_suffix.get(suffix, ""):
        raise error_of(path, _of_format(name))
    if path.name.startswith("adapter_model") and (kind := _adapter(path.parent)):
        raise error_of(path, kind)


def error_of(path: Path, kind: Kind, **more: Value) -> InputError:
    """The error that says what a folder or a file is; `more` holds values for the remedies."""
    files = {"instead": kind.instead, "gguf": kind.gguf}
    return InputError("model_kind", path=str(path), kind=kind.what, advice=kind.fix, **files, **more)
