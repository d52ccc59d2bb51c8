"""Compressed files are recognized by their content, and bounded."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from engine.contract.messages import InputError
from tests.engine.data.conftest import LINES, ROWS, Reader, csv_text


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACK: list[Callable[[bytes], bytes]] = [gzip.compress, zstd, bz2.compress, lzma.compress]


@pytest.mark.parametrize("pack", PACK)
def test_compressed_files_are_read_whatever_their_name(read: Reader, pack: Callable[[bytes], bytes]) -> None:
    assert read(pack(LINES.encode()), "rows.bin")[1] == ROWS
    half = LINES.index("\n", len(LINES) // 2) + 1
    joined = pack(LINES[:half].encode()) + pack(LINES[half:].encode())
    assert read(joined, "rows.jsonl")[1] == ROWS
    assert read(pack(csv_text("甲,乙").encode("gb18030") * 3), "rows.csv.gz")[1] == [
        ("甲", "乙"),
        ("prompt", "response"),
    ]


@pytest.mark.parametrize("pack", PACK)
def test_a_truncated_compressed_file_writes_nothing(
    read: Reader, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(InputError) as refused:
        read(pack(LINES.encode())[:-20], "rows.jsonl.x")
    assert refused.value.message.code == "source_compressed"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl.x"]


def test_a_decompression_bomb_is_refused_and_repetitive_rows_read(
    read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, came = read(gzip.compress(LINES.encode() * 500, 1), "rows.jsonl")
    assert (came, found.records) == (ROWS, 10_000)
    monkeypatch.setattr("engine.data.compression.FREE", 1 << 20)
    for content in (b"\0" * (20 << 20), b'{"prompt": "' + b"x" * (20 << 20), b'a,"' + b"x,y\n" * (5 << 20)):
        with pytest.raises(InputError) as refused:
            read(gzip.compress(content, 1), "rows.csv")
        assert refused.value.message.code == "source_bomb"
        assert "200 times" in refused.value.message.text()
