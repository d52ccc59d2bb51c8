"""Checks of the texts of a data file: which rows cannot be used, what is odd in the others, which scripts."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.contract.messages import InputError
from engine.contract.reasons import counted

Text = str | bytes | None  # bytes if a text is not UTF-8

# Characters that a terminal or a reader would interpret: C0 but tab and line ends, C1, bidirectional overrides.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
REPLACEMENT = "\ufffd"
DETAILS = 20  # of one code that are counted separately
# First code points of ranges, in order, and the script of each; characters in no script are not counted.
_RANGES: tuple[tuple[int, str], ...] = (
    (0x0, ""), (0x41, "Latin"), (0x5B, ""), (0x61, "Latin"), (0x7B, ""), (0xC0, "Latin"), (0xD7, ""), (0xD8, "Latin"),
    (0xF7, ""), (0xF8, "Latin"), (0x250, ""),
    (0x370, "Greek"), (0x400, "Cyrillic"), (0x530, ""), (0x590, "Hebrew"), (0x600, "Arabic"), (0x700, ""),
    (0x900, "Devanagari"), (0x980, ""), (0xE00, "Thai"), (0xE80, ""), (0x1E00, "Latin"), (0x1F00, "Greek"),
    (0x2000, ""), (0x3041, "Kana"), (0x3100, ""), (0x3400, "Han"), (0x4DC0, ""), (0x4E00, "Han"), (0xA000, ""),
    (0xAC00, "Hangul"), (0xD7B0, ""), (0xF900, "Han"), (0xFB00, ""), (0x20000, "Han"), (0x323B0, ""),
)  # fmt: skip
# The range of each code point; all from the last start on belong to the last one.
_RANGE_OF = np.repeat(
    np.arange(len(_RANGES), dtype=np.uint8),
    np.diff([start for start, _ in _RANGES], append=_RANGES[-1][0] + 1),
)


class TextBatch(NamedTuple):
    """Prompts and responses, the positions where the turns of each prompt begin, and the row of each in its file.

    A row that is a conversation gives a pair for each of its answers. One that cannot be used gives a pair without
    texts, and its reason in `refused`, by place. `noticed` counts what was left out of conversations, by reason.
    """

    prompts: Sequence[Text]
    responses: Sequence[Text]
    starts: Sequence[Sequence[int] | None]
    numbers: Sequence[int]
    refused: Mapping[int, str] = {}
    noticed: Mapping[str, int] = {}


def fault_of(prompt: Text, label: Text) -> str | None:
    """The reason (`engine.contract.reasons`) why a row cannot be used, or None if it can."""
    for name, text in (("prompt", prompt), ("response", label)):
        if text is None:
            return f"{name}_null"
        if isinstance(text, bytes):
            return f"{name}_not_utf8"
        if not text.strip():
            return f"{name}_empty"
    return None


class TextTally:
    """Counts over all rows; first rows are row numbers in the file from 0, -1 if there is none."""

    def __init__(self) -> None:
        self.rows = 0
        self.dropped: Counter[str] = Counter()
        self.noticed: Counter[str] = Counter()
        self._first = dict.fromkeys(("dropped", "control", "replacement"), -1)
        self._odd = dict.fromkeys(("control", "replacement"), 0)
        self._scripts = np.zeros(len(_RANGES), dtype=np.int64)

    def count(self, batch: TextBatch) -> list[int]:
        """Counts some rows; returns the places among them of the usable ones."""
        prompts, labels = batch.prompts, batch.responses
        faults = [fault_of(prompt, label) for prompt, label in zip(prompts, labels, strict=True)]
        for place, reason in batch.refused.items():
            faults[place] = reason
        self.noticed.update(batch.noticed)
        pairs = zip(prompts, labels, faults, strict=True)
        said = ["" if fault else f"{prompt!s}\n{label!s}" for prompt, label, fault in pairs]
        return self.add(faults, said, batch.numbers)

    def add(self, faults: Sequence[str | None], said: Sequence[str], numbers: Sequence[int]) -> list[int]:
        """Counts rows by why they cannot be used, and by their texts; returns the places of the usable ones.

        `numbers` are those of the rows in their file.
        """
        kept = [place for place, fault in enumerate(faults) if fault is None]
        if len(kept) < len(faults):
            self._found("dropped", next(numbers[at] for at, fault in enumerate(faults) if fault is not None))
        for fault in faults:
            if fault is not None:
                self.dropped[self._counted_as(fault)] += 1
        texts = [said[place] for place in kept]
        whole = "\n".join(texts)
        if CONTROL.search(whole):
            odd = [numbers[at] for at, text in zip(kept, texts, strict=True) if CONTROL.search(text)]
            self._add("control", odd)
        if REPLACEMENT in whole:
            odd = [numbers[at] for at, text in zip(kept, texts, strict=True) if REPLACEMENT in text]
            self._add("replacement", odd)
        codes = np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ranges = _RANGE_OF.take(codes, mode="clip")
        self._scripts += np.bincount(ranges, minlength=len(_RANGES))
        self.rows += len(faults)
        return kept

    def _counted_as(self, reason: str) -> str:
        """A reason, without its detail if there are many others of its code: a file can have any number of them."""
        code, _, detail = reason.partition(":")
        many = detail and sum(one.startswith(f"{code}:") for one in self.dropped) >= DETAILS
        return code if many and reason not in self.dropped else reason

    def _add(self, what: str, numbers: list[int]) -> None:
        self._odd[what] += len(numbers)
        self._found(what, numbers[0])

    def _found(self, what: str, number: int) -> None:
        if self._first[what] < 0:
            self._first[what] = number

    def require_rows(self, path: Path, prompt: str, response: str) -> None:
        """Raises InputError if no row can be used."""
        if self.rows == sum(self.dropped.values()):
            columns = {"prompt": prompt, "response": response}
            why = counted(self.dropped)
            raise InputError(
                "rows_all_empty", path=str(path), dropped=self.rows, rows=self.rows, reasons=why, **columns
            )

    def to_json(self) -> dict[str, Any]:
        """The counts as plain values; `scripts` are shares of all letters, largest first."""
        counts: Counter[str] = Counter()
        for (_, script), count in zip(_RANGES, self._scripts.tolist(), strict=True):
            if script and count:
                counts[script] += count
        letters = sum(counts.values())
        return {
            "rows": self.rows,
            "dropped": dict(self.dropped),
            "noticed": dict(self.noticed),
            **{f"first_{what}": first for what, first in self._first.items()},
            **{f"{what}_rows": count for what, count in self._odd.items()},
            "scripts": {script: round(count / letters, 4) for script, count in counts.most_common()},
        }


def row_hashes(pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row's content: equal rows have equal hashes, and different rows almost never do."""
    digests = (
        hashlib.blake2b(f"{len(prompt)}\n{prompt}{label}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for prompt, label in pairs
    )
    return np.frombuffer(b"".join(digests), dtype=np.uint64)
