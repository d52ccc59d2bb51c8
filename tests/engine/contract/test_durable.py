"""Files written whole, and JSON read from whatever is there."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.durable import free_bytes, read_json, write_json
from tests.engine.contract.conftest import TEXTS, ascii_start

Start = Callable[..., Any]
Patch = pytest.MonkeyPatch


SWAPPING = """
path = Path(sys.argv[1])
gate()
for number in range(1, 101):
    durable.write_json(path, {"number": number, "text": str(number) * 100_000})
"""


def test_a_reader_finds_the_old_file_or_the_new_one(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"number": 0, "text": ""})
    writer = start(SWAPPING, path)
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.close()

    seen: set[int] = set()
    while writer.poll() is None or not seen:
        value = json.loads(path.read_text(encoding="utf-8"))
        assert value["text"] == str(value["number"]) * 100_000 or value["number"] == 0
        seen.add(value["number"])

    assert writer.returncode == 0
    assert len(seen) > 1
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: Patch) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"number": 1})

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("engine.contract.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"number": 2})

    assert read_json(path) == {"number": 1}


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_read_back(text: str, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"text": text, text: 1})

    assert read_json(tmp_path / "a.json") == {"text": text, text: 1}


@settings(deadline=None, max_examples=60)
@given(content=st.binary())
def test_any_bytes_can_be_read_as_json(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(content)

    assert read_json(path) == {}


@pytest.mark.parametrize("content", [b"[1]", b"null", b'"a"', b"1" * 5000, b'{"a":' * 100_000], ids=ascii_start)
def test_json_that_is_not_an_object_reads_as_an_empty_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)

    assert read_json(tmp_path / "a.json") == {}


def test_a_missing_file_reads_as_an_empty_object(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") == {}
    assert read_json(tmp_path) == {}


def test_free_space_is_known_before_the_folder_exists(tmp_path: Path, monkeypatch: Patch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return type("Usage", (), {"free": 12345})

    monkeypatch.setattr("engine.contract.durable.shutil.disk_usage", usage)
    monkeypatch.chdir(tmp_path)

    assert free_bytes(Path("a/b/c")) == 12345
    assert asked == [tmp_path]
