"""`check`, `data` and what `run` says before it starts, as commands."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.processes import SFT_TUI, options, run
from tests.sft_tui.cli.test_main import one_epoch


def test_a_check_of_an_empty_folder_lists_all_that_is_missing(tmp_path: Path) -> None:
    result = run(*SFT_TUI, "check", "sft-small", folder=tmp_path)
    assert result.code == 2
    signs = [line for line in result.out.splitlines() if line.startswith("✗")]
    assert [line.split("  ")[0] for line in signs] == [
        "✗ training file",
        "✗ validation file",
        "✗ tokenizer",
        "✗ pretrained model",
    ]
    assert "`sft-tui data import FILE`" in result.out
    assert "4 errors" in result.err
    assert {path.name for path in tmp_path.iterdir()} <= {".stdout", ".stderr"}


def test_check_json_is_one_object_and_exit_code_0_without_errors(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    result = run(*SFT_TUI, "check", "sft-small", "--json", *options(tiny_settings), folder=tmp_path)
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["errors"] == 0
    assert body["memory"]["total"] == sum(body["memory"]["items"].values()) > 300e6
    assert {finding["level"] for finding in body["findings"]} <= {"ok", "warning"}
    (of_training,) = [one for one in body["findings"] if (one["code"], one["subject"]) == ("lengths", "train_file")]
    for part, label in (("prompt", "prompts"), ("label", "responses")):
        lengths = body["lengths"]["train_file"][part]
        assert sum(lengths["histogram"]["counts"]) == pq.read_metadata(tiny_settings["train_file"]).num_rows
        assert f"≤ {lengths['longest']} (50 % ≤ {lengths['median']}, 95 % ≤ {lengths['p95']})" in of_training["what"]
        assert label in of_training["what"]
    assert body["memory"]["host"] == body["memory"]["total"]


def test_the_check_speaks_chinese(tmp_path: Path) -> None:
    result = run(*SFT_TUI, "check", "sft-small", folder=tmp_path, env={"LC_ALL": "zh_CN.UTF-8"})
    assert "✗ 训练文件" in result.out
    assert "没有它，运行无法开始。" in result.out


@pytest.mark.parametrize(("limit", "code"), [("100MB", 2), ("100 gb", 0), ("1.5TiB", 0), ("much", 2)])
def test_a_limit_of_memory_may_be_stated(tmp_path: Path, tiny_settings: dict[str, Any], limit: str, code: int) -> None:
    result = run(*SFT_TUI, "check", "sft-small", "--memory-limit", limit, *options(tiny_settings), folder=tmp_path)
    assert result.code == code
    assert ("Start it: sft-tui run sft-small --train_file" in result.err) == (code == 0)
    if limit == "100MB":
        assert "100.00 MB are available" in result.out
    if limit == "much":
        assert '"much" is not a valid size' in result.err


def test_a_check_for_several_machines_says_what_the_network_costs(
    tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    words = ("check", "sft-small", "--nodes", "2", "--gpus", "0", *options(tiny_settings))
    shown = run(*SFT_TUI, *words, folder=tmp_path)
    assert shown.code == 0, shown.out
    assert "of gradients a step" in shown.err
    assert "Start it: sft-tui prepare sft-small --nodes 2 --gpus 0 --train_file" in shown.err
    found = json.loads(run(*SFT_TUI, *words, "--json", folder=tmp_path).out)["network"]
    assert found["seconds"] == {"1": round(found["bytes"] * 8e-9, 3), "10": round(found["bytes"] * 8e-10, 3)}


def test_a_rehearsal_is_not_asked_of_other_machines(tmp_path: Path) -> None:
    refused = run(*SFT_TUI, "check", "sft-small", "--nodes", "2", "--rehearse", folder=tmp_path)
    assert (refused.code, "uses this machine only" in refused.err) == (2, True)


def test_a_run_with_an_error_is_refused_unless_forced(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    table = pq.read_table(tiny_settings["train_file"])
    foreign = table.set_column(0, "prompt", [["Привет мир"] * len(table)]).set_column(
        1, "response", [["нет"] * len(table)]
    )
    pq.write_table(foreign, tmp_path / "rows.parquet")
    settings = options(one_epoch(tiny_settings, train_file="rows.parquet", token_store="store"))
    refused = run(*SFT_TUI, "run", "sft-small", "--no-ui", *settings, folder=tmp_path)
    assert (refused.code, refused.out) == (2, "")
    assert "of the tokens are unknown" in refused.err
    assert "--force" in refused.err
    assert not (tmp_path / "logs").exists()
    forced = run(*SFT_TUI, "run", "sft-small", "--no-ui", "--force", *settings, folder=tmp_path)
    assert forced.code == 0, forced.err
    assert "Continuing anyway" in forced.err
