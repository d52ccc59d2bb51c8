"""The tensors of a weight file as the file describes them: without torch, and without executing anything.

A safetensors file describes them in its header, a torch file in a pickle, read here by an unpickler that knows only
the few names that a state dict needs and substitutes its own descriptions for them.
"""

import collections
import io
import itertools
import json
import math
import pickle
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from engine.contract.files import read_linked
from engine.contract.messages import InputError
from engine.contract.texts import Argument, Phrase
from engine.contract.untrusted import reading_untrusted

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
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
GIT_LFS = b"version https://git-lfs"
# The keys under which programs that save more than weights keep them, the most likely first.
NESTS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
MOST_NESTED = 3


@dataclass(frozen=True)
class Tensor:
    """A tensor as its file describes it; tensors with the same `storage` share their memory.

    The storage has `stored` elements, starting at byte `at` of the file.
    """

    kind: str
    shape: tuple[int, ...]
    storage: str
    stored: int = 0
    at: int = 0

    @property
    def count(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)


Tensors = dict[str, Tensor]


def bad(path: Path, why: str, /, **args: Argument) -> InputError:
    """The error for a model that cannot be loaded: `why` is the key of its reason, below `model.`."""
    return InputError("model_bad", path=str(path), why=Phrase(f"model.{why}", args))


def require_regular(path: Path, setting: str) -> None:
    """Raises InputError if `path` is not a readable regular file."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind == stat.S_IFREG:
            with path.open("rb"):
                return
        kinds = {stat.S_IFDIR: "why.file_is_folder", stat.S_IFIFO: "why.file_is_pipe"}
        why: str | Phrase = Phrase(kinds.get(kind, "why.file_is_device"))
    except OSError as error:
        why = error.strerror or str(error)
    raise InputError("file_unreadable", path=str(path), why=why, setting=setting)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a model; raises InputError."""
    if not path.is_dir():
        return [path]
    for name in WEIGHT_FILES:
        index = path / f"{name}.index.json"
        if (path / name).exists():
            return [path / name]
        if index.exists():
            with reading_untrusted("model_bad", path):
                shards = sorted(set(json.loads(read_linked(index, LONGEST_HEADER))["weight_map"].values()))
            for shard in shards:
                if Path(shard).name != shard or not (path / shard).is_file():
                    raise bad(path, "shard_missing", index=index.name, shard=shard)
            return [path / shard for shard in shards]
    raise bad(path, "no_weights", one=WEIGHT_FILES[0], other=WEIGHT_FILES[1])


def wrapper_of(names: Iterable[str], wanted: Iterable[str]) -> str:
    """The prefix, if any, that a program wrapping a model (`module.`, `_orig_mod.`, `model.`) put before its names.

    A family's own prefix is not a wrapper: of all prefixes that the names share, this is the one whose removal leaves
    the most names in `wanted`.
    """
    names, wanted = list(names), set(wanted)
    if not names:
        return ""
    first, last = min(names).split("."), max(names).split(".")
    shared = [
        one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first[:-1], last[:-1], strict=False))
    ]
    beginnings = ["".join(f"{part}." for part in shared[:count]) for count in range(len(shared) + 1)]
    return max(beginnings, key=lambda one: (sum(name.removeprefix(one) in wanted for name in names), -len(one)))


def state_within(loaded: Any, kind: type) -> Mapping[str, Any] | None:
    """The named tensors, of a `kind`, in a file, alone or next to whatever else a program saves of a run."""
    for _ in range(MOST_NESTED):
        if not isinstance(loaded, Mapping) or not loaded:
            return None
        if all(isinstance(name, str) and isinstance(tensor, kind) for name, tensor in loaded.items()):
            return loaded
        loaded = next((loaded[name] for name in NESTS if isinstance(loaded.get(name), Mapping)), None)
    return None


def tensors_of(path: Path) -> Tensors:
    """The tensors of a file by name; raises InputError if it is another kind of file, incomplete, or holds more."""
    require_regular(path, "pretrained_model")
    with path.open("rb") as file:
        start = file.read(len(GIT_LFS))
    if start == GIT_LFS:
        raise InputError("model_lfs", path=str(path))
    if not start:
        raise bad(path, "empty")
    with reading_untrusted("model_bad", path):
        if path.suffix == ".safetensors":
            return _safetensors(path)
        if start[:2] == b"PK":
            return _torch_zip(path)
        if start[:1] == b"\x80":
            return _torch_pickle(path)
        raise bad(path, "not_torch")


