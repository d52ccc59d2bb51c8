"""What cannot be trained is refused: a person finds out at once, and nothing is left behind."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from engine.contract import events
from engine.contract.events import Record
from engine.contract.locks import FolderLock, is_locked
from tests.engine.conftest import everything_in
from tests.engine.models.causal.small import chatty

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner, TwoRanks


def broken(name: str, folder: Path, source: Path) -> str:
    """The path of something that is there and cannot be used."""
    path = folder / name
    if name == "text.parquet":
        path.write_text("hello")
    elif name == "numbers.parquet":
        pq.write_table(pa.table({"prompt": ["a"], "response": [1]}), path)
    elif name == "empty.parquet":
        pq.write_table(pa.table({"prompt": [""], "response": ["a"]}), path)
    elif name == "folder":
        path.mkdir()
    elif name == "garbage.bin":
        path.write_bytes(b"garbage")
    elif name == "poor":
        shutil.copytree(source, path)
        state = load_file(path / "model.safetensors")
        state.popitem()
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)


REFUSALS = [
    ("train_file", "missing", "file_missing"),
    ("train_file", "text.parquet", "not_parquet"),
    ("train_file", "numbers.parquet", "column_not_text"),
    ("train_file", "empty.parquet", "rows_all_empty"),
    ("validation_file", "missing", "file_missing"),
    ("validation_file", "empty.parquet", "rows_all_empty"),
    ("tokenizer", "missing", "file_missing"),
    ("tokenizer", "folder", "tokenizer_bad"),
    ("pretrained_model", "missing", "file_missing"),
    ("pretrained_model", "folder", "model_bad"),
    ("pretrained_model", "garbage.bin", "model_bad"),
    ("pretrained_model", "poor", "model_keys"),
]


def assert_refused(run: "Outcome", code: str) -> None:
    assert (run.code, run.ended.exit_code, run.ended.reason) == (2, 2, "refused")
    assert run.ended.message.code == code
    assert len(run.all(events.RunEnded)) == 1


@pytest.mark.parametrize(("setting", "name", "code"), REFUSALS)
def test_an_unusable_input_is_refused_and_nothing_is_written(
    run_here: "Runner", tmp_path: Path, tiny_t5: Path, setting: str, name: str, code: str
) -> None:
    path = broken(name, tmp_path, tiny_t5)
    before = everything_in(tmp_path)
    where = {"output_dir": str(tmp_path / "a" / "b"), "token_store": str(tmp_path / "store")}
    run = run_here(**{**where, setting: path})
    assert_refused(run, code)
    assert path in run.ended.message.text()
    assert not (tmp_path / "a").exists()
    # Rows that were fit for use stay tokenized: the store is not part of a run.
    assert [path for path in everything_in(tmp_path) if "store" not in str(path)] == before


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"prompt_column": "question"}, "column_missing"),
        ({"freeze": "nowhere"}, "freeze_unknown"),
        ({"freeze": "encoder,decoder,embeddings"}, "nothing_trainable"),
        ({"processes": 2}, "world_promised"),
    ],
)
def test_an_unusable_setting_is_refused_and_nothing_is_written(
    run_here: "Runner", tmp_path: Path, settings: dict[str, Any], code: str
) -> None:
    run = run_here(output_dir=str(tmp_path / "a" / "b"), **settings)
    assert_refused(run, code)
    assert not (tmp_path / "a").exists()


def test_a_model_that_skips_layers_is_not_divided(run_here: "Runner", tmp_path: Path) -> None:
    model = chatty(tmp_path / "opt", "opt", layerdrop=0.2, ffn_dim=24, word_embed_proj_dim=16)
    run = run_here(**model, shard="full")
    assert_refused(run, "shard_layerdrop")
    assert "layerdrop = 0.2" in run.ended.message.text()
    assert "--dropout_rate 0" in run.ended.message.text()


def test_too_little_space_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path
) -> None:
    monkeypatch.setattr("engine.training.setup.free_bytes", lambda _: 1000)
    run = run_here(output_dir=str(tmp_path / "a"))
    assert_refused(run, "space_short")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("where", ["/dev/null/output", "/proc/output"])
def test_an_output_folder_that_cannot_be_written_is_refused(run_here: "Runner", where: str) -> None:
    run = run_here(output_dir=where)
    assert_refused(run, "folder_unwritable")
    assert where in run.ended.message.text()


def test_a_refusal_leaves_an_existing_folder(run_here: "Runner", tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "mine.txt").write_text("precious")
    assert_refused(run_here(folder=tmp_path, freeze="nowhere"), "freeze_unknown")
    assert (tmp_path / "output" / "mine.txt").read_text() == "precious"


def test_two_ranks_refuse_together(two_ranks: "TwoRanks") -> None:
    assert [found["refused"] for found in two_ranks.found] == [2, 2]
    assert_refused(two_ranks.refused, "file_missing")
    assert not two_ranks.refused.output.path.exists()


def test_an_error_found_by_one_rank_is_refused_by_both(two_ranks: "TwoRanks") -> None:
    """Only one rank writes the token store; the other must not wait for it forever."""
    assert [found["failed"] for found in two_ranks.found] == [2, 2]
    assert_refused(two_ranks.failed, "folder_unwritable")
    assert not two_ranks.failed.output.path.exists()


def test_a_folder_in_use_is_refused_with_its_holder(run_here: "Runner", tmp_path: Path) -> None:
    lock = FolderLock.acquire(tmp_path / "output", "sft-7", tmp_path / "log-7")
    before = everything_in(tmp_path)
    run = run_here(folder=tmp_path)
    assert (run.code, run.ended.reason, run.ended.message.code) == (3, "busy", "busy")
    assert "sft-7" in run.ended.message.text()
    assert str(os.getpid()) in run.ended.message.text()
    assert [path for path in everything_in(tmp_path) if "log" not in str(path)] == before
    lock.abandon()
    assert run_here(folder=tmp_path, epochs=1).code == 0


def test_a_run_holds_its_folder(run_here: "Runner", tmp_path: Path) -> None:
    held: list[bool] = []

    def listener(record: Record) -> None:
        if not isinstance(record.event, events.Heartbeat):  # they begin before
            held.append(is_locked(tmp_path / "output"))

    run_here(folder=tmp_path, epochs=1, listener=listener)
    assert len(held) > 10
    assert all(held)
