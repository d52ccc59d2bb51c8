"""What a file that should be Parquet is instead, and the import that converts it to Parquet."""

import codecs
import contextlib
import shlex
from pathlib import Path

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
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
        kind: str | Phrase = Phrase.of("kind_of_file.compressed", compression=content.compression)
    elif content.kind != "text":
        kind = Phrase("kind_of_file.arrow")
    else:
        kind = SUFFIXES.get(path.suffix.lower()) or _text(path)
    if kind:
        kind = Phrase("kind_of_file.text") if kind == "text" else kind
        command = f"sft-tui data import {shlex.quote(str(path))}"
        raise InputError("not_parquet", path=str(path), kind=kind, import_command=command)


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
