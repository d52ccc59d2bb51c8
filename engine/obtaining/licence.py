"""The licence of a model, as its folder states it."""

import re
from pathlib import Path

from engine.contract.durable import read_json
from engine.contract.files import read_piece
from engine.contract.model_record import RECORD
from engine.contract.model_reports import LONGEST_LICENCE

MOST_READ = 64 << 10  # bytes
FRONT = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"^(license_name|license):[ \t]*[\"']?([^\"'#\n]+?)[\"']?[ \t]*(?:#.*)?$", re.MULTILINE)
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


def licence_of(folder: Path) -> str:
    """The licence by the record of its download, the head of its README.md, or the first line of its licence file."""
    said = read_json(folder / RECORD).get("licence")
    if isinstance(said, str) and said:
        return said[:LONGEST_LICENCE]
    if head := FRONT.search(_text(folder / "README.md")):
        named: dict[str, str] = {name: value.strip() for name, value in NAMED.findall(head[1])}
        if found := named.get("license_name") or named.get("license"):
            return found[:LONGEST_LICENCE]
    lines = (line.strip() for name in FILES for line in _text(folder / name).splitlines())
    return next(filter(None, lines), "")[:LONGEST_LICENCE]


def _text(path: Path) -> str:
    try:
        return read_piece(path.resolve(), 0, MOST_READ).decode("utf-8", "replace")
    except OSError:
        return ""
