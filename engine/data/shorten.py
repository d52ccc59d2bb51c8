"""Prompts of overlong conversations: the oldest turns are dropped; the system text and last question stay."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from engine.data.parquet_rows import RowSource
from engine.data.shapes.conversation import parsed, prompt_of

Encode = Callable[[list[str]], list[list[int]]]


class Prompt(NamedTuple):
    """A prompt, and the positions in it where its turns begin."""

    text: str
    starts: Sequence[int]


class Shortened(NamedTuple):
    """A prompt without its oldest turns, their number, and the ids of the remaining text."""

    text: str
    turns: int
    ids: list[int]


def without_oldest(prompt: Prompt, turns: int) -> str:
    """The prompt as an import would have written it without its `turns` oldest turns; raises ValueError."""
    system, parts = parsed(prompt.text, prompt.starts)
    return prompt_of(system, parts[turns:])[0]


def shortened(prompts: Sequence[Prompt], limit: int, encode: Encode) -> list[Shortened]:
    """Prompts over `limit` tokens with just enough of the oldest turns dropped to fit, or all of them if none fit.

    The remaining text is tokenized separately, so its ids are those of actual use. Each round of the search tries one
    candidate of every prompt.
    """
    least, most = [1] * len(prompts), [len(prompt.starts) - 1 for prompt in prompts]
    found: list[Shortened | None] = [None] * len(prompts)
    while searched := [at for at, one in enumerate(found) if one is None or least[at] < most[at]]:
        tried = [(least[at] + most[at]) // 2 for at in searched]
        texts = [without_oldest(prompts[at], turns) for at, turns in zip(searched, tried, strict=True)]
        for at, turns, text, ids in zip(searched, tried, texts, encode(texts), strict=True):
            if len(ids) <= limit or turns == most[at]:
                most[at], found[at] = turns, Shortened(text, turns, ids)
            else:
                least[at] = turns + 1
    return [one for one in found if one is not None]


class Shortening:
    """Drops the oldest turns of a file's prompts that exceed a limit, and counts them."""

    def __init__(self, source: RowSource, limit: int) -> None:
        self._source, self._limit = source, limit
        self._rows = self._left_out = self._longest = 0

    def shorten(self, rows: Sequence[int], prompts: Mapping[int, Prompt], ids: list[list[int]], encode: Encode) -> None:
        """Replaces `ids` of the prompts that are too long, at their places in `rows` and `ids`; raises InputError."""
        for at, prompt in prompts.items():
            require_turns(self._source, rows[at], prompt)
        long = [at for at, prompt in prompts.items() if len(ids[at]) > self._limit and len(prompt.starts) > 1]
        self._longest = max([self._longest, *(len(ids[at]) for at in long)])
        for at, found in zip(long, shortened([prompts[at] for at in long], self._limit, encode), strict=True):
            ids[at] = found.ids
            self._rows += 1
            self._left_out += found.turns

    def to_json(self) -> dict[str, int]:
        """How many rows lost turns, how many turns that was, and the tokens of the longest prompt that had them."""
        return {"turns_rows": self._rows, "turns_left_out": self._left_out, "turns_longest": self._longest}


def require_turns(source: RowSource, row: int, prompt: Prompt) -> None:
    """Raises InputError if the turns of a prompt do not begin where its file says."""
    try:
        parsed(prompt.text, prompt.starts)
    except (TypeError, ValueError):
        raise source.turns_elsewhere(row) from None
