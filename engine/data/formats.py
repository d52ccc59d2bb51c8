"""The kind of a file, from its content: file names are not trusted."""

from pathlib import Path
from typing import NamedTuple

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.data.compression import COMPRESSIONS, opened_stream

HEAD = 4096  # bytes that are examined
TABLES = ("parquet", "arrow", "arrow-stream")

# Offset, bytes at that offset, and the format they indicate.
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PAR1", "parquet"), (0, b"PARE", "parquet-encrypted"), (0, b"ARROW1", "arrow"),
    (0, b"\xff\xff\xff\xff", "arrow-stream"), (0, b"FEA1", "feather-1"), (0, b"ORC", "orc"), (0, b"Obj\x01", "avro"),
    (0, b"PK\x03\x04", "zip"), (0, b"PK\x05\x06", "zip"), (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"), (0, b"Rar!\x1a\x07", "archive"), (257, b"ustar", "archive"),
    (0, b"SQLite format 3\0", "sqlite"), (0, b"%PDF-", "pdf"), (0, b"\x93NUMPY", "numpy"), (0, b"\x89HDF\r\n", "hdf5"),
    (0, b"version https://git-lfs", "lfs"), (0, b"\x89PNG", "image"), (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF8", "image"), (0, b"\x7fELF", "program"),
    *((0, bytes((0x80, version)), "pickle") for version in (2, 3, 4, 5)),
)  # fmt: skip
HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


class Content(NamedTuple):
    """What a file holds: its kind (`text` if only its words can tell more), and the compression around it."""

    kind: str
    compression: str = ""


# Formats that rows are not read from; the catalogues say what each is, and what to do.
FOREIGN = frozenset(
    {
        "parquet-encrypted",
        "parquet-inside",
        "feather-1",
        "orc",
        "avro",
        "xlsx",
        "xls",
        "ods",
        "document",
        "zip",
        "archive",
        "sqlite",
        "pdf",
        "numpy",
        "hdf5",
        "pickle",
        "lfs",
        "html",
        "image",
        "program",
        "binary",
    }
)


def content_of(path: Path) -> Content:
    """The content of a plain file; raises InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError("source_unreadable", path=str(path), why=error.strerror or str(error)) from None
    for compression, magic in COMPRESSIONS.items():
        if head.startswith(magic):
            with opened_stream(path, compression) as stream:
                inside = stream.read(HEAD)
            kind = _kind(inside)
            return Content("parquet-inside" if kind in ("parquet", "arrow") else kind, compression)
    if head and not any(head):  # a hole, which may have terabytes
        return Content("binary")
    kind = _kind(head)
    return Content(_of_zip(path, head) if kind == "zip" else kind)


def require_rows(path: Path, content: Content) -> None:
    """Raises InputError that says what to do if rows are not read from files of this kind."""
    if content.kind in FOREIGN:
        what, advice = (Phrase(f"format.{content.kind}.{part}") for part in ("what", "fix"))
        raise InputError("source_foreign", path=str(path), what=what, advice=advice)


def _kind(head: bytes) -> str:
    for place, magic, kind in MAGIC:
        if head.startswith(magic, place):
            return kind
    start = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    return "html" if start.startswith(HTML) else "text"


def _of_zip(path: Path, head: bytes) -> str:
    """Which of the many zip-based formats a file has: the members that show it come first in the file."""
    if b"opendocument.spreadsheet" in head:
        return "ods"
    if b"opendocument" in head or b"word/" in head:
        return "document"
    office = (b"[Content_Types].xml", b"xl/", b"_rels/")
    return "xlsx" if any(name in head for name in office) or path.suffix.lower() in (".xlsx", ".xlsm") else "zip"
