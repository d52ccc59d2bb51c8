"""`rehearse`, `check --rehearse`, and what `run` makes of what was found."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.contract import events
from engine.contract.config import RunConfig, override
from engine.contract.presets import preset
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from sft_tui import rehearsal
from sft_tui.rehearsal import FOLDER, KEPT, Rehearsal
from tests.processes import SFT_TUI, end_runs, options, run, until

FOUND = events.Rehearsed(
    micro_batch_tokens=64,
    micro_batch_tokens_asked=128,
    memory_limit=8_000_000_000,
    peak_memory=[700_000_000],
    peak_memory_found=700_000_000,
    gpu_memory=[0],
    steps_timed=8,
    seconds_step=[2.0, 1.0, 3.0],
    seconds_evaluation=[20.0, 10.0, 30.0],
    seconds_save=0.5,
    checkpoint_bytes=1_000_000,
)


def config_of(tiny_settings: dict[str, Any]) -> RunConfig:
    return override(preset("sft-small").config, tiny_settings)[0]


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".stdout", ".stderr"}


def test_the_time_of_a_run_is_that_of_its_steps_evaluations_and_saves() -> None:
    config = replace(preset("sft-small").config, epochs=3, save_steps=100)
    found = Rehearsal(0.0, FOUND)
    # 1,000 steps, 3 evaluations, 10 saves on the way and 3 at the ends of epochs.
    assert found.seconds(config, 1000) == (2066.5, 1036.5, 3096.5)


def test_a_result_of_one_gpu_is_not_used_on_another(
    tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tiny_settings)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    rehearsal.keep(tmp_path, config, 1, FOUND)
    assert rehearsal.recorded(tmp_path, config, 1) is not None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert rehearsal.recorded(tmp_path, config, 1) is None


def test_a_budget_above_the_one_asked_for_is_said_with_what_it_means() -> None:
    larger = replace(FOUND, micro_batch_tokens=4096, micro_batch_tokens_asked=512, gpu_memory=[9_000_000_000])
    text = "\n".join(rehearsal.lines(Rehearsal(0.0, larger), preset("sft-small").config, 1000, "en"))
    assert "4096 tokens fit, more than the 512 asked for" in text
    assert "too many" not in text


def test_a_result_holds_only_for_the_same_run(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    config = config_of(tiny_settings)
    rehearsal.keep(tmp_path, config, 1, FOUND)
    kept = rehearsal.recorded(tmp_path, config, 1)
    assert kept is not None
    assert kept.found == FOUND
    for same in ({"epochs": 9}, {"learn_rate": 1e-5}, {"output_dir": "elsewhere"}):
        assert rehearsal.recorded(tmp_path, replace(config, **same), 1) is not None
    for other in ({"max_seq_len": 16}, {"freeze": ""}, {"optimizer": "adamw"}, {"micro_batch_tokens": 256}):
        assert rehearsal.recorded(tmp_path, replace(config, **other), 1) is None
    assert rehearsal.recorded(tmp_path, config, 2) is None


def test_other_rows_need_another_rehearsal(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    rows = tmp_path / "rows.parquet"
    rows.write_bytes(Path(tiny_settings["train_file"]).read_bytes())
    config = replace(config_of(tiny_settings), train_file=str(rows))
    rehearsal.keep(tmp_path, config, 1, FOUND)
    rows.write_bytes(rows.read_bytes() + b" ")
    assert rehearsal.recorded(tmp_path, config, 1) is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"at": 1, "found": {"kind": "rehearsed"}}', '{"at": "x"}'])
def test_an_unreadable_result_is_ignored(tmp_path: Path, tiny_settings: dict[str, Any], content: str) -> None:
    config = config_of(tiny_settings)
    rehearsal.keep(tmp_path, config, 1, FOUND)
    (path,) = (tmp_path / KEPT).iterdir()
    path.write_text(content)
    assert rehearsal.recorded(tmp_path, config, 1) is None


def test_a_rehearsal_leaves_only_its_result(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    result = run(*SFT_TUI, "rehearse", "sft-small", *options(tiny_settings), folder=tmp_path)
    assert result.code == 0, result.err
    for what in ("memory      peak", "step        ", "checkpoint  ", "run         10 steps"):
        assert what in result.out
    assert left(tmp_path) == {"logs"}
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [KEPT]
    again = run(*SFT_TUI, "check", "sft-small", "--json", *options(tiny_settings), folder=tmp_path)
    codes = {finding["code"] for finding in json.loads(again.out)["findings"]}
    assert {"rehearsed", "memory_rehearsed"} <= codes


@pytest.mark.slow
def test_the_check_can_rehearse_on_two_processes(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    settings = {**tiny_settings, "num_processes": 2}
    env = {"ACCELERATE_USE_CPU": "true"}
    result = run(*SFT_TUI, "check", "sft-small", "--rehearse", "--json", *options(settings), folder=tmp_path, env=env)
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert len(body["rehearsed"]["peak_memory"]) == 2
    assert body["rehearsed"]["steps_total"] == body["steps"]["total"] == 6


def test_a_limit_that_cannot_be_kept_is_reported_with_a_fix(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    result = run(*SFT_TUI, "rehearse", "sft-small", "--memory-limit", "100MB", *options(tiny_settings), folder=tmp_path)
    assert result.code == 2
    assert "the limit is 0.10 GB" in result.err
    assert "--max_seq_len" in result.err
    assert left(tmp_path) <= {"logs"}


def test_a_run_takes_the_rehearsed_budget_unless_given_one(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    settings = {name: value for name, value in tiny_settings.items() if name != "micro_batch_tokens"}
    rehearsal.keep(tmp_path / "logs", config_of(settings), 1, replace(FOUND, micro_batch_tokens_asked=512))
    env = {"ACCELERATE_USE_CPU": "true"}
    result = run(*SFT_TUI, "run", "sft-small", *options({**settings, "epochs": 1}), folder=tmp_path, env=env)
    assert result.code == 0, result.err
    assert "micro_batch_tokens 512 -> 64" in result.err
    records = EventReader(RunDir(tmp_path / "logs" / "sft-small-1").events).poll()
    assert [r.event.micro_batch_tokens for r in records if isinstance(r.event, events.Plan)] == [64]
    config = config_of(settings)
    assert rehearsal.applied(tmp_path / "logs", config, 1, {})[0].micro_batch_tokens == 64
    assert rehearsal.applied(tmp_path / "logs", config, 1, {"micro_batch_tokens": 512})[0] == config


def test_a_run_that_would_fail_is_refused_before_a_rehearsal(tmp_path: Path) -> None:
    result = run(*SFT_TUI, "rehearse", "sft-small", folder=tmp_path)
    assert result.code == 2
    assert "✗ training file" in result.err
    assert left(tmp_path) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_rehearsal_ends_with_its_viewer(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any], number: int
) -> None:
    viewer = start(tmp_path, tiny_settings, PYTHONPATH=str(without_end(tmp_path_factory)))
    try:
        until(lambda: bool(list(tmp_path.glob(f"{FOLDER}*/logs/*/processes.json"))))
        started = psutil.Process(viewer.pid).children(recursive=True)
        viewer.send_signal(number)
        assert viewer.wait(60) != 0
        psutil.wait_procs(started, 30)
        assert not [process for process in started if process.is_running()]
        assert left(tmp_path) <= {"logs"}
    finally:
        viewer.kill()
        viewer.wait()
        end_runs(tmp_path)


@pytest.mark.slow
def test_leftovers_of_a_killed_viewer_are_removed_by_the_next(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    viewer = start(tmp_path, tiny_settings)
    try:
        until(lambda: bool(list(tmp_path.glob(f"{FOLDER}*/logs/*/processes.json"))))
        viewer.kill()
        viewer.wait()
        end_runs(tmp_path)
        assert len(list(tmp_path.glob(f"{FOLDER}*"))) == 1
        result = run(*SFT_TUI, "rehearse", "sft-small", *options(tiny_settings), folder=tmp_path)
        assert result.code == 0, result.err
        assert left(tmp_path) == {"logs"}
    finally:
        end_runs(tmp_path)


def without_end(made: pytest.TempPathFactory) -> Path:
    """A folder of modules with which a rehearsal lasts until it is ended."""
    folder = made.mktemp("modules")
    (folder / "sitecustomize.py").write_text(
        "import sys, time\nif 'engine.rehearse' in sys.orig_argv:\n    time.sleep(600)\n"
    )
    return folder


def start(folder: Path, settings: dict[str, Any], **variables: str) -> "subprocess.Popen[bytes]":
    command = [*SFT_TUI, "rehearse", "sft-small", *options(settings)]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", **variables}
    with (folder / ".stdout").open("wb") as out:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
