"""The account of an import: every record read is either used, or refused with a reason and its first places."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from engine.contract.glances import Form
from engine.contract.import_report import FileReport, ImportReport, ReasonCount, ReasonDetail

PLACES, FILES = 3, 20  # kept for each reason: of records, and of files
PREVIEWED, TURNS_PREVIEWED = 200, 6  # characters of a text, and turns of a conversation
DETAIL = 200  # characters of a name from the file
COLUMNS = 50  # of a file that are listed as unused
DETAILS = 20  # of one code that are counted separately; further ones are counted under the code alone


class RefusedError(Exception):
    """A record that cannot be used: a code of `engine.contract.reasons`, and the detail from the file."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail[:DETAIL]
        super().__init__(f"{code}:{self.detail}" if self.detail else code)


class ImportNotice(NamedTuple):
    """Something worth knowing that does not cost a record; comes in place of a record."""

    code: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.code}:{self.detail}" if self.detail else self.code


@dataclass
class Count:
    """How often something occurred, and where first."""

    count: int = 0
    places: list[str] = field(default_factory=list)


class Reasons(dict[str, Count]):
    """Refusals or notices by reason, each with its first places, at most `places` of them."""

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

    def report(self) -> dict[str, ReasonCount]:
        """The reasons by code."""
        details: dict[str, list[ReasonDetail]] = {}
        for reason, entry in self.items():
            code, _, detail = reason.partition(":")
            details.setdefault(code, []).append(ReasonDetail(detail, entry.count, tuple(entry.places)))
        return {
            code: ReasonCount(sum(one.count for one in found), found[0].places[0], tuple(found))
            for code, found in details.items()
        }


@dataclass
class FileAccount:
    """The format and columns found in one file, and what became of its records."""

    path: str
    format: str = ""
    encoding: str = ""
    compression: str = ""
    columns: list[str] = field(default_factory=list)  # of a table, in their order
    records: int = 0
    used: int = 0
    made: int = 0  # rows
    refused: int = 0
    unused: list[str] = field(default_factory=list)  # columns with content that no shape reads

    def report(self) -> FileReport:
        """The account as it stands."""
        values = vars(self) | {"columns": tuple(self.columns), "unused": tuple(self.unused)}
        return FileReport(**values)

    def leave_out(self, columns: Iterable[str]) -> None:
        """Records columns as unused, each once."""
        for name in columns:
            if name[:DETAIL] not in self.unused and len(self.unused) < COLUMNS:
                self.unused.append(name[:DETAIL])


@dataclass
class Account:
    """The result over all files: records = used + refused, made = kept + repeated (rows).

    `whole` says that some records are conversations. A `preview` is a row's turns, role and text of each.
    """

    files: list[FileAccount] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    refused: Reasons = field(default_factory=Reasons)
    noticed: Reasons = field(default_factory=Reasons)
    passed_over: Reasons = field(default_factory=partial(Reasons, FILES))  # files of a folder that contain no rows
    repeated: int = 0
    conversations: int = 0
    answers: int = 0  # of the rows, to be learned
    with_history: int = 0  # answers whose question has earlier turns
    whole: bool = False
    preview: list[list[tuple[str, str]]] = field(default_factory=list)

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
        """Rows made from them, including repeated ones."""
        return sum(file.made for file in self.files)

    def report(self, form: Form) -> ImportReport:
        """The account as it stands, of rows in this form; what was written is not part of it."""
        return ImportReport(
            form=form,
            records=self.records,
            used=sum(file.used for file in self.files),
            made=self.made,
            repeated=self.repeated,
            kept=self.made - self.repeated,
            conversations=self.conversations,
            answers=self.answers,
            with_history=self.with_history,
            refused=self.refused.report(),
            noticed=self.noticed.report(),
            shapes=dict(self.shapes),
            passed_over=self.passed_over.report(),
            files=tuple(file.report() for file in self.files),
            preview=tuple(_preview(row, form) for row in self.preview),
        )


def _preview(row: list[tuple[str, str]], form: Form) -> tuple[str, ...]:
    """The texts of a pair, or the turns of a conversation, each after its role."""
    shown = ((role, text[:PREVIEWED]) for role, text in row[:TURNS_PREVIEWED])
    return tuple(text if form == "pairs" else f"{role}: {text}" for role, text in shown)
