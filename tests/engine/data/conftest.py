"""Files as people have them, imported: the account and the rows; rows and their token stores."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from engine.contract.import_report import ImportReport
from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files
from engine.data.parquet_rows import RowSource
from engine.data.token_store import TokenStore, open_store

Pairs = list[tuple[str, str]]
Reader = Callable[..., tuple[ImportReport, Pairs]]
ROWS = [(f"问题{number}是什么？", f"答案是{number}。") for number in range(20)]
LINES = "".join(json.dumps({"prompt": p, "response": r}, ensure_ascii=False) + "\n" for p, r in ROWS)
TABLE = pa.table({"prompt": [p for p, _ in ROWS], "response": [r for _, r in ROWS]})


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Imports content under a name, or a path; the account and the rows."""

    def read_one(content: str | bytes | Path, name: str = "rows.csv", **how: Any) -> tuple[ImportReport, Pairs]:
        path = content if isinstance(content, Path) else tmp_path / name
        if not isinstance(content, Path):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        target = tmp_path / "train-file.parquet"
        request = ImportRequest((str(path),), train=str(target), valid="", overwrite=True, form="pairs", **how)
        found = import_files(request, lambda *_: None)
        assert found.records == found.used + sum(entry.count for entry in found.refused.values())
        rows = pq.read_table(target).to_pylist()
        return found, [(row["prompt"], row["response"]) for row in rows]

    return read_one


def places(found: ImportReport, kind: str = "refused") -> dict[str, list[str]]:
    """Reasons, `code:detail`, with the lines that they were first met in."""
    return {
        ":".join(filter(None, (code, part.detail))): [place.split(":")[1] for place in part.places]
        for code, entry in getattr(found, kind).items()
        for part in entry.details
    }


Importer = Callable[..., tuple[ImportReport, Pairs, Pairs]]


@pytest.fixture
def import_rows(tmp_path: Path) -> Importer:
    """Imports content under a file name; what came of it, and the rows of both files."""

    def import_one(content: str | bytes, name: str = "rows.jsonl", **how: Any) -> tuple[ImportReport, Pairs, Pairs]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        how = {"train": str(tmp_path / "train.parquet"), "valid_ratio": 0.0, "overwrite": True, "form": "pairs", **how}
        found = import_files(ImportRequest((str(path),), **how), lambda *_: None)
        return found, rows_of(how["train"]), rows_of(how.get("valid"))

    return import_one


def rows_of(path: str | None) -> Pairs:
    """The rows of a file that was written."""
    if not path or not Path(path).exists():
        return []
    table = pq.read_table(path)
    prompts, responses, *turns = (column.to_pylist() for column in table.columns)
    assert table.column_names == ["prompt", "response", "prompt_turns"][: 2 + len(turns)]
    begin = [[turn.start() for turn in re.finditer("^[QA]: ", prompt, re.MULTILINE)] for prompt in prompts]
    assert begin == ([places or [] for places in turns[0]] if turns else [[]] * len(prompts))
    return list(zip(prompts, responses, strict=True))


def lines(*records: Any) -> str:
    """JSON Lines."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def counts(found: ImportReport) -> dict[str, int]:
    """What was refused, by reason."""
    return {
        ":".join(filter(None, (code, part.detail))): part.count
        for code, entry in found.refused.items()
        for part in entry.details
    }


@pytest.fixture
def many() -> str:
    """Two hundred rows, of whose prompts each comes twice."""
    return lines(*({"prompt": f"问 {i % 100}", "response": f"答 {i}"} for i in range(200)))


def csv_text(*lines: str, delimiter: str = ",") -> str:
    return "".join(f"{line}\n" for line in (f"prompt{delimiter}response", *lines))


BOTH = [("一", "1"), ("二", "2")]


FIRST, SECOND = ('{"prompt": "一", "response": "1"}', '{"prompt": "二", "response": "2"}')
ONE = [("你好", "你好！")]
GOOD = lines({"prompt": "a", "response": "b"})
LONG_TALK = {
    "system": "简短",
    "conversations": [
        {"from": role, "value": text}
        for text, role in zip(["甲", "1", "乙", "2", "丙", "3"], ["human", "gpt"] * 3, strict=True)
    ],
}


LONGEST = 1000  # longer than any row here
TEXTS = ["你好", "今天天气怎么样？", "hello", "谢谢"]
REPLIES = ["你好，有什么可以帮你？", "是", "a small model.", "不客气。"]


def quiet(_done: int, _total: int) -> None:
    """Progress that nobody follows."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., RowSource]:
    """Writes columns to a Parquet file: `write(prompt=[...], response=[...])`."""

    def make(*, name: str = "rows", columns: tuple[str, str] = ("prompt", "response"), **table: Any) -> RowSource:
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(table), path)
        return RowSource(path, "train_file", *columns)

    return make


@pytest.fixture
def store_of(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Callable[..., TokenStore]:
    """Opens the store of a source."""

    def make(
        source: RowSource, max_len: int = LONGEST, tokenizer: Any = tokenizer, progress: Any = quiet
    ) -> TokenStore:
        return open_store(source, tokenizer, max_len, tmp_path / "store", progress)

    return make


def contents(store: TokenStore) -> list[tuple[list[int], list[int]]]:
    return [(store.prompt(index).tolist(), store.label(index).tolist()) for index in range(len(store))]


def directly(tokenizer: Any, prompts: list[str], responses: list[str]) -> list[tuple[list[int], list[int]]]:
    """Each text by itself, in plain Python."""
    pairs = zip(prompts, responses, strict=True)
    return [(tokenizer(prompt)["input_ids"], tokenizer(response)["input_ids"]) for prompt, response in pairs]


def bad_file(path: Path, kind: str) -> None:
    """Writes a file that cannot be used at `path`."""
    table = pa.table({"prompt": ["你好"] * 2000, "response": [str(i) * 9 for i in range(2000)]})
    if kind == "not_parquet":
        path.write_text("prompt,response\n你好,你好\n")
    elif kind == "empty_file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        pq.write_table(table, path, write_page_checksum=True)
        data = bytearray(path.read_bytes())
        if kind == "truncated":
            del data[len(data) // 2 :]
        else:
            data[len(data) // 3] ^= 1
        path.write_bytes(data)
