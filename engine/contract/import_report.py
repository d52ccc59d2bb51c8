"""What an import reports: every record is used, or refused with a reason; every row is written, or repeats another."""

from dataclasses import dataclass, field
from typing import Annotated

from engine.contract.bounds import Count, Longest, PathText
from engine.contract.glances import Form
from engine.contract.requests import MOST_FILES

MOST_COLUMNS = 1 << 20  # of one file, and characters of their names
PARTS = ("train", "valid", "test")  # the files an import writes
Columns = Annotated[tuple[Annotated[str, Longest(MOST_COLUMNS)], ...], Longest(MOST_COLUMNS)]


@dataclass(frozen=True)
class ReasonDetail:
    """How often a reason occurred with one detail from the file, and where first."""

    detail: str
    count: Count
    places: tuple[str, ...]


@dataclass(frozen=True)
class ReasonCount:
    """How often a reason (`engine.contract.reasons`) occurred, where first, and with which details."""

    count: Count
    first: str
    details: tuple[ReasonDetail, ...]


Reasons = dict[str, ReasonCount]  # by code


@dataclass(frozen=True)
class FileReport:
    """The format and columns found in one file, and what became of its records."""

    path: str
    format: str = ""
    encoding: str = ""
    compression: str = ""
    columns: Columns = ()  # of a table, in their order
    records: Count = 0
    used: Count = 0
    made: Count = 0  # rows
    refused: Count = 0
    unused: tuple[str, ...] = ()  # columns with content that no shape reads


@dataclass(frozen=True)
class ImportReport:
    """The result over all files: records = used + refused, made = kept + repeated (rows).

    Rows are pairs, one for each answer, or conversations.
    """

    form: Form = "pairs"
    records: Count = 0
    used: Count = 0
    made: Count = 0
    repeated: Count = 0
    kept: Count = 0
    conversations: Count = 0
    answers: Count = 0  # of these rows, to be learned
    with_history: Count = 0  # answers whose question has earlier turns
    refused: Reasons = field(default_factory=dict)
    noticed: Reasons = field(default_factory=dict)
    shapes: dict[str, Count] = field(default_factory=dict)  # records by shape
    passed_over: Reasons = field(default_factory=dict)  # files of a folder that contain no rows
    files: Annotated[tuple[FileReport, ...], Longest(MOST_FILES)] = ()
    preview: tuple[tuple[str, ...], ...] = ()  # the first rows: prompt and response, or turns with their roles
    history: Count | None = None  # as requested
    spared: PathText = ""  # a test file that was left as it is
    unfilled: dict[str, PathText] = field(default_factory=dict)  # by part: files that got no rows, and were not written
    rows: Count = 0  # drawn, of those kept
    train_rows: Count = 0
    valid_rows: Count = 0
    test_rows: Count = 0
    divided: Count = 0  # groups of rows that had to be divided between files
    divided_largest: Count = 0  # rows of the largest
    train: PathText = ""  # the files written
    valid: PathText = ""
    test: PathText = ""

    def file(self, part: str) -> str:
        """The file that was written for a part; empty if none was."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[part]

    def rows_of(self, part: str) -> int:
        """The rows in that file."""
        return {"train": self.train_rows, "valid": self.valid_rows, "test": self.test_rows}[part]


@dataclass(frozen=True)
class TokenizerReport:
    """A trained tokenizer: its tokens, the texts it was trained on, and its folder."""

    tokens: Count
    texts: Count
    output: PathText


@dataclass(frozen=True)
class ColumnsReport:
    """The columns of files from which prompt and response have to be named, each with a sample value."""

    columns: dict[str, str] = field(default_factory=dict)
