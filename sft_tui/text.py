"""Text for a terminal: foreign text made harmless, and sizes, durations and numbers as people read them."""

import re

from engine.contract.harmless import visible
from engine.contract.messages import InputError


def safe(text: str, limit: int = 4000) -> str:
    """`text` on one line, without anything that a terminal would interpret.

    Control characters (C0, C1, DEL), line and paragraph separators, bidirectional and other invisible format
    characters, and lone surrogates become visible; everything else is kept, including the wide space U+3000. Longer
    texts are cut at `limit` characters.
    """
    shown = "".join(map(visible, text[:limit]))
    return shown + "…" if len(text) > limit else shown


def one_for_one(text: str) -> str:
    """A text that is being edited, in which one character stands for each that a terminal would interpret."""
    if text.isprintable():
        return text
    return "".join(shown if len(shown := visible(char)) == 1 else "\ufffd" for char in text)


def escaped(text: str) -> str:
    """JSON with each character that a terminal would interpret escaped; line ends occur only between values."""
    if text.isprintable():
        return text
    return "".join(char if char == "\n" or visible(char) == char else _escape(char) for char in text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def size(count: float) -> str:
    """Bytes in decimal units: `2.90 GB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f} B"


def parse_size(text: str) -> int:
    """Parses `8GB`, `800 MB`, `7.5 GiB` or a plain number into bytes; raises InputError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise InputError("size_bad", text=safe(text, 40))
    power = " kmgt".index(found[2].lower() or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def duration(seconds: float) -> str:
    """Seconds as `47 s`, `12 min 05 s` or `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: object) -> str:
    """A setting's value as text: floats without needless digits, an empty text as a dash."""
    if isinstance(value, float):
        return f"{value:g}"
    return safe(str(value)) or "-"


def width(shown: str) -> int:
    """Columns that a text takes on a terminal; a wide character takes two."""
    from rich.cells import cell_len

    return cell_len(shown)


def cut(shown: str, columns: int) -> str:
    """`shown` within the given number of columns, with an ellipsis at its end if it was cut."""
    from rich.cells import set_cell_size

    if width(shown) <= columns:
        return shown
    return set_cell_size(shown, columns - 1).rstrip() + "…" if columns > 0 else ""


def pad(shown: str, columns: int) -> str:
    """`shown` padded with spaces to the given number of columns."""
    return shown + " " * (columns - width(shown))
