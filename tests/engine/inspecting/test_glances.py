"""First sight of files of rows and of models' folders."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.contract.requests import DataGlanceRequest, ModelGlanceRequest
from engine.inspecting import glances
from engine.inspecting.glances import data_glance, model_glance
from tests.engine.models.causal import small

TALK = [{"role": "user", "content": "你好吗？"}, {"role": "assistant", "content": "我很好。"}]


def written(path: Path, records: list[object]) -> Path:
    path.write_text("".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in records), encoding="utf-8")
    return path


def test_conversations_are_counted_with_their_script(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"messages": TALK}] * 300)
    found = data_glance(DataGlanceRequest(str(path)))
    assert (found.format, found.rows, found.counted) == ("jsonl", 300, True)
    assert (found.form, found.script, found.ready) == ("messages", "Han", False)


def test_a_long_file_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glances, "COUNTED", 2000)
    path = written(tmp_path / "a.jsonl", [{"question": "What is this? " * 20, "answer": "A test."}] * 20_000)
    found = data_glance(DataGlanceRequest(str(path)))
    assert not found.counted
    assert 10_000 < found.rows <= 40_000
    assert found.form == "pairs"


def test_columns_that_no_shape_knows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Frage,Antwort,Nr\nWas?,Das.,1\n")
    found = data_glance(DataGlanceRequest(str(path)))
    assert (found.shape, found.columns, found.rows) == ("", ("Frage", "Antwort", "Nr"), 1)


@pytest.mark.parametrize(("columns", "ready"), [(["prompt", "response"], True), (["a", "b"], False)])
def test_a_parquet_file_is_ready_if_a_run_reads_it(tmp_path: Path, columns: list[str], ready: bool) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: ["x", "y"] for name in columns}), path)
    found = data_glance(DataGlanceRequest(str(path)))
    assert (found.ready, found.rows, found.columns) == (ready, 2, tuple(columns))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"PAR1" + bytes(50)])
def test_what_holds_no_rows_is_an_error_about_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        data_glance(DataGlanceRequest(str(path)))
    assert str(path) in error.value.message.what()


def test_a_model_is_described_by_its_headers(tmp_path: Path) -> None:
    folder = small.saved(tmp_path / "small", "llama")
    found = model_glance(ModelGlanceRequest(str(folder)))
    assert found.kind == "causal"
    assert found.parameters > 0
    assert found.family


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError):
        model_glance(ModelGlanceRequest(str(tmp_path)))
