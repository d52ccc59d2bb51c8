"""Machines as people have them: other encodings of terminal, locale and file names, and little address space."""

import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.processes import SFT_TUI, Result, run

ROWS = '{"prompt": "你好", "response": "你好！"}\n{"prompt": "谢谢", "response": "不客气。🙂"}\n'
UNNAMED = os.fsdecode("测试".encode("gbk"))  # bytes that are not text in a UTF-8 locale
STREAMS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "gbk": {"PYTHONIOENCODING": "gbk"},
    "the C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
BLAME = ("made to do harm", "恶意构造", "Traceback")


def called(folder: Path, *words: str, **env: str) -> Result:
    """A command of the app, which must not blame the file for what the machine is like."""
    result = run(*SFT_TUI, *words, folder=folder, env=env)
    assert not [word for word in BLAME if word in result.out + result.err]
    return result


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open("rb") as file:
        return list(pq.read_table(pa.PythonFile(file)).to_pylist())


@pytest.mark.parametrize("stream", STREAMS)
def test_an_import_works_with_any_stdio_encoding(tmp_path: Path, stream: str) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    result = called(tmp_path, "data", "import", "rows.jsonl", "--train=t.parquet", "--valid=", **STREAMS[stream])
    assert result.code == 0
    assert [row["response"] for row in rows_of(tmp_path / "t.parquet")] == ["你好！", "不客气。🙂"]


@pytest.fixture
def gbk_locale(tmp_path: Path) -> dict[str, str]:
    """A locale whose file names and streams are GBK, as the environment of a command."""
    made = subprocess.run(
        ["localedef", "-i", "zh_CN", "-f", "GBK", str(tmp_path / "zh_CN.GBK")], capture_output=True, check=False
    )
    if not (tmp_path / "zh_CN.GBK").is_dir():
        pytest.skip(f"no GBK locale can be made here: {made.stderr!r}")
    return {"LOCPATH": str(tmp_path), "LC_ALL": "zh_CN.GBK"}


def test_a_gbk_locale_works_with_names_in_chinese(tmp_path: Path, gbk_locale: dict[str, str]) -> None:
    (tmp_path / f"{UNNAMED}.jsonl").write_text(ROWS, encoding="utf-8")
    words = ["data", "import", f"{UNNAMED}.jsonl", f"--train={UNNAMED}.parquet", "--valid="]
    assert called(tmp_path, *words, **gbk_locale).code == 0
    assert len(rows_of(tmp_path / f"{UNNAMED}.parquet")) == 2


def test_names_outside_the_locale_are_read_and_written(tmp_path: Path, tiny_tokenizer: Path) -> None:
    (tmp_path / f"{UNNAMED}.jsonl").write_text(ROWS, encoding="utf-8")
    imported = called(tmp_path, "data", "import", f"{UNNAMED}.jsonl", f"--train={UNNAMED}.parquet", "--valid=")
    assert imported.code == 0
    checked = called(tmp_path, "data", "check", f"{UNNAMED}.parquet", "--tokenizer", str(tiny_tokenizer))
    assert checked.code == 0
    assert "2 rows" in checked.out


def test_a_models_folder_with_an_undecodable_name_is_refused(tmp_path: Path) -> None:
    result = called(tmp_path, "run", "sft-small", "--no-ui", f"--output_dir={UNNAMED}")
    assert result.code == 2
    assert "are not UTF-8, which the libraries of models and tokenizers need" in result.err
    assert not (tmp_path / UNNAMED).exists()


def test_a_small_address_space_is_reported(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    limited = ("bash", "-c", 'ulimit -v 200000; exec "$@"', "-", *SFT_TUI)
    result = run(*limited, "data", "import", "rows.jsonl", "--preview", folder=tmp_path)
    assert result.code == 2
    assert "ran out of memory" in result.err
    assert "ulimit -v" in result.err