def _safetensors(path: Path) -> Tensors:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise bad(path, "header_long", length=f"{length:,}", size=f"{size:,}")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise bad(path, "header_not_json")
    tensors, spans = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in ITEM_BYTES or not all(isinstance(n, int) and n >= 0 for n in (*shape, start, end)):
            raise bad(path, "tensor_described", name=str(name), kind=f"{kind} {shape}")
        if end - start != math.prod(shape) * ITEM_BYTES[kind]:
            raise bad(path, "tensor_size", name=name, size=f"{end - start:,}", kind=f"{kind} {shape}")
        tensors[name] = Tensor(kind, tuple(shape), name, math.prod(shape), 8 + length + start)
        spans.append((start, end))
    reached = 0
    for start, end in sorted(spans):
        if start != reached:
            raise bad(path, "tensors_overlap")
        reached = end
    if 8 + length + reached != size:
        raise bad(path, "size_differs", wanted=f"{8 + length + reached:,}", size=f"{size:,}")
    return tensors


@dataclass(frozen=True)
class _PickledStorage:
    kind: str
    key: str
    count: int


class _Names(pickle.Unpickler):
    """Reads the names and shapes of a state dict; refuses every name that it does not know."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storages: dict[str, _PickledStorage] = {}

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
        return self.storages.setdefault(str(key), _PickledStorage(str(kind), str(key), int(count)))


def _rebuilt(storage: _PickledStorage, offset: int, shape: tuple[int, ...], *_: Any) -> Tensor:
    return Tensor(storage.kind, tuple(int(n) for n in shape), f"{storage.key}+{int(offset)}", storage.count)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _torch_zip(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: entry for entry in archive.infolist()}
        (pickled,) = (name for name in parts if name.endswith("/data.pkl"))
        packed = next((entry for entry in parts.values() if entry.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:  # it may unpack to any size
            raise bad(path, "part_compressed", part=packed.filename)
        if parts[pickled].file_size > LONGEST_HEADER:
            raise bad(path, "list_long", size=f"{parts[pickled].file_size:,}")
        if not parts[pickled].CRC:
            del parts[pickled].CRC  # archives without checksums are valid for torch: zipfile then skips the check
        state = _required(path, _Names(io.BytesIO(archive.read(pickled))).load())
    folder = pickled.removesuffix("data.pkl") + "data/"
    places = dict[str, int]()
    with path.open("rb") as file:
        for name, tensor in state.items():
            key = tensor.storage.partition("+")[0]
            part = parts.get(folder + key)
            if part is None or part.file_size < tensor.count * ITEM_BYTES.get(tensor.kind, 1):
                raise bad(path, "tensor_cut", name=str(name))
            places[key] = places.get(key) or _content_of(file, part)
    return _placed(state, places)


def _content_of(file: IO[bytes], part: zipfile.ZipInfo) -> int:
    """The offset at which the content of an uncompressed part begins: after its header, its name and its padding."""
    file.seek(part.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return int(part.header_offset + 30 + name + extra)


def _torch_pickle(path: Path) -> Tensors:
    """The format that torch wrote before 1.6, and still reads: pickles one after the other, then the content."""
    with path.open("rb") as file:
        for _ in range(3):  # a magic number, the version, the machine's properties
            _Names(file).load()
        names = _Names(file)
        state = _required(path, names.load())
        keys = [str(key) for key in _Names(file).load()]
        at, places = file.tell(), dict[str, int]()
        for key in keys:  # each follows the number of its elements
            storage = names.storages.get(key)
            places[key] = at + 8
            at += 8 + (storage.count * ITEM_BYTES.get(storage.kind, 1) if storage else 0)
        needed = {tensor.storage.partition("+")[0] for tensor in state.values()}
        if not needed <= places.keys() or path.stat().st_size < at:
            raise bad(path, "tensors_cut")
    return _placed(state, places)


def _placed(state: Mapping[str, Tensor], places: Mapping[str, int]) -> Tensors:
    return {name: replace(tensor, at=places[tensor.storage.partition("+")[0]]) for name, tensor in state.items()}


def _required(path: Path, loaded: Any) -> Mapping[str, Tensor]:
    state = state_within(loaded, Tensor)
    if state is None:
        raise InputError("model_pickle", path=str(path), why=Phrase("model.not_tensors"))
    return state
