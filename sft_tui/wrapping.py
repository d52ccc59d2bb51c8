"""Text on lines of a number of columns, broken where English and Chinese may be."""

from rich.cells import cell_len, set_cell_size

from sft_tui.text import cut

# Closing characters never start a line, and opening ones never end it.
NEVER_FIRST = frozenset("，。、；：？！）》」』】〉〕”’…—～·％℃,.;:?!)]}%")
NEVER_LAST = frozenset("（《「『【〈〔“‘([{")


def wrap(text: str, width: int) -> list[str]:
    """`text` on lines of at most the given number of columns, broken at spaces, and in Chinese anywhere but before a
    closing and after an opening character."""
    lines, line, size = [], "", 0
    for word in _words(text):
        length = cell_len(word)
        if size + length > width and line:
            if line.strip():
                lines.append(line.rstrip())
            line, size = "", 0
            word = word.lstrip()
            length = cell_len(word)
        while length > width > 1:
            head = set_cell_size(word, width)
            kept = _before_what_closes(word, len(head.rstrip()) or 1)
            lines.append(word[:kept])
            word = word[kept:]
            length = cell_len(word)
        line, size = line + word, size + length
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


def _before_what_closes(word: str, place: int) -> int:
    """Where to break a word that is too long: at `place`, or a little earlier if a closing character is there."""
    for earlier in range(place, max(0, place - 3), -1):
        if word[earlier] not in NEVER_FIRST:
            return earlier
    return place


def wrapped(text: str, width: int, most: int) -> list[str]:
    """At most the given number of lines of a text, with an ellipsis at the end of the last if some are left out."""
    lines = wrap(text, width)
    if len(lines) <= most or not most:
        return lines[:most]
    kept = lines[:most]
    return [*kept[:-1], cut(kept[-1] + "…" if cell_len(kept[-1]) < width else kept[-1] + " …", width)]


def _words(text: str) -> list[str]:
    words: list[str] = []
    for char in text:
        wide = cell_len(char) > 1
        bound = char in NEVER_FIRST or (words and words[-1][-1] in NEVER_LAST)
        if words and words[-1] != " " and char != " " and (bound or (not wide and cell_len(words[-1][-1]) == 1)):
            words[-1] += char
        else:
            words.append(char)
    return words
