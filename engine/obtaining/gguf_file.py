"""What a GGUF file says of itself, read within its own size: no count or length in it is believed further than that.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from engine.contract.messages import InputError
from engine.contract.texts import Argument, Phrase

MAGIC = b"GGUF"
VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
LONGEST_NAME, MOST_DIMENSIONS = 1 << 10, 8  # bytes of a name, and dimensions of a tensor
MOST_KEYS, MOST_TENSORS, MOST_ELEMENTS = 1 << 16, 1 << 20, 1 << 22  # elements of one array: tokens, merges
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # kinds of tensors that are not quantized


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of the file: its kind, its shape as torch has it, and where its bytes are."""

    name: str
    kind: str
    shape: tuple[int, ...]
    at: int  # bytes from the start of the file
    size: int  # bytes

    @property
    def count(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufFile:
    """A file's keys and tensors."""

    path: Path
    keys: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """The kind of model, by llama.cpp's name."""
        return str(self.keys.get("general.architecture", ""))

    def own(self, key: str) -> Any:
        """The value of a key of this architecture."""
        return self.keys.get(f"{self.architecture}.{key}")

    def token(self, role: str) -> int | None:
        """The number of the token with a role such as "eos"."""
        found = self.keys.get(f"tokenizer.ggml.{role}_token_id")
        return found if isinstance(found, int) and 0 <= found < len(self.tokens) else None

    @property
    def tokens(self) -> list[str]:
        """The vocabulary by number."""
        found = self.keys.get("tokenizer.ggml.tokens")
        return found if isinstance(found, list) else []

    @property
    def quantized(self) -> tuple[str, ...]:
        """The kinds of its quantized tensors, the most frequent first."""
        kinds = [tensor.kind for tensor in self.tensors if tensor.kind not in FLOATS]
        return tuple(sorted(set(kinds), key=lambda kind: -kinds.count(kind)))

    @property
    def dtype(self) -> str:
        """The kind of numbers that its weights become: bfloat16 if they are quantized, as models are published.

        Otherwise it is their own. Norms are kept in float32 whatever the weights are, so the matrices decide; several
        kinds become float32, which holds all of them exactly.
        """
        kinds = {tensor.kind for tensor in self.tensors if len(tensor.shape) > 1}
        if not kinds <= set(FLOATS):
            return FLOATS["BF16"]
        return FLOATS[next(iter(kinds))] if len(kinds) == 1 else FLOATS["F32"]

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return sum(tensor.count for tensor in self.tensors)


def unreadable(path: Path, why: str, /, **args: Argument) -> InputError:
    """The error for a file that is not what it should be: `why` is the key of its reason, below `gguf.`."""
    return InputError("gguf_bad", path=str(path), why=Phrase(f"gguf.{why}", args))


def read(path: Path) -> GgufFile:
    """The keys and the tensors of a file; raises InputError if it is damaged, cut short or not GGUF."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise unreadable(path, "magic")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(path, data, size).read()
            except (struct.error, IndexError, UnicodeDecodeError):
                raise unreadable(path, "short", size=f"{size:,}") from None


class _Reader:
    """Reads a file from its start; struct raises at its end."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self._path, self._data, self._size, self._at = path, data, size, 4

    def read(self) -> GgufFile:
        version, tensors, keys = self._number("I"), self._number("Q"), self._number("Q")
        if version not in VERSIONS:
            big_endian = version in {value << 24 for value in VERSIONS}
            raise unreadable(self._path, "big_endian" if big_endian else "version", version=version)
        self._require_few(keys, MOST_KEYS, 12)
        self._require_few(tensors, MOST_TENSORS, 24)
        found: dict[str, Any] = {}
        for _ in range(keys):
            name = self._text(LONGEST_NAME)
            found[name] = self._value(self._number("I"))
        described = [self._tensor() for _ in range(tensors)]
        alignment = found.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise unreadable(self._path, "numbers")
        begin = -(-self._at // alignment) * alignment
        placed = tuple(GgufTensor(name, kind, shape, begin + at, size) for name, kind, shape, at, size in described)
        if any(tensor.at + tensor.size > self._size for tensor in placed):
            missing = max(tensor.at + tensor.size for tensor in placed) - self._size
            raise unreadable(self._path, "tensors_cut", missing=f"{missing:,}")
        return GgufFile(self._path, found, placed)

    def _number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self._data, self._at)
        self._at += struct.calcsize(f"<{kind}")
        return value

    def _text(self, most: int | None = None) -> str:
        length = self._number("Q")
        if length > (self._size - self._at if most is None else most):
            raise unreadable(self._path, "short", size=f"{self._size:,}")
        self._at += length
        return self._data[self._at - length : self._at].decode("utf-8", "strict" if most else "replace")

    def _value(self, kind: int) -> Any:
        if kind in NUMBERS:
            return self._number(NUMBERS[kind])
        if kind == STRING:
            return self._text()
        if kind != ARRAY:
            raise unreadable(self._path, "numbers")
        of, count = self._number("I"), self._number("Q")
        if of in NUMBERS:
            self._require_few(count, MOST_ELEMENTS, struct.calcsize(f"<{NUMBERS[of]}"))
            values = struct.unpack_from(f"<{count}{NUMBERS[of]}", self._data, self._at)
            self._at += struct.calcsize(f"<{count}{NUMBERS[of]}")
            return list(values)
        if of != STRING:
            raise unreadable(self._path, "numbers")
        self._require_few(count, MOST_ELEMENTS, 8)
        return [self._text() for _ in range(count)]

    def _require_few(self, count: int, most: int, each: int) -> None:
        """Raises InputError for more things than the file can hold, of at least `each` bytes."""
        if count > most or count * each > self._size - self._at:
            raise unreadable(self._path, "counts", count=f"{count:,}")

    def _tensor(self) -> tuple[str, str, tuple[int, ...], int, int]:
        name, dimensions = self._text(LONGEST_NAME), self._number("I")
        if not 0 < dimensions <= MOST_DIMENSIONS:
            raise unreadable(self._path, "numbers")
        shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]  # the format names the innermost first
        number, at = self._number("I"), self._number("Q")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise unreadable(self._path, "kind", tensor=name[:100], kind=number) from None
        elements, size = GGML_QUANT_SIZES[kind]
        count = math.prod(shape)
        if not 0 < count < 1 << 40 or shape[-1] % elements:
            raise unreadable(self._path, "numbers")
        return name, kind.name, shape, at, count // elements * size
