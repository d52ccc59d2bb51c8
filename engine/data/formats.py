"""The kind of a file, from its content: file names are not trusted."""

from pathlib import Path
from typing import NamedTuple

from engine.contract.messages import InputError
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


# Formats that rows are not read from, in both languages: what the file is, and what to do.
FOREIGN: dict[str, tuple[str, str, str, str]] = {
    "parquet-encrypted": (
        "an encrypted Parquet file", "加密的 Parquet 文件",
        "Write it again without encryption.", "请去掉加密后重新保存。",
    ),
    "parquet-inside": (
        "a Parquet file that was compressed as a whole", "被整体压缩的 Parquet 文件",
        "Decompress it first (gunzip, unzstd).", "请先解压（gunzip、unzstd）。",
    ),
    "feather-1": (
        "a Feather file of the old version 1", "旧的 Feather 第 1 版文件",
        "Write it again with pyarrow.feather.write_feather.", "请用 pyarrow.feather.write_feather 重新保存。",
    ),
    "orc": ("an ORC file", "ORC 文件", "Save it as Parquet or CSV.", "请另存为 Parquet 或 CSV。"),
    "avro": ("an Avro file", "Avro 文件", "Save it as Parquet or JSON Lines.", "请另存为 Parquet 或 JSON Lines。"),
    "xlsx": (
        "an Excel workbook", "Excel 工作簿",
        'Save its sheet as "CSV UTF-8", and import that.', "请在表格软件中另存为“CSV UTF-8”，再导入。",
    ),
    "xls": (
        "an old Excel or Word document", "旧版 Excel 或 Word 文档",
        'Save its sheet as "CSV UTF-8", and import that.', "请在表格软件中另存为“CSV UTF-8”，再导入。",
    ),
    "ods": (
        "an OpenDocument spreadsheet", "OpenDocument 表格",
        "Save its sheet as CSV in UTF-8, and import that.", "请另存为 UTF-8 编码的 CSV，再导入。",
    ),
    "document": (
        "a text document with its layout", "带排版的文字文档",
        "Save its rows as CSV or JSON, and import that.", "请把其中的数据另存为 CSV 或 JSON，再导入。",
    ),
    "zip": (
        "an archive of other files", "压缩包",
        "Unpack it (unzip), and import the folder.", "请先解压（unzip），再导入解出的目录。",
    ),
    "archive": (
        "an archive of other files", "归档文件",
        "Unpack it (tar -xf, 7z x), and import the folder.", "请先解包（tar -xf、7z x），再导入解出的目录。",
    ),
    "sqlite": (
        "an SQLite database", "SQLite 数据库",
        "Export its table: sqlite3 -csv -header FILE 'select * from TABLE' > rows.csv",
        "请先导出数据表：sqlite3 -csv -header 文件 'select * from 表名' > rows.csv",
    ),
    "pdf": (
        "a PDF document", "PDF 文档",
        "Extract its rows as CSV or JSON first.", "请先把其中的数据提取为 CSV 或 JSON。",
    ),
    "numpy": (
        "an array of numpy", "numpy 数组",
        "Save it as Parquet or JSON Lines.", "请另存为 Parquet 或 JSON Lines。",
    ),
    "hdf5": ("an HDF5 file", "HDF5 文件", "Save it as Parquet or CSV.", "请另存为 Parquet 或 CSV。"),
    "pickle": (
        "a pickle, which can run code when it is opened", "pickle 文件，打开时可能执行代码",
        "Save it as Parquet or JSON Lines where you trust it.", "请在可信的环境中另存为 Parquet 或 JSON Lines。",
    ),
    "lfs": (
        "a pointer of Git LFS, not the file itself", "Git LFS 指针，不是文件本身",
        "Fetch it with git lfs pull.", "请用 git lfs pull 取回文件。",
    ),
    "html": (
        "a web page; downloads that need a login often end so", "网页；需要登录的下载常会得到这样的文件",
        "Download the data file itself.", "请下载数据文件本身。",
    ),
    "image": ("an image", "图片", "Name a file of rows.", "请指定数据文件。"),
    "program": ("a program", "程序", "Name a file of rows.", "请指定数据文件。"),
    "binary": (
        "neither text nor a table of a known kind", "既不是文本，也不是可识别的表格",
        "Save its rows as CSV, JSON Lines or Parquet.", "请把数据另存为 CSV、JSON Lines 或 Parquet。",
    ),
}  # fmt: skip


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
        what, what_zh, advice, advice_zh = FOREIGN[content.kind]
        about = {"what": what, "what_zh": what_zh, "advice": advice, "advice_zh": advice_zh}
        raise InputError("source_foreign", path=str(path), **about)


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
