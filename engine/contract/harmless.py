"""Foreign text made harmless: nothing that a terminal would interpret is left in it."""

import unicodedata
from functools import lru_cache

# Joiners that emoji sequences and some scripts need; every other format character is shown as a code.
KEPT_FORMAT = {"\u200c", "\u200d"}


def harmless(text: str) -> str:
    """`text` with its line ends and tabs, and every other character that a terminal would interpret made visible."""
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" else visible(char) for char in text)


@lru_cache(maxsize=4096)
def visible(char: str) -> str:
    """A character as itself, or as a symbol or code if a terminal would interpret it or not display it."""
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in KEPT_FORMAT:
        return f"<U+{code:04X}>"
    return char
