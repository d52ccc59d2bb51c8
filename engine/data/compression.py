"""Compressed files, read as what is in them."""

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from engine.contract.messages import InputError

# Which first bytes say so.
COMPRESSIONS = {
    "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "xz": b"\xfd7zXZ\0", "lz4": b"\x04\x22\x4d\x18",
}  # fmt: skip
BUFFER = 1 << 18
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


class _Arrow(io.RawIOBase):
    """A stream of pyarrow as one of Python."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextlib.contextmanager
def opened_stream(path: Path, compression: str = "") -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as they are read; raises InputError where they are damaged."""
    with opened_raw(path, compression) as (stream, _):
        yield stream


@contextlib.contextmanager
def opened_raw(path: Path, compression: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The same, and the file itself, whose position tells how far the reading is."""
    try:
        with path.open("rb") as raw, _stream(raw, compression) as stream:
            yield stream, raw
    except DAMAGED as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        code = "source_compressed" if compression else "source_unreadable"
        raise InputError(code, path=str(path), compression=compression, why=why) from None


def _stream(raw: BinaryIO, compression: str) -> BinaryIO:
    if compression == "gzip":
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=raw), BUFFER))
    if compression == "bz2":
        return cast(BinaryIO, bz2.BZ2File(raw))
    if compression == "xz":
        return cast(BinaryIO, lzma.LZMAFile(raw))
    if compression:
        return io.BufferedReader(_Arrow(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)), BUFFER)
    return raw
