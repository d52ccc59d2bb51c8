"""What a person does at the screen, with real files and a real training."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.rundir import RunDir
from sft_tui import runs
from tests.processes import end_runs, options, until
from tests.pty_app import Screen, screen

CPU: dict[str, Any] = {"ACCELERATE_USE_CPU": "true"}


def shown(raw: bytes) -> str:
    """What was written, without the escapes between: enough to look for a word that is drawn in one piece."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", raw.decode("utf-8", "replace"))


def sees(app: Screen, *words: str) -> None:
    """Waits for words that come after what was read so far."""
    begin = len(app.raw)
    app.read(lambda raw: all(word in shown(raw[begin:]) for word in words), 60.0)


def test_a_run_is_watched_stopped_resumed_and_left(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    long = {**tiny_settings, "epochs": 300, "save_steps": 100_000, "bleu_rows": 1}
    run_dir = RunDir(tmp_path / "logs" / "sft-small-1")
    try:
        with screen(tmp_path, "run", "sft-small", *options(long), **CPU) as app:
            sees(app, "tok/s", "Loss", "rank 0")  # a step is done
            app.press("s")
            sees(app, "Save sft-small-1 and stop it? y/n")
            app.press("n")
            assert runs.look(run_dir).alive
            app.press("s")
            sees(app, "y/n")
            app.press("y")
            sees(app, "! stopped", "r resume")  # no longer that it was asked to stop
            assert "\a\x1b]9;sft-tui · sft-small-1: stopped\x1b\\".encode() in app.raw
            first = OutputDir(tmp_path / "model_save" / "sft_small").checkpoint_steps()[0]
            app.press("r")
            sees(app, "running")
            app.press("q")
            assert app.wait() == 0
        assert runs.look(run_dir).alive, "leaving the screen must leave the run alone"
        until(lambda: (runs.look(run_dir).state.step or first) != first)
        run_dir.request_stop()
        until(lambda: not runs.look(run_dir).alive)
        state = runs.look(run_dir).state
        assert state.attempt == 2
        assert state.step is not None
        assert state.step.step > first
    finally:
        end_runs(tmp_path)


def test_an_edited_setting_shows_its_effect(tmp_path: Path) -> None:
    with screen(tmp_path) as app:
        sees(app, "Ready? demo")
        app.press("\x1b[A" * 6)
        sees(app, "effective batch 8 = 1 × 8 × 1")
        app.press("\t\t")
        app.press("\x1b[B" * 18)  # batch_size_per_gpu
        sees(app, "rows of a step for each process")
        app.press("e")
        sees(app, "batch_size_per_gpu =")
        app.press("\x7f0\r")
        sees(app, "it must be ≥ 1 rows", "batch_size_per_gpu = 0")  # which stays to be corrected
        app.press("\x7f4\r")
        sees(app, "(was 1)", "32 = 4")
        app.press("\x7f")  # the preset's value again
        sees(app, "8 = 1")
        app.press("q")
        assert app.wait() == 0


def test_a_key_fixes_a_problem(tmp_path: Path) -> None:
    rows = {"prompt": [f"问题 {n}" for n in range(60)], "response": [f"回答 {n}" for n in range(60)]}
    (tmp_path / "mine.jsonl").write_text(
        "\n".join(json.dumps({"prompt": p, "response": r}) for p, r in zip(*rows.values(), strict=True))
    )
    with screen(tmp_path) as app:
        sees(app, "sft-tui data import mine.jsonl")
        app.press("f")
        sees(app, "Import mine.jsonl into data/sft_train_small_train.parquet")
        app.press("1")
        until(lambda: (tmp_path / "data" / "sft_train_small_valid.parquet").is_file())
        sees(app, "51 readable rows")
        app.press("q")
    table = pq.read_table(tmp_path / "data" / "sft_train_small_train.parquet")
    assert isinstance(table, pa.Table)
    assert len(table) == 51


def test_enter_in_an_empty_folder_starts_the_demo(tmp_path: Path) -> None:
    try:
        with screen(tmp_path, **CPU) as app:
            sees(app, "New here?", "Ready? demo", "enter writes data and tokenizer", "ready")
            app.press("\r")
            sees(app, "demo-pretrain-1")
            app.press("q")
            assert app.wait() == 0
        assert (tmp_path / "data" / "demo" / "train.parquet").is_file()
    finally:
        end_runs(tmp_path)


def test_presets_and_settings_can_be_clicked(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "1", "response": "2"}\n')  # not an empty machine
    with screen(tmp_path, size=(120, 40)) as app:
        sees(app, "Ready? sft-small")
        app.press("\x1b[<0;6;7M\x1b[<0;6;7m")  # sft
        sees(app, "120 = 20 × 6 × 1")
        app.press("\x1b[<65;10;32M")  # the wheel over the settings
        sees(app, "validation rows, Parquet")
        app.press("\x1b[<0;10;34M\x1b[<0;10;34m" * 2)  # the sixth line of them, and again
        sees(app, "max_seq_len = 256")
        app.press("\x03")
        app.press("q")
        assert app.wait() == 0


def test_a_run_with_errors_is_not_started(tmp_path: Path) -> None:
    with screen(tmp_path) as app:
        sees(app, "Ready? demo")
        app.press("\x1b[A" * 6)
        sees(app, "✗ 4")
        app.press("\r")
        sees(app, "4 errors in the way")
        app.press("q")
    assert not (tmp_path / "logs").exists()


def test_a_run_is_deleted_after_a_question_that_lists_it(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    try:
        with screen(tmp_path, "run", "sft-small", *options({**tiny_settings, "epochs": 1}), **CPU) as app:
            sees(app, "✓ finished")
            app.press("l")
            sees(app, "HOW IT ENDED")
            app.press("d")
            sees(app, "Delete model_save/sft_small, ", "logs/sft-small-1")
            app.press("n")
            app.settle(0.5)
            assert (tmp_path / "logs" / "sft-small-1").is_dir()
            app.press("d")
            sees(app, "y/n")
            app.press("y")
            sees(app, "is deleted")
            app.press("q")
        assert not (tmp_path / "logs" / "sft-small-1").exists()
        assert not (tmp_path / "model_save" / "sft_small").exists()
    finally:
        end_runs(tmp_path)


def test_a_key_starts_a_rehearsal(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    usual = preset("sft-small").config
    for name in ("train_file", "validation_file", "tokenizer", "pretrained_model"):
        place = tmp_path / str(getattr(usual, name))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(tiny_settings[name])
    with screen(tmp_path, **CPU) as app:
        sees(app, "Peak of")
        app.press("h")
        sees(app, "Running sft-tui rehearse sft-small")
        sees(app, "run         15 steps")
        sees(app, "Peak of", "in the rehearsal")
        app.press("q")
        assert app.wait() == 0
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["rehearsals"]
