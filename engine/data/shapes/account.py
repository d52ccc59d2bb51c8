"""The account of an import: every record read is used, or refused under a reason with its first places."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

PLACES, FILES = 3, 20  # kept of each reason: of records, and of files
DETAIL = 200  # characters of a name out of the file
COLUMNS = 50  # of a file that are named as not used
DETAILS = 20  # of one code that are counted apart; further ones are counted under the code alone


class RefusedError(Exception):
    """A record that cannot be used: a code of `engine.contract.reasons`, and what of the file belongs to it."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail[:DETAIL]
        super().__init__(f"{code}:{self.detail}" if self.detail else code)


class ImportNotice(NamedTuple):
    """Something that costs no record but should be known; comes in the place of a record."""

    code: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.code}:{self.detail}" if self.detail else self.code


@dataclass
class Count:
    """How often something came, and where first."""

    count: int = 0
    places: list[str] = field(default_factory=list)


class Reasons(dict[str, Count]):
    """What was refused, or noticed, by reason; of each the first places are kept, as many as `places` says."""

    def __init__(self, places: int = PLACES) -> None:
        super().__init__()
        self._places = places

    def add(self, why: RefusedError | ImportNotice, place: str) -> None:
        """Counts one more."""
        reason = str(why)
        if reason not in self and why.detail and self._details(why.code) >= DETAILS:
            reason = why.code
        entry = self.setdefault(reason, Count())
        entry.count += 1
        if len(entry.places) < self._places:
            entry.places.append(place)

    def _details(self, code: str) -> int:
        return sum(reason.startswith(f"{code}:") for reason in self)

    def counts(self) -> dict[str, int]:
        """Reasons and their counts."""
        return {reason: entry.count for reason, entry in self.items()}

    def to_json(self) -> dict[str, Any]:
        """Codes as {code: {count, first, details: [{detail, count, places}]}}."""
        codes: dict[str, Any] = {}
        for reason, entry in self.items():
            code, _, detail = reason.partition(":")
            told = codes.setdefault(code, {"count": 0, "first": entry.places[0], "details": []})
            told["count"] += entry.count
            told["details"].append({"detail": detail, "count": entry.count, "places": entry.places})
        return codes


@dataclass
class FileAccount:
    """What one file turned out to be, and what came of its records."""

    path: str
    format: str = ""
    encoding: str = ""
    compression: str = ""
    columns: list[str] = field(default_factory=list)  # of a table, in their order
    records: int = 0
    used: int = 0
    made: int = 0  # rows
    refused: int = 0
    unused: list[str] = field(default_factory=list)  # columns with something in them that no shape reads

    def leave_out(self, columns: Iterable[str]) -> None:
        """Names columns that are not used, once."""
        for name in columns:
            if name[:DETAIL] not in self.unused and len(self.unused) < COLUMNS:
                self.unused.append(name[:DETAIL])


@dataclass
class Account:
    """What came of all files: records = used + refused, made = kept + repeated (rows)."""

    files: list[FileAccount] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    refused: Reasons = field(default_factory=Reasons)
    noticed: Reasons = field(default_factory=Reasons)
    passed_over: Reasons = field(default_factory=partial(Reasons, FILES))  # files of a folder that are not rows
    repeated: int = 0
    conversations: int = 0
    with_history: int = 0  # rows whose question has turns before it
    preview: list[list[str]] = field(default_factory=list)

    def use(self, file: FileAccount, shape: str, rows: int) -> None:
        """Counts a record that made rows."""
        file.records += 1
        file.used += 1
        file.made += rows
        self.shapes[shape] += 1

    def refuse(self, file: FileAccount, why: RefusedError, place: str) -> None:
        """Counts a record that cannot be used."""
        file.records += 1
        file.refused += 1
        self.refused.add(why, place)

    @property
    def records(self) -> int:
        """Records read."""
        return sum(file.records for file in self.files)

    @property
    def made(self) -> int:
        """Rows made of them, repeated ones among them."""
        return sum(file.made for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The account as plain values."""
        return {
            "records": self.records,
            "used": sum(file.used for file in self.files),
            "made": self.made,
            "repeated": self.repeated,
            "kept": self.made - self.repeated,
            "conversations": self.conversations,
            "with_history": self.with_history,
            "refused": self.refused.to_json(),
            "noticed": self.noticed.to_json(),
            "shapes": dict(self.shapes),
            "passed_over": self.passed_over.to_json(),
            "files": [asdict(file) for file in self.files],
            "preview": self.preview,
        }
