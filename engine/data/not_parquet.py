"""What a file that should be Parquet is instead, and the import that converts it to Parquet."""

import codecs
import contextlib
import shlex
from pathlib import Path

from engine.contract.messages import InputError
from engine.data.formats import HEAD, content_of, require_rows

SUFFIXES = {".jsonl": "JSON Lines", ".ndjson": "JSON Lines", ".json": "JSON", ".csv": "CSV", ".tsv": "TSV"}
BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def require_parquet(path: Path) -> None:
    """Raises InputError that says what the file is, if it is not Parquet."""
    content = content_of(path)
    if content == ("parquet", ""):
        return
    require_rows(path, content)
    if content.compression:
        kind = (f"a file compressed with {content.compression}", f"{content.compression} 压缩文件")
    elif content.kind != "text":
        kind = ("an Arrow file", "Arrow 文件")
    else:
        named = SUFFIXES.get(path.suffix.lower()) or _text(path)
        kind = (named, "文本" if named == "text" else named)
    if kind[0]:
        command = f"sft-tui data import {shlex.quote(str(path))}"
        raise InputError("not_parquet", path=str(path), kind=kind[0], kind_zh=kind[1], import_command=command)


def _text(path: Path) -> str:
    """The format of a text file without a usual name; empty if it is not text."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(BOMS):
        return "text"
    for encoding in ("utf-8", "gb18030"):
        with contextlib.suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(encoding)().decode(head).strip("\ufeff \t\r\n")
            if not text or "\0" in text:
                return ""
            return "JSON" if text.startswith(("{", "[")) else "text"
    return ""
