"""The facts on data files and their tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.contract.leave_out import LeaveOut, write_leave_out
from engine.data.row_digests import row_digests
from tests.engine.inspecting.asked import ROWS


def test_a_damaged_token_store_is_rebuilt_and_reported_once(
    inspected: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    sound = inspected()["train_file"]
    (damaged,) = (tmp_path / "store").glob("train-*/ids")
    damaged.write_bytes(bytes([damaged.read_bytes()[0] ^ 2]) + damaged.read_bytes()[1:])
    again = inspected()["train_file"]
    assert again["tokens"]["store"].pop("damage")["path"] == str(damaged)
    assert sound["tokens"]["store"].pop("damage") is None
    assert again == sound
    assert inspected()["train_file"]["tokens"]["store"]["damage"] is None


def test_rows_tokens_and_steps_are_counted(inspected: Callable[..., dict[str, Any]]) -> None:
    facts = inspected([*ROWS, (None, "x"), ("\x1b[2J", "y"), ROWS[0]], epochs=2, gradient_accumulation_steps=2)
    train = facts["train_file"]
    label = train["tokens"]["label"]
    assert (train["rows"], train["dropped"]) == (6, {"prompt_null": 1})
    assert train["control"] == {"rows": 1, "first": 4}
    assert train["tokens"]["repeated"] == {"rows": 1, "first": 5}
    assert label["longest"] >= label["p95"] >= label["median"] > 1
    assert sum(train["tokens"]["prompt"]["histogram"]["counts"]) == 5
    assert facts["overlap"] == {"rows": 1, "first": 0}
    assert (facts["steps"]["rows"], facts["steps"]["per_epoch"], facts["steps"]["total"]) == (5, 3, 6)


def test_cut_tokens_are_counted(inspected: Callable[..., dict[str, Any]]) -> None:
    whole, short = (inspected(**more)["train_file"]["tokens"] for more in ({}, {"max_seq_len": 3}))
    assert whole["cut_tokens"] == 0
    assert short["cut_rows"] == 3
    assert short["label_tokens"] == whole["label_tokens"]
    assert short["prompt"] == whole["prompt"]


def test_rows_are_read_without_a_tokenizer(inspected: Callable[..., dict[str, Any]]) -> None:
    facts = inspected(tokenizer="nowhere")
    assert facts["tokenizer"]["code"] == "file_missing"
    assert facts["train_file"]["rows"] == 3
    assert facts["train_file"]["tokens"] is None


def test_an_inspection_works_in_a_read_only_folder(inspected: Callable[..., dict[str, Any]]) -> None:
    assert inspected(token_store="/dev/null/store")["train_file"]["tokens"]["tokens"] > 0


def test_rows_that_are_left_out_are_counted_and_take_no_part_in_steps(
    inspected: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = [*ROWS, ("a", "b"), ("c", "d")]
    inspected(rows)
    train = tmp_path / "train.parquet"
    write_leave_out(train, LeaveOut().with_rows({**row_digests(train, [1, 3]), 4: "another"}))
    facts = inspected(rows, gradient_accumulation_steps=1)
    assert facts["train_file"]["left_out"] == {"rows": 2, "stale": {"rows": 1, "first": 4}}
    assert (facts["steps"]["rows"], facts["steps"]["per_epoch"]) == (3, 3)
    assert inspected(rows, leave_out="no")["steps"]["rows"] == 5
    write_leave_out(train, LeaveOut().with_rows(row_digests(train, range(5))))
    assert inspected(rows)["train_file"]["code"] == "rows_all_left_out"
