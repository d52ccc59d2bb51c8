"""Reading compressed files as their uncompressed content."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from engine.contract.messages import InputError

# The first bytes of each format.
COMPRESSIONS = {
    "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "xz": b"\xfd7zXZ\0", "lz4": b"\x04\x22\x4d\x18",
}  # fmt: skip
BUFFER = 1 << 18
FREE, MOST_TIMES = 1 << 30, 200  # bytes that any file may expand to, and beyond that how many times its own size
OnRead = Callable[[int], None]
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


class _Arrow(io.RawIOBase):
    """A stream of pyarrow as a Python stream."""

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


class _Watched(io.RawIOBase):
    """A decompressed stream that reports its position in the file and raises if the file is a decompression bomb."""

    def __init__(self, stream: BinaryIO, raw: BinaryIO, path: Path, compression: str, on_read: OnRead) -> None:
        self._stream, self._raw, self._on_read = stream, raw, on_read
        self._path, self._compression = path, compression
        self._made, self._most = 0, max(FREE, MOST_TIMES * os.fstat(raw.fileno()).st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._made += len(data)
        if self._compression and self._made > self._most:
            made = f"{self._made / 1e9:,.1f} GB"
            path, compression = str(self._path), self._compression
            raise InputError("source_bomb", path=path, compression=compression, ratio=MOST_TIMES, made=made)
        self._on_read(self._raw.tell())
        return len(data)


def _silent(_done: int) -> None:
    """Reports nothing."""


@contextlib.contextmanager
def opened_stream(path: Path, compression: str = "", on_read: OnRead = _silent) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as they are read; `on_read` receives how many bytes of the file have been read.

    Raises InputError if they are corrupt, or expand to far more than a file of that size should hold.
    """
    try:
        with path.open("rb") as raw, _stream(raw, compression) as stream:
            yield io.BufferedReader(_Watched(stream, raw, path, compression, on_read), BUFFER)
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
