"""What a person does at the screen, with real files and a real training."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.durable import write_json
from engine.contract.outputdir import OutputDir
from engine.contract.owner import new_id
from engine.contract.presets import preset
from engine.contract.rundir import RunDir
from sft_tui import runs
from tests.processes import end_runs, options, until
from tests.terminal import terminal

CPU: dict[str, Any] = {"ACCELERATE_USE_CPU": "true"}


LONG = 180.0  # seconds that a check, a start or a training may take on a busy machine


def test_a_run_is_watched_stopped_resumed_and_left(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    long = {**tiny_settings, "epochs": 3000, "save_steps": 100_000, "bleu_rows": 1}
    run_dir = RunDir(tmp_path / "logs" / "sft-small-1")
    try:
        with terminal(tmp_path, "run", "sft-small", *options(long), **CPU) as app:
            app.sees("tok/s", "Loss", "rank 0", limit=LONG)  # a step is done
            app.press("s")
            app.sees("Save sft-small-1 and stop it? y/n", limit=LONG)
            app.press("n")
            assert runs.read_run(run_dir).alive
            app.press("s")
            app.sees("y/n", limit=LONG)
            app.press("y")
            app.sees("! stopped", "r resume", limit=LONG)  # no longer that it was asked to stop
            app.until(lambda: "\a\x1b]9;sft-tui · sft-small-1: stopped\x1b\\".encode() in app.raw)
            first = OutputDir(tmp_path / "model_save" / "sft_small").checkpoint_steps()[0]
            app.press("r")
            app.sees("running", limit=LONG)
            app.press("q")
            assert app.wait() == 0
        assert runs.read_run(run_dir).alive, "leaving the screen must leave the run alone"
        until(lambda: (runs.read_run(run_dir).state.step or first) != first)
        run_dir.request_stop()
        until(lambda: not runs.read_run(run_dir).alive)
        state = runs.read_run(run_dir).state
        assert state.attempt == 2
        assert state.step is not None
        assert state.step.step > first
    finally:
        end_runs(tmp_path)


def test_an_edited_setting_shows_its_effect(tmp_path: Path) -> None:
    with terminal(tmp_path) as app:
        app.sees("1 Start the demo", limit=LONG)
        app.press("n")
        app.sees("Ready? demo", limit=LONG)
        app.press("\x1b[A" * 7)
        app.sees("effective batch 8 = 1 × 8 × 1", limit=LONG)
        app.press("e")
        app.sees("Settings of sft-small", limit=LONG)
        app.press("/batch_size")
        app.sees("rows of a step for each process", limit=LONG)
        app.press("\r")
        app.sees("enter accepts", limit=LONG)
        app.press("\x7f0\r")
        app.sees("it must be ≥ 1 rows", limit=LONG)  # the text stays to be corrected
        app.press("\x7f4\r")
        app.sees("(was 1)", "32 = 4", limit=LONG)
        app.press("r")  # the preset's value again
        app.sees("8 = 1", limit=LONG)
        app.press("q")
        assert app.wait() == 0


def test_a_key_fixes_a_problem(tmp_path: Path) -> None:
    rows = {"prompt": [f"问题 {n}" for n in range(60)], "response": [f"回答 {n}" for n in range(60)]}
    (tmp_path / "mine.jsonl").write_text(
        "\n".join(json.dumps({"prompt": p, "response": r}) for p, r in zip(*rows.values(), strict=True))
    )
    with terminal(tmp_path) as app:
        app.sees("1 Import mine.jsonl", limit=LONG)
        app.press("n")
        app.sees("sft-tui data import mine.jsonl", limit=LONG)
        app.press("f")
        app.sees("Import mine.jsonl into data/sft_train_small_train.parquet", limit=LONG)
        app.press("1")
        until(lambda: (tmp_path / "data" / "sft_train_small_valid.parquet").is_file())
        app.sees("51 readable rows", limit=LONG)
        app.press("q")
    table = pq.read_table(tmp_path / "data" / "sft_train_small_train.parquet")
    assert isinstance(table, pa.Table)
    assert len(table) == 51


def test_enter_in_an_empty_folder_starts_a_demo(tmp_path: Path) -> None:
    nowhere: dict[str, Any] = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "XDG_CACHE_HOME": str(tmp_path)}
    try:
        with terminal(tmp_path, **CPU, **nowhere) as app:
            app.sees("Nothing here yet", "1 Start the demo", limit=LONG)
            app.press("\r")
            app.sees("demo-t5-pretrain-1", limit=LONG)  # the demo that needs no model, since it cannot be had
            app.press("q")
            assert app.wait() == 0
        assert (tmp_path / "data" / "demo" / "train.parquet").is_file()
    finally:
        end_runs(tmp_path)


def test_presets_and_settings_can_be_clicked(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "1", "response": "2"}\n')  # not an empty machine
    with terminal(tmp_path, size=(120, 40)) as app:
        app.sees("1 Import mine.jsonl", limit=LONG)
        app.press("n")
        app.sees("Ready? sft-small", limit=LONG)
        app.click(6, 7)  # sft
        app.sees("120 = 20 × 6 × 1", limit=LONG)
        app.scroll_down(10, 32)  # the wheel over the settings
        app.sees("validation rows, Parquet", limit=LONG)
        app.click(10, 32)  # the fourth of their lines
        app.click(10, 32)
        app.sees("Settings of sft", "longer prompts and responses", limit=LONG)
        app.press("\r")
        app.sees("enter accepts", limit=LONG)
        app.press("\x03")
        app.until(lambda: "enter accepts" not in app.text, LONG)
        app.press("q")
        assert app.wait() == 0


def test_a_run_with_errors_is_not_started(tmp_path: Path) -> None:
    with terminal(tmp_path) as app:
        app.sees("1 Start the demo", limit=LONG)
        app.press("n")
        app.sees("Ready? demo", limit=LONG)
        app.press("\x1b[A" * 7)
        app.sees("✗ 4", limit=LONG)
        app.press("\r")
        app.sees("4 errors in the way", limit=LONG)
        app.press("q")
    assert not (tmp_path / "logs").exists()


def test_a_run_is_deleted_after_a_question_that_lists_it(logs: Path) -> None:
    run_dir, output = RunDir(logs / "sft-small-1"), OutputDir(logs.parent / "out")
    record = run_dir.read_record()
    record = dataclasses.replace(record, id=new_id(), config={**record.config, "output_dir": "out"})
    run_dir.write_record(record)
    output.best.mkdir(parents=True)
    (output.best / "model.safetensors").write_bytes(b"w" * 1000)
    write_json(output.owner_file, {"run": record.run, "id": record.id, "best": ["model.safetensors"]})
    with terminal(logs.parent, "attach", "sft-small-1") as app:
        app.sees("✓ finished", limit=LONG)
        app.press("l")
        app.sees("HOW IT ENDED", limit=LONG)
        app.press("d")
        app.sees("Delete out, ", "logs/sft-small-1", limit=LONG)
        app.press("n")
        app.settle(0.5)
        assert run_dir.path.is_dir()
        assert output.best.is_dir()
        app.press("d")
        app.sees("y/n", limit=LONG)
        app.press("y")
        app.sees("is deleted", limit=LONG)
        app.press("q")
    assert not run_dir.path.exists()
    assert not output.path.exists()


@pytest.mark.slow
def test_a_key_starts_a_rehearsal(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    usual = preset("sft-small").config
    for name in ("train_file", "validation_file", "tokenizer", "pretrained_model"):
        place = tmp_path / str(getattr(usual, name))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(tiny_settings[name])
    with terminal(tmp_path, **CPU) as app:
        app.sees("Next", limit=LONG)
        app.press("n")
        app.sees("Peak of", limit=LONG)
        app.press("h")
        app.sees("Running sft-tui rehearse sft-small", limit=LONG)
        app.sees("run         15 steps", limit=LONG)
        app.sees("Peak of", "in the rehearsal", limit=LONG)
        app.press("q")
        assert app.wait() == 0
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["rehearsals"]
