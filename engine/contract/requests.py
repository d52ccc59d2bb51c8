"""What the app asks of the engine's short-lived processes."""

import json
import os
from dataclasses import dataclass, field
from typing import Annotated

from engine.contract.bounds import Between, Count, Longest, Made, PathText, Positive, as_json, read_as

MOST_FILES = 1 << 20
LONGEST_PROMPT = 1 << 24  # characters
Files = Annotated[tuple[PathText, ...], Longest(MOST_FILES)]
Share = Annotated[float, Between(0, 1)]


@dataclass(frozen=True)
class ImportRequest:
    """What to import and where to; without `train` nothing is written."""

    files: Files = ()
    train: PathText = ""
    valid: PathText = ""
    test: PathText = ""
    prompt_column: str = ""  # if none is named, the shape of each record decides
    response_column: str = ""
    encoding: str = ""  # of all text files; detected if empty
    shown: dict[str, str] = field(default_factory=dict)  # names shown for files, if they differ from their paths
    history: Count | None = None  # earlier turns in an answer's prompt, at most; None: all
    valid_ratio: Share = 0.1
    test_ratio: Share = 0.0
    spare_test: bool = False  # a test file not written by an import stays as it is, and no rows are held out for it
    sample: Count = 0  # rows; 0: all
    seed: Count = 23333
    overwrite: bool = False


@dataclass(frozen=True)
class TokenizerRequest:
    """The Parquet files to train a tokenizer on, their columns, its folder, and how many tokens it may have."""

    files: Files
    output: PathText
    vocabulary: Positive
    prompt_column: str
    response_column: str


@dataclass(frozen=True)
class ReplyRequest:
    """The prompts that the model in a folder is to answer, greedily."""

    model: PathText
    prompts: tuple[Annotated[str, Longest(LONGEST_PROMPT)], ...]
    max_new_tokens: Positive


Replies = list[Annotated[str, Longest(LONGEST_PROMPT)]]


def request_line(request: object, **more: object) -> bytes:
    """A request as a line of JSON, with the pid of this process: the one that answers ends with it."""
    return json.dumps({**more, "asker": os.getpid(), **as_json(request)}).encode() + b"\n"


def read_request(kind: type[Made], line: str | bytes) -> tuple[int, Made]:
    """The pid of the process that asks, and its request; raises TypeError or ValueError if it is not of this kind."""
    asked = json.loads(line)
    return read_as(_Asker, asked).asker, read_as(kind, asked)


@dataclass(frozen=True)
class _Asker:
    asker: Positive
