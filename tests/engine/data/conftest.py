"""Files as people have them, imported: the account and the rows."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data.importing.convert import ImportRequest, import_files

Pairs = list[tuple[str, str]]
Reader = Callable[..., tuple[dict[str, Any], Pairs]]
ROWS = [(f"问题{number}是什么？", f"答案是{number}。") for number in range(20)]
LINES = "".join(json.dumps({"prompt": p, "response": r}, ensure_ascii=False) + "\n" for p, r in ROWS)
TABLE = pa.table({"prompt": [p for p, _ in ROWS], "response": [r for _, r in ROWS]})


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Imports content under a name, or a path; the account and the rows."""

    def read_one(content: str | bytes | Path, name: str = "rows.csv", **how: Any) -> tuple[dict[str, Any], Pairs]:
        path = content if isinstance(content, Path) else tmp_path / name
        if not isinstance(content, Path):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        target = tmp_path / "train-file.parquet"
        found = import_files(
            ImportRequest([str(path)], train=str(target), valid="", overwrite=True, **how), lambda *_: None
        )
        assert found["records"] == found["used"] + sum(entry["count"] for entry in found["refused"].values())
        rows = pq.read_table(target).to_pylist()
        return found, [(row["prompt"], row["response"]) for row in rows]

    return read_one


def places(found: dict[str, Any], kind: str = "refused") -> dict[str, list[str]]:
    """Reasons, `code:detail`, with the lines that they were first met in."""
    return {
        ":".join(filter(None, (code, part["detail"]))): [place.split(":")[1] for place in part["places"]]
        for code, entry in found[kind].items()
        for part in entry["details"]
    }


Importer = Callable[..., tuple[dict[str, Any], Pairs, Pairs]]


@pytest.fixture
def import_rows(tmp_path: Path) -> Importer:
    """Imports content under a file name; what came of it, and the rows of both files."""

    def import_one(content: str | bytes, name: str = "rows.jsonl", **how: Any) -> tuple[dict[str, Any], Pairs, Pairs]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        how = {"train": str(tmp_path / "train.parquet"), "valid_ratio": 0.0, "overwrite": True, **how}
        found = import_files(ImportRequest([str(path)], **how), lambda *_: None)
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


def counts(found: dict[str, Any]) -> dict[str, int]:
    """What was refused, by reason."""
    return {
        ":".join(filter(None, (code, part["detail"]))): part["count"]
        for code, entry in found["refused"].items()
        for part in entry["details"]
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
